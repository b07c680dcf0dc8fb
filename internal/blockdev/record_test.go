package blockdev

import (
	"bufio"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recorded lays out a tree that testdata/record.sh wrote, and more lines of
// the same kind.
func recorded(t *testing.T, name string, more ...string) System {
	t.Helper()
	root := t.TempDir()
	s := System{Sys: filepath.Join(root, "sys"), Proc: filepath.Join(root, "proc"), Dev: filepath.Join(root, "dev")}
	text, err := os.ReadFile(filepath.Join("testdata", name+".sysfs"))
	if err != nil {
		t.Fatal(err)
	}
	proc := map[string]string{"self/mountinfo": "", "swaps": ""}
	sc := bufio.NewScanner(strings.NewReader(string(text) + strings.Join(more, "\n")))
	for sc.Scan() {
		f := strings.SplitN(sc.Text(), " ", 3)
		if len(f) < 2 {
			continue
		}
		value := ""
		if len(f) == 3 {
			value = f[2]
		}
		at := filepath.Join(s.Sys, f[1])
		switch f[0] {
		case "d":
			err = os.MkdirAll(at, 0o755)
		case "l":
			_ = os.Remove(at)
			err = first(os.MkdirAll(filepath.Dir(at), 0o755), func() error { return os.Symlink(value, at) })
		case "f", "x":
			data := []byte(value + "\n")
			if f[0] == "x" {
				if data, err = hex.DecodeString(value); err != nil {
					t.Fatalf("%s: %v", f[1], err)
				}
			}
			err = first(os.MkdirAll(filepath.Dir(at), 0o755), func() error { return os.WriteFile(at, data, 0o644) })
		case "p":
			proc[f[1]] += value + "\n"
		case "rm":
			err = os.RemoveAll(at)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for n, text := range proc {
		at := filepath.Join(s.Proc, n)
		if err := first(os.MkdirAll(filepath.Dir(at), 0o755), func() error { return os.WriteFile(at, []byte(text), 0o644) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(s.Dev, 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

func first(err error, then func() error) error {
	if err != nil {
		return err
	}
	return then()
}

func scan(t *testing.T, s System) *View {
	t.Helper()
	v, err := s.Scan()
	if err != nil {
		t.Fatal(err)
	}
	return v
}
