//go:build root

package chroot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	enterAt  = "LIFEBOAT_TEST_ENTER"
	enterCmd = "LIFEBOAT_TEST_COMMAND"
)

// TestMain is the program that people start when the variable is set.
func TestMain(m *testing.M) {
	if path := os.Getenv(enterAt); path != "" {
		var argv []string
		if c := os.Getenv(enterCmd); c != "" {
			argv = []string{"sh", "-c", c}
		}
		os.Stderr.WriteString(Shell(path, argv).Error())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func enterIn(t *testing.T, path, command, stdin string) (string, error) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), enterAt+"="+path, enterCmd+"="+command, "TERM=vt220")
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// target is a mounted system of the host's own programs.
func target(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	mount := func(source, target, typ string, flags uintptr) {
		if err := unix.Mount(source, target, typ, flags, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	}
	mount("tmpfs", dir, "tmpfs", 0)
	if err := os.Mkdir(filepath.Join(dir, "usr"), 0o755); err != nil {
		t.Fatal(err)
	}
	mount("/usr", filepath.Join(dir, "usr"), "", unix.MS_BIND)
	for _, l := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+l, filepath.Join(dir, l)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestShell: a person gets a system in which tools run, and leaves nothing
// mounted behind.
func TestShell(t *testing.T) {
	dir := target(t)
	out, err := enterIn(t, dir, "test -c /dev/null && test -d /proc/1 && test -d /sys/class/block && test -w /run && echo mark >/run/mark && echo $TERM && pwd && findmnt -n -o FSTYPE /run", "")
	if err != nil || out != "vt220\n/\ntmpfs\n" {
		t.Errorf("%v: %q", err, out)
	}
	// Without a command it is a shell of that system.
	if out, err = enterIn(t, dir, "", "echo in $(ls -d /usr/bin) at $PWD\nexit 7\n"); !strings.Contains(out, "in /usr/bin at /") || err == nil || !strings.Contains(err.Error(), "7") {
		t.Errorf("%v: %q", err, out)
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(string(info), "\n") {
		if f := strings.Fields(l); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") && f[4] != dir+"/usr" {
			t.Errorf("left mounted: %s", f[4])
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "run/mark")); err == nil {
		t.Error("what a program wrote to /run lies in the restored system")
	}
	if out, err = enterIn(t, dir, "", ""); strings.Contains(out, "no restored system") {
		t.Errorf("%v %s", err, out)
	}
}

// TestShellNowhere: what is not mounted is not entered, and the text says so.
func TestShellNowhere(t *testing.T) {
	out, err := enterIn(t, t.TempDir(), "true", "")
	if err == nil || !strings.Contains(out, "no restored system is mounted at") {
		t.Errorf("%v: %s", err, out)
	}
}
