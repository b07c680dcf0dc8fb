//go:build root

package swap

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/internal/run"
	"lifeboat/manifest"
)

// A swap area is made over a filesystem and judged by blkid and swaplabel.
func TestMakeJudged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "swap")
	if err := os.WriteFile(file, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mke2fs", "-q", "-F", file).CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	ctx := context.Background()
	want := manifest.Swap{UUID: "5c3c6b2e-7a52-4f0e-9b5c-000000000002", Label: "SWAP-a", PageSize: 4096}
	if err := Make(ctx, run.Exec{Log: t.Logf}, file, &want); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{{"blkid", "-p", "-o", "export", file}, {"swaplabel", file}} {
		out, err := exec.Command(c[0], c[1:]...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want.UUID) || !strings.Contains(string(out), want.Label) {
			t.Errorf("%v: %v\n%s", c, err, out)
		}
		if strings.Contains(string(out), "ext") {
			t.Errorf("%v: the filesystem is still seen:\n%s", c, out)
		}
	}
	if got, err := Read(ctx, nil, file); err != nil || *got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if n, err := Bytes(file); err != nil || n != 4<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
}
