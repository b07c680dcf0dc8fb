package blockdev

import (
	"path/filepath"
	"testing"

	"lifeboat/internal/blockdev/recorded"
)

// recordedSystem lays out a tree that testdata/record.sh wrote, and more lines
// of the same kind.
func recordedSystem(t *testing.T, name string, more ...string) System {
	t.Helper()
	root := recorded.Lay(t, filepath.Join("testdata", name+".sysfs"), more...)
	return System{Sys: filepath.Join(root, "sys"), Proc: filepath.Join(root, "proc"), Dev: filepath.Join(root, "dev")}
}

func scan(t *testing.T, s System) *View {
	t.Helper()
	v, err := s.Scan()
	if err != nil {
		t.Fatal(err)
	}
	return v
}
