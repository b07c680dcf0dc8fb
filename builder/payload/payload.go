// Package payload collects what the rescue system is made of: kernel, modules,
// firmware, tools, libraries, and the few files of /etc that it needs; and
// proves that each program finds its libraries in the finished tree.
// Level 4: below builder, beside nothing; imports levels 0 to 3 only.
package payload

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// Part says to which segment of the initramfs an entry belongs. Segments are
// compressed side by side, and a later one overrides an earlier one.
type Part string

const (
	PartModules Part = "modules" // kernel modules and firmware
	PartHost    Part = "host"    // everything else
)

// Entry is one file, folder, link or device node of the rescue system.
type Entry struct {
	Path   string      // in the image, without leading slash, no link on the way
	Mode   fs.FileMode // type and permission bits
	Source string      // file on the host that holds the content; "" means Data
	Unpack bool        // Source is compressed and is packed without its compression
	Data   []byte
	Target string // of a link
	Major  uint32 // of a device node
	Minor  uint32
	Why    string // who needs it: a tool, "copy", …
	Part   Part
}

// Content is what the file holds in the image.
func (e *Entry) Content() ([]byte, error) {
	if !e.Mode.IsRegular() || e.Source == "" {
		return e.Data, nil
	}
	b, err := os.ReadFile(e.Source)
	if err != nil {
		return nil, fmt.Errorf("pack %s (needed by %s): %w", e.Path, e.Why, err)
	}
	if e.Unpack {
		if b, err = unpack(b); err != nil {
			return nil, fmt.Errorf("pack %s: %s: %w", e.Path, e.Source, err)
		}
	}
	return b, nil
}

// Digest is the hex SHA-256 of the content.
func (e *Entry) Digest() (string, error) {
	h := sha256.New()
	b, err := e.Content()
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(h, bytes.NewReader(b)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Tree is the rescue system as it will be packed.
type Tree struct {
	entries map[string]*Entry
}

// NewTree makes an empty tree.
func NewTree() *Tree { return &Tree{entries: map[string]*Entry{}} }

// Entries are all entries sorted by path, so that folders stand before what
// they hold and equal input gives an equal image.
func (t *Tree) Entries() []*Entry {
	out := make([]*Entry, 0, len(t.entries))
	for _, e := range t.entries {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *Entry) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// Get finds an entry by its path, without following a link at its end.
func (t *Tree) Get(p string) *Entry {
	c, err := t.place(p)
	if err != nil {
		return nil
	}
	return t.entries[c]
}

// Has tells whether something lies at a path, links followed.
func (t *Tree) Has(p string) bool { return t.Resolve(p) != nil }

// Resolve follows links to the entry that a path leads to, or nil.
func (t *Tree) Resolve(p string) *Entry {
	for range maxLinks {
		c, err := t.place(p)
		if err != nil {
			return nil
		}
		e := t.entries[c]
		if e == nil || e.Mode.Type() != fs.ModeSymlink {
			return e
		}
		p = absTarget(c, e.Target)
	}
	return nil
}

// maxLinks is the kernel's own limit for links in one path.
const maxLinks = 40

func absTarget(link, target string) string {
	if path.IsAbs(target) {
		return target
	}
	return path.Join("/", path.Dir(link), target)
}

// place is where a path lies in the tree once the links of its folders are
// followed: /sbin/x is usr/sbin/x where sbin is a link.
func (t *Tree) place(p string) (string, error) {
	todo := strings.Split(strings.Trim(path.Clean("/"+p), "/"), "/")
	cur, hops := "", 0
	for len(todo) > 1 {
		next := path.Join(cur, todo[0])
		todo = todo[1:]
		e := t.entries[next]
		switch {
		case e == nil || e.Mode.IsDir():
			cur = next
		case e.Mode.Type() == fs.ModeSymlink:
			if hops++; hops > maxLinks {
				return "", fmt.Errorf("%s: too many links on the way", p)
			}
			abs := strings.Trim(absTarget(next, e.Target), "/")
			if abs == "" {
				cur = ""
				continue
			}
			cur, todo = "", append(strings.Split(abs, "/"), todo...)
		default:
			return "", fmt.Errorf("%s: %s is not a folder in the image", p, next)
		}
	}
	return path.Join(cur, todo[0]), nil
}

// Put adds an entry, with its folders, in place of one of the same path.
func (t *Tree) Put(e Entry) error {
	c, err := t.place(e.Path)
	if err != nil {
		return err
	}
	if c == "" {
		return nil // the root itself
	}
	e.Path = c
	if e.Part == "" {
		e.Part = PartHost
	}
	if old := t.entries[c]; old != nil && old.Mode.IsDir() && !e.Mode.IsDir() {
		return fmt.Errorf("image: %s is a folder and cannot become a file or link", c)
	}
	for d := path.Dir(c); d != "." && t.entries[d] == nil; d = path.Dir(d) {
		t.entries[d] = &Entry{Path: d, Mode: fs.ModeDir | 0o755, Part: PartHost, Why: e.Why}
	}
	t.entries[c] = &e
	return nil
}

// Add is Put for what is not there yet.
func (t *Tree) Add(e Entry) error {
	if t.Get(e.Path) != nil {
		return nil
	}
	return t.Put(e)
}

// Dir adds a folder.
func (t *Tree) Dir(p string, perm fs.FileMode, why string) error {
	return t.Add(Entry{Path: p, Mode: fs.ModeDir | perm, Why: why})
}

// Link adds a link.
func (t *Tree) Link(p, target, why string) error {
	return t.Add(Entry{Path: p, Mode: fs.ModeSymlink | 0o777, Target: target, Why: why})
}

// File adds a file of our own making.
func (t *Tree) File(p string, perm fs.FileMode, data []byte, why string) error {
	return t.Put(Entry{Path: p, Mode: perm, Data: data, Why: why})
}
