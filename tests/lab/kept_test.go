package lab

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKeep: of each kind the newest two stay; one that is in use stays as
// well, however old, and other kinds are left alone.
func TestKeep(t *testing.T) {
	l := &Lab{Dir: t.TempDir(), log: func(string, ...any) {}}
	builds := 0
	keep := func(kind, key string) *Kept {
		t.Helper()
		k, err := l.Keep(t.Context(), kind, strings.Repeat(key, 16), func(dir string) error {
			builds++
			return os.WriteFile(filepath.Join(dir, "f"), nil, 0o600)
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(k.Dir, "f")); err != nil {
			t.Error(err)
		}
		return k
	}
	clock := time.Now().Add(-time.Hour)
	done := func(k *Kept) {
		t.Helper()
		clock = clock.Add(time.Minute)
		if err := os.Chtimes(k.Dir+".lock", clock, clock); err != nil {
			t.Fatal(err)
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	}
	there := func() string {
		t.Helper()
		var out []string
		all, _ := filepath.Glob(filepath.Join(l.Dir, "*"))
		for _, p := range all {
			if st, err := os.Stat(p); err == nil && st.IsDir() {
				b := filepath.Base(p)
				out = append(out, b[:len(b)-15])
			}
		}
		return strings.Join(out, " ")
	}
	used := keep("backup-a", "0")
	clock = clock.Add(time.Minute)
	if err := os.Chtimes(used.Dir+".lock", clock, clock); err != nil {
		t.Fatal(err)
	}
	done(keep("backup-a-b", "1"))
	done(keep("backup-a", "2"))
	done(keep("backup-a", "3"))
	done(keep("backup-a", "4"))
	if got, want := there(), "backup-a-0 backup-a-3 backup-a-4 backup-a-b-1"; got != want {
		t.Errorf("there are %s, not %s", got, want)
	}
	// Going back to the build before makes nothing anew; then it is the newest.
	done(keep("backup-a", "3"))
	if builds != 5 {
		t.Errorf("built %d times", builds)
	}
	if err := used.Close(); err != nil {
		t.Fatal(err)
	}
	done(keep("backup-a", "5"))
	if got, want := there(), "backup-a-3 backup-a-5 backup-a-b-1"; got != want {
		t.Errorf("there are %s, not %s", got, want)
	}
	bad := errors.New("bad")
	if _, err := l.Keep(t.Context(), "backup-a", strings.Repeat("6", 16), func(string) error { return bad }); err != bad {
		t.Errorf("a failed build gave %v", err)
	}
	if _, err := l.Keep(t.Context(), "backup-a", "../../etc", nil); err == nil {
		t.Error("a key with a path was taken")
	}
}
