// Package diskimg makes what lies on media and is too small for a program of
// its own: FAT images of loader files, and image files as go-diskfs writes them.
// Level 2: FAT images of loader files.
package diskimg

import (
	"bytes"
	"os"

	"github.com/diskfs/go-diskfs/backend"
)

// File stands between go-diskfs and a new image file. It leaves out zeros,
// which a new file holds anyway, and keeps errors of writing, some of which
// go-diskfs does not look at.
type File struct {
	*os.File
	Err error // the first one
}

// Sys is the file itself.
func (g *File) Sys() (*os.File, error) { return g.File, nil }

// Path is its name.
func (g *File) Path() string { return g.Name() }

// Writable returns the file: it always is.
func (g *File) Writable() (backend.WritableFile, error) { return g, nil }

// Close does nothing: the caller's file stays open.
func (g *File) Close() error { return nil }

// Sync does nothing: once at the end, by the caller, is enough.
func (g *File) Sync() error { return nil }

// WriteAt writes what is not zero.
func (g *File) WriteAt(b []byte, off int64) (int, error) {
	if len(bytes.TrimLeft(b, "\x00")) == 0 {
		return len(b), nil
	}
	n, err := g.File.WriteAt(b, off)
	if err != nil && g.Err == nil {
		g.Err = err
	}
	return n, err
}
