//go:build machines

package machines

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/internal/run"
)

// hostKernel is the newest kernel in /boot that is readable: guests of the
// small tests run it.
func hostKernel(t *testing.T) (path, version string) {
	t.Helper()
	found, err := filepath.Glob("/boot/vmlinuz-*")
	if err != nil || len(found) == 0 {
		t.Fatal("no kernel in /boot: install the package linux-image-amd64")
	}
	path = found[len(found)-1]
	return path, strings.TrimPrefix(path, "/boot/vmlinuz-")
}

// miniInitrd is a rescue system for tests of what comes before Lifeboat's own:
// busybox, the named modules, and an init that loads them, writes
// "MINI-UP" and the kernel command line to every console, and goes on with
// the script given. It owes nothing to Lifeboat's own code.
func miniInitrd(t *testing.T, script string, modules ...string) string {
	t.Helper()
	_, version := hostKernel(t)
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for _, d := range []string{"bin", "dev", "proc", "sys", "run", "mnt", "modules"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("busybox is missing: install the package busybox-static: %v", err)
	}
	write(t, filepath.Join(root, "bin/busybox"), busybox, 0o755)
	var load strings.Builder
	seen := map[string]bool{}
	for _, m := range modules {
		out := tool(t, "modprobe", "-S", version, "--show-depends", "--ignore-install", m)
		for _, l := range strings.Split(strings.TrimSpace(out), "\n") {
			f := strings.Fields(l)
			if len(f) < 2 || f[0] != "insmod" || seen[f[1]] {
				continue // "builtin NAME" needs nothing
			}
			seen[f[1]] = true
			b, err := os.ReadFile(f[1])
			if err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprintf("/modules/%03d-%s", len(seen), filepath.Base(f[1]))
			write(t, filepath.Join(root, name), b, 0o644)
			fmt.Fprintf(&load, "insmod %s\n", name)
		}
	}
	init := `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
` + load.String() + `
say() { for c in $(cat /sys/class/tty/console/active); do echo "$@" > /dev/$c; done; }
say "MINI-UP $(uname -r)"
say "CMDLINE $(cat /proc/cmdline)"
` + script + `
while :; do sleep 3600; done
`
	write(t, filepath.Join(root, "init"), []byte(init), 0o755)
	out := filepath.Join(dir, "initrd.img")
	tool(t, "sh", "-ec", "cd "+root+" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet | zstd -q -3 -o "+out)
	return out
}

func write(t *testing.T, path string, b []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, b, mode); err != nil {
		t.Fatal(err)
	}
}

// tool runs a program of the host and returns what it wrote.
func tool(t *testing.T, path string, args ...string) string {
	t.Helper()
	res, err := run.Exec{}.Run(t.Context(), run.Cmd{Path: path, Args: args, Env: run.HostEnv})
	if err != nil {
		t.Fatal(err)
	}
	return string(res.Stdout)
}

// pictures is where screenshots and console logs of failed and passed runs are
// kept: LIFEBOAT_TEST_OUT, or a folder that goes with the test.
func pictures(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("LIFEBOAT_TEST_OUT")
	if dir == "" {
		return t.TempDir()
	}
	dir = filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
