//go:build kernel && deep

package kernel

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"lifeboat/builder"
	"lifeboat/drill"
	"lifeboat/drill/qemu"
	"lifeboat/images/usb"
	"lifeboat/internal/config"
	"lifeboat/report"
)

// visitor is OpenSSH's client outside of the guest.
type visitor struct {
	t    *testing.T
	dir  string
	port int
}

// newVisitor makes a key that is let in, and one that is not.
func newVisitor(t *testing.T) *visitor {
	t.Helper()
	v := &visitor{t: t, dir: t.TempDir()}
	for _, k := range []string{"key", "other"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "anna", "-f", filepath.Join(v.dir, k)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen (package openssh-client): %v: %s", err, out)
		}
	}
	// Where no password can be typed, the client asks this program.
	if err := os.WriteFile(filepath.Join(v.dir, "askpass"), []byte("#!/bin/sh\necho lab\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	v.port = l.Addr().(*net.TCPAddr).Port
	return v
}

// ssh runs the client. The options come before those that every call has.
func (v *visitor) ssh(options []string, command string) (string, int) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), patience)
	defer cancel()
	args := append([]string{"-F", "/dev/null", "-p", strconv.Itoa(v.port), "-o", "LogLevel=ERROR", "-o", "IdentityAgent=none", "-o", "ConnectTimeout=60",
		"-o", "StrictHostKeyChecking=accept-new", "-o", "UserKnownHostsFile=" + filepath.Join(v.dir, "known")}, options...)
	c := exec.CommandContext(ctx, "ssh", append(args, "root@127.0.0.1", command)...)
	c.Env = append(os.Environ(), "SSH_ASKPASS="+filepath.Join(v.dir, "askpass"), "SSH_ASKPASS_REQUIRE=force")
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		v.t.Fatalf("ssh: %v: %s", err, out)
	}
	return string(out), c.ProcessState.ExitCode()
}

func (v *visitor) key(name string) []string {
	return []string{"-i", filepath.Join(v.dir, name), "-o", "IdentitiesOnly=yes", "-o", "PreferredAuthentications=publickey"}
}

// in runs a command in the guest, which must succeed.
func (v *visitor) in(command string) string {
	v.t.Helper()
	out, code := v.ssh(v.key("key"), command)
	if code != 0 {
		v.t.Fatalf("over SSH: %s\nexit status %d:\n%s", command, code, out)
	}
	return out
}

// again runs a command until its output is another one than before: what was
// killed is started again within seconds.
func (v *visitor) again(command, before string) string {
	v.t.Helper()
	end := time.Now().Add(patience)
	for {
		out, code := v.ssh(v.key("key"), command)
		if code == 0 && strings.TrimSpace(out) != "" && out != before {
			return out
		}
		if time.Now().After(end) {
			v.t.Fatalf("over SSH: %s still gives %q, exit status %d", command, out, code)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// TestSSH lets OpenSSH's client into the rescue system that the builder made,
// after its recovery was refused, and again after its worker and the SSH server
// themselves were killed; whoever has no key stays outside.
func TestSSH(t *testing.T) {
	v := newVisitor(t)
	vm, seen := visited(t, v)
	who := v.in("id -un; lifeboat status; test -e /etc/ssh || echo no sshd of the host")
	for _, want := range []string{"root\n", "SSH: log in at root@10.0.2.15", "was refused (exit code 4)", "no sshd of the host"} {
		if !strings.Contains(who, want) {
			t.Errorf("no %q in\n%s", want, who)
		}
	}
	// The client holds the key that the consoles show.
	fp, err := exec.Command("ssh-keygen", "-l", "-f", filepath.Join(v.dir, "known")).CombinedOutput()
	if err != nil || !strings.Contains(string(fp), seen) {
		t.Errorf("ssh-keygen sees %s, the console shows %s (%v)", fp, seen, err)
	}
	for _, c := range []struct {
		name    string
		options []string
	}{
		{"another key", v.key("other")},
		{"a password", []string{"-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=password,keyboard-interactive", "-o", "NumberOfPasswordPrompts=1"}},
	} {
		if out, code := v.ssh(c.options, "id"); code != 255 || !strings.Contains(out, "Permission denied (publickey)") {
			t.Errorf("%s: exit status %d\n%s", c.name, code, out)
		}
	}
	pid := func(verb string) string {
		return "pgrep -fx '/usr/bin/lifeboat " + verb + "' || for p in /proc/[0-9]*; do [ \"$(tr '\\0' ' ' <$p/cmdline)\" = '/usr/bin/lifeboat " + verb + " ' ] && echo ${p#/proc/}; done; true"
	}
	for _, verb := range []string{"worker", "ssh"} {
		before := v.in(pid(verb))
		if _, err := strconv.Atoi(strings.TrimSpace(before)); err != nil {
			t.Fatalf("%s: process %q", verb, before)
		}
		v.ssh(v.key("key"), "kill -9 "+strings.TrimSpace(before)) // the connection may go with it
		v.again(pid(verb), before)
		v.in("lifeboat status")
	}
	// The same key as before, or the client would have refused.
	if strings.Contains(vm.Console().Text(), "Kernel panic") {
		t.Error("the kernel panicked")
	}
}

// visited boots the rescue system of a host that is not in the machine, and
// waits until the recovery is refused and both consoles show the fingerprint,
// which it returns.
func visited(t *testing.T, v *visitor) (*Machine, string) {
	t.Helper()
	image, _ := kernelImage(t)
	c := config.Default()
	c.OutputDir, c.Output, c.Backup.URL, c.Recover.Mode = t.TempDir(), []string{"usb"}, "usb:", "auto"
	c.SSH.AuthorizedKeys = filepath.Join(v.dir, "key.pub")
	version := strings.TrimPrefix(image, "/boot/vmlinuz-")
	m := lostHost(version)
	r, err := builder.Rescue(t.Context(), builder.Options{Manifest: m, Config: c, Kernel: version,
		Archives: []usb.Archive{{Name: "packed/20260501T030000Z.lba", Path: smallArchive(t, m)}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Problems {
		if p.Object == "ssh.authorized_keys" {
			t.Errorf("the build says: %s", p.Line())
		}
	}
	stick := r.Media[0].Path
	vm := boot(t, setup{name: "ssh", segments: [][]byte{initrdOf(t, stick)}, memory: 2 << 30, noConsole: true,
		drives: []qemu.Drive{{File: stick, Interface: qemu.USB, Removable: true, Serial: "MINE"}},
		nics:   []qemu.NIC{{Forwards: []qemu.Forward{{HostPort: v.port, GuestPort: 22}}}},
		append: "console=ttyS1 console=ttyS0 quiet lifeboat.recover=auto lifeboat.then=stay",
		ports:  []qemu.Port{{Name: drill.PortEvents}, {Name: "second", Serial: true}}})
	vm.expect(vm.Port(drill.PortEvents), 0, `(?m)^(\{.*"kind":"`+string(report.Done)+`".*\})$`)
	const login = `(?i)log in at root@10\.0\.2\.15.*\(host key ED25519 (SHA256:\S+)\)`
	g, _ := vm.expect(vm.Console(), 0, login)
	if h, _ := vm.expect(vm.Port("second"), 0, login); h[1] != g[1] {
		t.Errorf("the consoles show %s and %s", g[1], h[1])
	}
	if !regexp.MustCompile(`^SHA256:[A-Za-z0-9+/]{43}$`).MatchString(g[1]) {
		t.Errorf("fingerprint %q", g[1])
	}
	return vm, g[1]
}
