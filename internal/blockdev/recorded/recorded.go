// Package recorded lays out trees of sysfs and procfs that were recorded on
// real machines, for tests.
// Level 0.5: for tests only.
package recorded

import (
	"bufio"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Lay lays out a recording (see internal/blockdev/testdata/record.sh) and
// more lines of the same kind in a new folder with sys, proc and dev. A line
// "rm PATH" takes something away again.
func Lay(t testing.TB, file string, more ...string) (root string) {
	t.Helper()
	root = t.TempDir()
	sys, proc := filepath.Join(root, "sys"), map[string]string{"self/mountinfo": "", "swaps": "", "filesystems": "nodev\tproc\nnodev\tsysfs\nnodev\ttmpfs\nnodev\tdevtmpfs\n\text4\n", "meminfo": "MemTotal: 1048576 kB\n"}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sc := bufio.NewScanner(strings.NewReader(string(text) + "\n" + strings.Join(more, "\n")))
	for sc.Scan() {
		f := strings.SplitN(sc.Text(), " ", 3)
		if len(f) < 2 {
			continue
		}
		value := ""
		if len(f) == 3 {
			value = f[2]
		}
		if f[0] == "p" {
			proc[f[1]] += value + "\n"
			continue
		}
		if err := lay(filepath.Join(sys, f[1]), f[0], value); err != nil {
			t.Fatalf("%s: %v", sc.Text(), err)
		}
	}
	for n, text := range proc {
		if err := lay(filepath.Join(root, "proc", n), "f", strings.TrimSuffix(text, "\n")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	return root
}

func lay(at, kind, value string) error {
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	switch kind {
	case "d":
		return os.MkdirAll(at, 0o755)
	case "l":
		_ = os.Remove(at)
		return os.Symlink(value, at)
	case "f":
		return os.WriteFile(at, []byte(value+"\n"), 0o644)
	case "x":
		data, err := hex.DecodeString(value)
		if err != nil {
			return err
		}
		return os.WriteFile(at, data, 0o644)
	case "rm":
		return os.RemoveAll(at)
	}
	return nil
}
