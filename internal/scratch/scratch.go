// Package scratch makes folders and files that are of use to one run only, and
// removes what killed runs left of theirs: a lock tells them from living ones.
// Level 1: scratch of killed runs.
package scratch

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Dir makes a private folder in dir whose name begins with prefix. Folders of
// that prefix that no living run holds are removed first. done removes it; it
// may be called more than once.
func Dir(dir, prefix string) (path string, done func() error, err error) {
	each(dir, func(name string) bool { return strings.HasPrefix(name, prefix) }, true, 0)
	for {
		path, err := os.MkdirTemp(dir, prefix)
		if err != nil {
			return "", nil, err
		}
		f, err := os.Open(path)
		if os.IsNotExist(err) {
			continue // another run took it for an abandoned one
		}
		if err != nil {
			os.Remove(path)
			return "", nil, err
		}
		if !Hold(f) {
			f.Close()
			continue
		}
		return path, func() error { defer f.Close(); return os.RemoveAll(path) }, nil
	}
}

// Hold marks an open file or folder as in use until it is closed, which the
// end of the process does as well. False: another run is just removing it, or
// has done so, and a new one is to be made. A filesystem that knows no locks
// holds nothing, and nothing is ever removed there.
func Hold(f *os.File) bool {
	switch err := lock(f); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return false
	case err != nil:
		return true
	}
	at, err := os.Lstat(f.Name())
	is, err2 := f.Stat()
	return err == nil && err2 == nil && os.SameFile(at, is)
}

func lock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EINTR {
			return err
		}
	}
}

// Sweep removes the files of dir that match the pattern (as filepath.Match),
// that nobody holds and that were not written to for idle: locks of some
// network filesystems are not seen by other machines. What cannot be removed
// stays: it is in nobody's way but for its room.
func Sweep(dir, pattern string, idle time.Duration) {
	each(dir, func(name string) bool { ok, _ := filepath.Match(pattern, name); return ok }, false, idle)
}

func each(dir string, match func(string) bool, dirs bool, idle time.Duration) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // making the new one says so
	}
	for _, e := range entries {
		if match(e.Name()) && e.IsDir() == dirs && (dirs || e.Type().IsRegular()) {
			abandoned(filepath.Join(dir, e.Name()), dirs, idle)
		}
	}
}

// abandoned removes path if nobody holds it. It is held while it is removed,
// so that a run which has just made it knows.
func abandoned(path string, dir bool, idle time.Duration) {
	flags := unix.O_RDWR // a lock over NFS needs the right to write
	if dir {
		flags = unix.O_RDONLY | unix.O_DIRECTORY
	}
	f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && time.Since(st.ModTime()) >= idle && lock(f) == nil {
		_ = os.RemoveAll(path)
	}
}
