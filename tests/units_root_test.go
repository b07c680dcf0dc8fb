//go:build root

package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnitsJudged lets systemd itself read the units. It must have nothing to
// say: an unknown key is only a warning to it, and the protection is gone.
func TestUnitsJudged(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Fatalf("install systemd: %v", err)
	}
	dir := t.TempDir()
	var services []string
	for name, text := range unitFiles(t) {
		p := filepath.Join(dir, name)
		// The program need not be installed here.
		text = strings.ReplaceAll(text, "ExecStart=lifeboat ", "ExecStart=/bin/true ")
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		services = append(services, p)
	}
	out, err := exec.Command("systemd-analyze", append([]string{"verify", "--man=no"}, services...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// The check can fail: a key that is spelled wrongly is told.
	bad := filepath.Join(dir, "lifeboat-bad.service")
	if err := os.WriteFile(bad, []byte("[Service]\nExecStart=/bin/true\nNoNewPrivilege=yes\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, _ := exec.Command("systemd-analyze", "verify", "--man=no", bad).CombinedOutput(); !strings.Contains(string(out), "NoNewPrivilege") {
		t.Errorf("a wrong key is not told: %s", out)
	}
}
