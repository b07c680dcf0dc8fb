// Package restore brings the files of a backup into the mounted target and
// makes what no backup holds: mount points and standard directories.
// Level 4.
package restore

import (
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"

	"lifeboat/internal/sysroot"
	"lifeboat/manifest"
)

// Points makes every standard directory, link and mount point that the
// restored tree lacks, with owner, mode and attributes as captured
// (plan.VerbPoints). What exists is left alone, but for the tops of mounts
// whose files are not in the backup. It returns what it made.
func Points(root string, m *manifest.Manifest, target *manifest.Storage) (made []string, err error) {
	fs, err := sysroot.Open(root)
	if err != nil {
		return nil, fmt.Errorf("make standard directories: %w", err)
	}
	defer fs.Close()
	dirs := append([]manifest.Dir(nil), m.Dirs...)
	for _, mt := range m.Storage.Mounts {
		if mt.Path != "none" && mt.Path != "/" {
			dirs = append(dirs, manifest.Dir{Path: mt.Path, Inode: mt.Point})
		}
	}
	for _, l := range m.LeftOut {
		if !belowAnother(l.Path, m.LeftOut) {
			dirs = append(dirs, manifest.Dir{Path: l.Path, Inode: manifest.Inode{Type: "dir", Mode: "0755"}})
		}
	}
	sort.SliceStable(dirs, func(i, j int) bool { return dirs[i].Path < dirs[j].Path })
	for _, d := range dirs {
		ok, err := point(fs, d)
		if err != nil {
			return made, err
		}
		if ok {
			made = append(made, string(d.Path))
		}
	}
	for _, mt := range target.Mounts {
		if mt.Backup == manifest.ScopeNone && mt.Path != "none" {
			if err := fs.Dress(string(mt.Path), mt.Top); err != nil {
				return made, err
			}
		}
	}
	return made, nil
}

// belowAnother tells whether a mount that was left out lies on another one,
// as /dev/pts does: its mount point is not on any disk.
func belowAnother(p manifest.Bytes, all []manifest.LeftOut) bool {
	for _, l := range all {
		if l.Path != p && strings.HasPrefix(string(p), string(l.Path)+"/") {
			return true
		}
	}
	return false
}

// point makes one entry unless something stands there already.
func point(fs *sysroot.Root, d manifest.Dir) (bool, error) {
	name := string(d.Path)
	if _, err := fs.Lstat(name); err == nil {
		return false, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("look at %s: %w", d.Path, err)
	}
	switch d.Inode.Type {
	case "link":
		if err := fs.Symlink(string(d.Inode.Target), name); err != nil {
			return false, fmt.Errorf("make the link %s: %w", d.Path, err)
		}
		return true, nil
	case "dir", "":
		if err := fs.MkdirAll(name, 0o755); err != nil {
			return false, fmt.Errorf("make the directory %s: %w", d.Path, err)
		}
		return true, fs.Dress(name, d.Inode)
	}
	return false, nil // a file that is bind-mounted over: the backup holds it
}
