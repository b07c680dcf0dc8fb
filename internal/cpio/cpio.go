// Package cpio writes, lists and reads initramfs images: concatenated segments
// of newc archives, each with its own compression (builder, inspect, adapt,
// pxe).
// Level 1: imports level 0 only.
package cpio

import (
	"path"
	"strings"
)

// File type bits of a mode, as in stat(2).
const (
	TypeMask   = 0o170000
	TypeSocket = 0o140000
	TypeLink   = 0o120000
	TypeFile   = 0o100000
	TypeBlock  = 0o060000
	TypeDir    = 0o040000
	TypeChar   = 0o020000
	TypeFifo   = 0o010000
)

// Entry is one file of an archive.
type Entry struct {
	Name           string // as a path without leading slash
	Mode           uint32 // type and permission bits, as in stat(2)
	UID, GID       uint32
	MTime          int64 // seconds since 1970
	Size           int64 // bytes of data; a link's is its target
	Link           string
	Major, Minor   uint32 // of a device node
	Segment        int    // number of the segment it was read from
	Ino, NLink     uint32 // as read; the writer counts its own
	DevMaj, DevMin uint32 // device that held it, as read
}

// Type is the file type bits of the mode.
func (e Entry) Type() uint32 { return e.Mode & TypeMask }

// Regular tells whether it is a file with data.
func (e Entry) Regular() bool { return e.Type() == TypeFile }

// magicNew begins every header; the second form carries checksums of data,
// which the kernel ignores as we do.
const (
	magicNew = "070701"
	magicCRC = "070702"
	trailer  = "TRAILER!!!"
	headLen  = 110
	maxName  = 4096 // PATH_MAX: the kernel skips what is longer
)

// Clean makes the name of an archive entry a relative path: "./usr//bin/" and
// "/usr/bin" become "usr/bin". The root itself is ".".
func Clean(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}
