//go:build root

package payload

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"lifeboat/internal/run"
)

// TestXzOfHost: files packed by the host's xz come back byte for byte, in
// batches that mix large and small ones.
func TestXzOfHost(t *testing.T) {
	dir := t.TempDir()
	want := map[string][]byte{}
	var files []string
	for i, n := range []int{0, 1, 4096, 9 << 20, 100, 9 << 20, 17 << 20, 5} {
		p := filepath.Join(dir, string(rune('a'+i))+" m.ko")
		b := bytes.Repeat([]byte{byte(i + 1), 7, byte(i)}, n/3+1)[:n]
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("xz", "--check=crc32", p).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		want[p+".xz"], files = b, append(files, p+".xz")
	}
	got := unpackXz(t.Context(), run.Exec{}, files)
	for _, f := range files {
		if !bytes.Equal(got[f], want[f]) {
			t.Errorf("%s: %d bytes, want %d", f, len(got[f]), len(want[f]))
		}
	}
}
