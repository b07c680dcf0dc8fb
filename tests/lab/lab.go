// Package lab makes real Debian systems for the machine tests and judges what
// came back of them: sources built by Debian's own tools with options that are
// not defaults, an appliance with those tools, an agent inside the guests, and
// a comparison of disks.
// Tests only: uses drill/qemu and internal/run, and no other part of Lifeboat,
// so that maker and referee share no mistake with what they test.
package lab

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/internal/run"
)

// scripts are the makers in shell and Perl; they are copied out before use.
//
//go:embed scripts
var scripts embed.FS

// Suite is the Debian release of sources and appliance. LIFEBOAT_LAB_SUITE
// takes another.
const Suite = "bookworm"

// Lab holds the fixtures, which are made on demand and kept outside the tree.
type Lab struct {
	Dir string // all fixtures, each in a folder named by the hash of what it is made from

	log   func(format string, a ...any)
	base  string // folder of the Debian tree and the appliance
	tools string // folder of the scripts
	id    string // hash of the base
}

// Open finds or makes the Debian tree and the appliance. The first time this
// takes minutes; log gets a line for each part, and may be nil. It needs root.
func Open(ctx context.Context, log func(format string, a ...any)) (*Lab, error) {
	if log == nil {
		log = func(string, ...any) {}
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("make a Debian for the tests: debootstrap and loop mounts need root; run this as root")
	}
	dir, err := cacheDir()
	if err != nil {
		return nil, err
	}
	l := &Lab{Dir: dir, log: log}
	if l.id, err = l.hash("tree", suite(), "tree.sh", "appliance.sh", "init.sh", "agent.pl"); err != nil {
		return nil, err
	}
	if l.tools, err = l.unpackScripts(); err != nil {
		return nil, err
	}
	l.base, err = l.cached(ctx, "tree-"+l.id, func(out string) error {
		l.log("making a Debian %s; this is done once and takes some minutes", suite())
		return l.script(ctx, "tree.sh", nil, out, suite(), filepath.Join(l.Dir, "packages"))
	})
	if err != nil {
		return nil, fmt.Errorf("make a Debian %s for the tests: %w", suite(), err)
	}
	return l, nil
}

func suite() string {
	if s := os.Getenv("LIFEBOAT_LAB_SUITE"); s != "" {
		return s
	}
	return Suite
}

func cacheDir() (string, error) {
	d := os.Getenv("XDG_CACHE_HOME")
	if d == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			// Services such as CI may have no HOME; root's is known.
			home = "/root"
		}
		d = filepath.Join(home, ".cache")
	}
	d = filepath.Join(d, "lifeboat-tests")
	return d, os.MkdirAll(d, 0o755)
}

// hash is over words and the content of those scripts.
func (l *Lab) hash(kind, words string, files ...string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n", kind, words)
	for _, f := range files {
		b, err := scripts.ReadFile("scripts/" + f)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %x\n", f, sha256.Sum256(b))
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// unpackScripts writes all scripts into a folder named by their content.
func (l *Lab) unpackScripts() (string, error) {
	names, err := fs.Glob(scripts, "scripts/*")
	if err != nil {
		return "", err
	}
	sort.Strings(names)
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	id, err := l.hash("scripts", "", names...)
	if err != nil {
		return "", err
	}
	return l.cached(context.Background(), "scripts-"+id, func(out string) error {
		for _, n := range names {
			b, err := scripts.ReadFile("scripts/" + n)
			if err == nil {
				err = os.WriteFile(filepath.Join(out, n), b, 0o755)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// cached returns the folder name below Dir. If it is not there it is made
// under another name and renamed when complete; what a crash left half-made
// is removed. Two runs at once do not make it twice.
func (l *Lab) cached(ctx context.Context, name string, build func(out string) error) (string, error) {
	path := filepath.Join(l.Dir, name)
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := waitLock(ctx, lock); err != nil {
		return "", fmt.Errorf("wait for another run that makes %s: %w", path, err)
	}
	now := time.Now()
	if err := os.Chtimes(path+".lock", now, now); err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	part := path + ".part"
	if err := os.RemoveAll(part); err != nil {
		return "", err
	}
	if err := os.Mkdir(part, 0o755); err != nil {
		return "", err
	}
	if err := build(part); err != nil {
		os.RemoveAll(part)
		return "", err
	}
	if err := os.Rename(part, path); err != nil {
		return "", err
	}
	l.prune(path)
	return path, nil
}

// unused is how long a fixture of another version is kept.
const unused = 7 * 24 * time.Hour

// prune removes fixtures that nobody asked for in a week: each change of a
// script makes new ones, and a source has more than a GiB. The lock's time
// says when a fixture was last asked for.
func (l *Lab) prune(made string) {
	locks, err := filepath.Glob(filepath.Join(l.Dir, "*.lock"))
	if err != nil {
		return
	}
	for _, name := range locks {
		st, err := os.Stat(name)
		if err != nil || time.Since(st.ModTime()) < unused || name == made+".lock" {
			continue
		}
		l.drop(name)
	}
}

// drop removes the fixture of a lock unless somebody makes or uses it.
func (l *Lab) drop(name string) {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		os.RemoveAll(strings.TrimSuffix(name, ".lock"))
		os.RemoveAll(strings.TrimSuffix(name, ".lock") + ".part")
		os.Remove(name)
	}
}

// waitLock waits until nobody else makes or uses what the lock stands for.
func waitLock(ctx context.Context, f *os.File) error { return waitFor(ctx, f, unix.LOCK_EX) }

// waitFor polls: flock itself cannot be interrupted by a context.
func waitFor(ctx context.Context, f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// script runs one of the scripts on this machine, in a mount namespace of its
// own: whatever it mounts is gone when it ends, however it ends. What it
// prints goes to the log.
func (l *Lab) script(ctx context.Context, name string, out io.Writer, args ...string) error {
	c := run.Cmd{
		Path:   "unshare",
		Args:   append([]string{"--mount", "--propagation", "private", "/bin/bash", filepath.Join(l.tools, name)}, args...),
		Env:    append(os.Environ(), "LC_ALL=C", "PATH="+strings.TrimPrefix(run.DefaultEnv[0], "PATH=")),
		Stdout: out,
		Line:   func(s string) { l.log("%s", s) },
	}
	if out == nil {
		c.Stdout = &lineLog{log: l.log}
	}
	_, err := run.Exec{}.Run(ctx, c)
	return err
}

// lineLog logs each line that a program prints, as it comes.
type lineLog struct {
	log  func(string, ...any)
	rest string
}

func (w *lineLog) Write(p []byte) (int, error) {
	w.rest += string(p)
	for {
		line, rest, ok := strings.Cut(w.rest, "\n")
		if !ok {
			return len(p), nil
		}
		w.rest = rest
		if line != "" {
			w.log("%s", line)
		}
	}
}

// CopySparse makes an independent copy of a raw disk; holes stay holes.
func CopySparse(ctx context.Context, from, to string) error {
	_, err := run.Exec{}.Run(ctx, run.Cmd{Path: "cp", Args: []string{"--reflink=auto", "--sparse=auto", "--", from, to}})
	return err
}
