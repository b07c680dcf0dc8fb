package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Kept is a fixture that depends on the product itself, so that each build of
// it makes another one. It must be held for as long as it is used.
type Kept struct {
	Dir  string
	lock *os.File // shared: many tests may use it, and nobody removes it
}

// Close lets others remove the fixture when it is not among the newest.
func (k *Kept) Close() error { return k.lock.Close() }

// keepOfKind is how many fixtures of one kind are kept: of the build at work
// and the one before, for going back and forth.
const keepOfKind = 2

// Keep returns the fixture of a kind for a key (16 hex digits), making it if
// it is not there, and removes all but the newest two of that kind that nobody
// uses.
func (l *Lab) Keep(ctx context.Context, kind, key string, build func(dir string) error) (*Kept, error) {
	if !hexKey.MatchString(key) {
		return nil, fmt.Errorf("%q is no key of a fixture", key)
	}
	path := filepath.Join(l.Dir, kind+"-"+key)
	for {
		lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, err
		}
		if err := share(ctx, lock); err != nil {
			lock.Close()
			return nil, fmt.Errorf("wait for another run that makes %s: %w", path, err)
		}
		now := time.Now()
		if err := os.Chtimes(path+".lock", now, now); err != nil && !errors.Is(err, os.ErrNotExist) {
			lock.Close()
			return nil, err
		}
		// Whoever removed it meanwhile removed its lock as well: then ours locks
		// nothing that others see.
		if _, err := os.Stat(path); err == nil && sameFile(lock, path+".lock") {
			l.newest(kind)
			return &Kept{Dir: path, lock: lock}, nil
		}
		lock.Close()
		if _, err := l.cached(ctx, filepath.Base(path), build); err != nil {
			return nil, err
		}
	}
}

var hexKey = regexp.MustCompile(`^[0-9a-f]{16}$`)

func sameFile(f *os.File, name string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Stat(name)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// share waits for a lock that others may hold as well, but nobody who makes or
// removes the fixture.
func share(ctx context.Context, f *os.File) error { return waitFor(ctx, f, unix.LOCK_SH) }

// newest removes the fixtures of a kind that are not among the newest and not
// in use. The time of the lock says when one was last asked for.
func (l *Lab) newest(kind string) {
	locks, err := filepath.Glob(filepath.Join(l.Dir, kind+"-*.lock"))
	if err != nil {
		return
	}
	type fixture struct {
		path string
		used time.Time
	}
	var all []fixture
	for _, name := range locks {
		path := name[:len(name)-len(".lock")]
		st, err := os.Stat(name)
		if err != nil || !hexKey.MatchString(path[len(filepath.Join(l.Dir, kind))+1:]) {
			continue // another kind, whose name begins alike
		}
		all = append(all, fixture{path, st.ModTime()})
	}
	slices.SortFunc(all, func(a, b fixture) int { return b.used.Compare(a.used) })
	for i, f := range all {
		if i >= keepOfKind {
			l.drop(f.path + ".lock")
		}
	}
}
