package archive

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strconv"
	"time"
)

// typeWords name tar's types for people and programs.
var typeWords = map[byte]string{'0': "file", '1': "hardlink", '2': "symlink", '3': "char", '4': "block", '5': "dir", '6': "fifo"}

// TypeWord is the entry's type as a word: file, hardlink, symlink, char,
// block, dir, fifo; what tar has no word for is "unknown".
func (e *Entry) TypeWord() string {
	if w, ok := typeWords[e.Type]; ok {
		return w
	}
	return "unknown"
}

// String is a line like one of `ls -l --numeric-uid-gid`: names that would
// disturb a terminal are quoted.
func (e *Entry) String() string {
	const letters = "-hlcbdp"
	letter := byte('?')
	if i := int(e.Type) - '0'; i >= 0 && i < len(letters) {
		letter = letters[i]
	}
	size := strconv.FormatInt(e.Size, 10)
	if e.Type == '3' || e.Type == '4' {
		size = fmt.Sprintf("%d, %d", e.Major, e.Minor)
	}
	s := fmt.Sprintf("%c%s %5d %5d %12s %s %s", letter, permissions(e.Mode), e.UID, e.GID, size,
		time.Unix(e.Sec, e.Nsec).UTC().Format("2006-01-02 15:04:05"), printable(e.Path))
	switch e.Type {
	case '1':
		return s + " link to " + printable(e.Link)
	case '2':
		return s + " -> " + printable(e.Link)
	}
	return s
}

// permissions are the nine letters of ls, set-id and sticky in their places.
func permissions(mode uint32) string {
	b := []byte(fs.FileMode(mode & 0o777).String()[1:])
	for _, x := range []struct {
		bit    uint32
		at     int
		letter byte
	}{{0o4000, 2, 's'}, {0o2000, 5, 's'}, {0o1000, 8, 't'}} {
		switch {
		case mode&x.bit == 0:
		case b[x.at] == 'x':
			b[x.at] = x.letter
		default:
			b[x.at] = x.letter - 'a' + 'A'
		}
	}
	return string(b)
}

func printable(name string) string {
	q := strconv.Quote(name)
	if q[1:len(q)-1] == name {
		return name
	}
	return q
}

// listed is how a program reads an entry.
type listed struct {
	Path    string `json:"path"`
	Type    string `json:"type"`
	Mode    string `json:"mode"` // octal, four digits
	UID     uint32 `json:"uid"`
	GID     uint32 `json:"gid"`
	Size    int64  `json:"size"`
	Changed string `json:"mtime"` // RFC 3339 with nanoseconds, UTC
	Link    string `json:"link,omitempty"`
	Major   uint32 `json:"major,omitempty"`
	Minor   uint32 `json:"minor,omitempty"`
	Xattrs  int    `json:"xattrs,omitempty"`
	ACL     string `json:"acl,omitempty"`
	Default string `json:"default_acl,omitempty"`
	SELinux string `json:"selinux,omitempty"`
}

// MarshalJSON gives what a listing has; the extended attributes are counted
// only. Bytes of names that are not UTF-8 are replaced, as JSON demands.
func (e *Entry) MarshalJSON() ([]byte, error) {
	return json.Marshal(listed{Path: e.Path, Type: e.TypeWord(), Mode: fmt.Sprintf("%04o", e.Mode), UID: e.UID, GID: e.GID, Size: e.Size,
		Changed: time.Unix(e.Sec, e.Nsec).UTC().Format(time.RFC3339Nano), Link: e.Link, Major: e.Major, Minor: e.Minor,
		Xattrs: len(e.Xattrs), ACL: e.ACL, Default: e.DefaultACL, SELinux: e.SELinux})
}
