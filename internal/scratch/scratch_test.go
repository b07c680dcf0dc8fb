package scratch

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

// TestDir: what nobody holds goes, with all that is in it; what a living run
// holds stays, and so does what is called otherwise or is no folder.
func TestDir(t *testing.T) {
	top := t.TempDir()
	for _, d := range []string{".x-killed/deep", ".y-other"} {
		if err := os.MkdirAll(filepath.Join(top, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{".x-killed/deep/big", ".x-file"} {
		if err := os.WriteFile(filepath.Join(top, f), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(".y-other", filepath.Join(top, ".x-link")); err != nil {
		t.Fatal(err)
	}
	a, doneA, err := Dir(top, ".x-")
	if err != nil {
		t.Fatal(err)
	}
	b, doneB, err := Dir(top, ".x-")
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(a); err != nil || st.Mode().Perm() != 0o700 || a == b {
		t.Errorf("%s %s: %v", a, b, err)
	}
	if _, err := os.Stat(b); err != nil {
		t.Error(err)
	}
	if err := doneA(); err != nil {
		t.Error(err)
	}
	if err := doneB(); err != nil {
		t.Error(err)
	}
	if got := names(t, top); got != ".x-file .x-link .y-other" {
		t.Errorf("left: %s", got)
	}
}

// TestManyAtOnce: runs that begin together do not take each other's folders
// for abandoned ones.
func TestManyAtOnce(t *testing.T) {
	top := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				p, done, err := Dir(top, ".x-")
				if err == nil {
					err = os.WriteFile(filepath.Join(p, "a"), nil, 0o600)
				}
				if err == nil {
					err = done()
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := names(t, top); got != "" {
		t.Errorf("left: %s", got)
	}
}

// TestSweep: a file is left behind when nobody holds it and nobody wrote to it
// for long.
func TestSweep(t *testing.T) {
	top := t.TempDir()
	old := time.Now().Add(-2 * time.Hour)
	for _, n := range []string{".a.lba.partial-1", ".b.lba.partial-2", ".c.lba.partial-3", "d.lba"} {
		p := filepath.Join(top, n)
		if err := os.WriteFile(p, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if n != ".b.lba.partial-2" {
			if err := os.Chtimes(p, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	held, err := os.Open(filepath.Join(top, ".c.lba.partial-3"))
	if err != nil {
		t.Fatal(err)
	}
	if !Hold(held) {
		t.Fatal("not held")
	}
	Sweep(top, ".*.lba.partial-*", time.Hour)
	if got := names(t, top); got != ".b.lba.partial-2 .c.lba.partial-3 d.lba" {
		t.Errorf("left: %s", got)
	}
	held.Close()
	Sweep(top, ".*.lba.partial-*", time.Hour)
	if got := names(t, top); got != ".b.lba.partial-2 d.lba" {
		t.Errorf("left: %s", got)
	}
}
