package probe

import (
	"os"
	"path/filepath"
	"testing"

	"lifeboat/internal/sysroot"
)

// TestMarkOfOrder: a recovery that lost files is told from one that is done; a
// mark without a state is of one that is.
func TestMarkOfOrder(t *testing.T) {
	for name, c := range map[string]struct {
		mark  string
		lost  int64
		ended string
	}{
		"earlier version":  {`{"order":"o","time":"2026-11-01T00:00:00Z"}`, 0, ""},
		"done":             {`{"order":"o","state":"done","time":"2026-11-01T00:00:00Z"}`, 0, ""},
		"files lost":       {`{"order":"o","state":"failed","lost":3,"time":"2026-11-01T01:00:00+01:00"}`, 3, "2026-11-01T00:00:00Z"},
		"without a number": {`{"order":"o","state":"failed","lost":-1,"time":"2026-11-01T00:00:00Z"}`, 1, "2026-11-01T00:00:00Z"},
	} {
		root := t.TempDir()
		for file, text := range map[string]string{"etc/hostname": "alpha\n", "etc/fstab": "", "etc/lifeboat/recovered.json": c.mark} {
			at := filepath.Join(root, file)
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		fs, err := sysroot.Open(root)
		if err != nil {
			t.Fatal(err)
		}
		if m := markOf(fs); m == nil || m.Order != "o" || m.Lost != c.lost || m.Ended != c.ended {
			t.Errorf("%s: %+v", name, m)
		}
		fs.Close()
	}
}
