//go:build root

package sshd

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"lifeboat/internal/authkeys"
)

// lab is a server with one key, and OpenSSH's own client.
type lab struct {
	t    *testing.T
	dir  string
	port string
	fp   string

	mu  sync.Mutex
	log strings.Builder
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir()}
	for _, k := range []string{"key", "other"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "anna", "-f", filepath.Join(l.dir, k)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen (package openssh-client): %v: %s", err, out)
		}
	}
	pub, err := os.ReadFile(filepath.Join(l.dir, "key.pub"))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := authkeys.Parse("key.pub", pub)
	if err != nil {
		t.Fatal(err)
	}
	host, err := HostKey(filepath.Join(l.dir, "hostkey"))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, l.port, _ = net.SplitHostPort(ln.Addr().String())
	l.fp = Fingerprint(host)
	s := &Server{Host: host, Keys: keys, Shell: []string{"/bin/bash"}, Log: func(f string, a ...any) {
		l.mu.Lock()
		defer l.mu.Unlock()
		fmt.Fprintf(&l.log, f+"\n", a...)
	}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ctx, ln) }()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

func (l *lab) text() string { l.mu.Lock(); defer l.mu.Unlock(); return l.log.String() }

func (l *lab) options(key string) []string {
	return []string{"-F", "/dev/null", "-i", filepath.Join(l.dir, key), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=accept-new", "-o", "UserKnownHostsFile=" + filepath.Join(l.dir, "known")}
}

func (l *lab) ssh(key, user, stdin string, args ...string) (string, int) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 60*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, "ssh", append(append(l.options(key), "-p", l.port), append(args[:0:0], append([]string{user + "@127.0.0.1"}, args...)...)...)...)
	c.Stdin = strings.NewReader(stdin)
	out, err := c.CombinedOutput()
	if ctx.Err() != nil {
		l.t.Fatalf("ssh %v does not end: %s", args, out)
	}
	if c.ProcessState == nil {
		l.t.Fatal(err)
	}
	return string(out), c.ProcessState.ExitCode()
}

func TestOpenSSHClient(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		name, stdin string
		args        []string
		want        string
		code        int
	}{
		{"exec with a status", "", []string{"echo out; echo err >&2; exit 7"}, "out\nerr\n", 7},
		{"input goes through and ends", "one\ntwo\n", []string{"wc -l; id -un"}, "2\nroot\n", 0},
		{"no terminal unless asked for", "", []string{"tty; echo $TERM."}, "not a tty\ndumb.\n", 0},
		{"nothing of the host's environment", "", []string{"echo $PATH; echo ${SSH_CONNECTION%% *}"}, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n127.0.0.1\n", 0},
		{"ended by a signal", "", []string{"kill -TERM $$"}, "", 255},
		{"much output", "", []string{"head -c 5000000 /dev/zero | sha256sum; head -c 3000000 /dev/zero | tr '\\0' x | wc -c"}, "", 0},
	} {
		out, code := l.ssh("key", "root", c.stdin, c.args...)
		if c.name == "much output" {
			c.want = out
			if !strings.HasSuffix(out, "3000000\n") {
				t.Errorf("%s: %q", c.name, out)
			}
		}
		out = strings.TrimPrefix(out, "Warning: Permanently added '[127.0.0.1]:"+l.port+"' (ED25519) to the list of known hosts.\r\n")
		if code != c.code || out != c.want {
			t.Errorf("%s: status %d, %q; want %d, %q", c.name, code, out, c.code, c.want)
		}
	}
	fp, err := exec.Command("ssh-keygen", "-l", "-f", filepath.Join(l.dir, "known")).Output()
	if err != nil || !strings.Contains(string(fp), strings.TrimPrefix(l.fp, "ED25519 ")) {
		t.Errorf("ssh-keygen shows %s, the server %s (%v)", fp, l.fp, err)
	}
	if !strings.Contains(l.text(), "logged in with the key SHA256:") || !strings.Contains(l.text(), "(anna)") {
		t.Errorf("the log: %s", l.text())
	}
}

// A terminal with a size, and a shell that ends with its own status.
func TestTerminal(t *testing.T) {
	l := newLab(t)
	out, code := l.ssh("key", "root", "stty size; tty; echo $- $0; sleep 4321 & echo left=$!; exit 5\n", "-tt")
	// A program that was left behind holds the terminal, not the connection.
	if m := regexp.MustCompile(`left=(\d+)`).FindStringSubmatch(out); m != nil {
		exec.Command("kill", m[1]).Run()
	}
	if code != 5 || !strings.Contains(out, "/dev/pts/") || !strings.Contains(out, "0 0") && !strings.Contains(out, "24 80") {
		t.Errorf("status %d: %q", code, out)
	}
	c := exec.Command("script", "-qec", "stty rows 31 cols 97; ssh "+strings.Join(l.options("key"), " ")+" -p "+l.port+" -tt root@127.0.0.1 'stty size'", "/dev/null")
	b, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(b), "31 97") {
		t.Errorf("size: %v: %q", err, b)
	}
}

// The client goes without a word: what ran without a terminal ends with it.
func TestClientGone(t *testing.T) {
	l := newLab(t)
	mark := filepath.Join(l.dir, "pid")
	c := exec.Command("ssh", append(l.options("key"), "-p", l.port, "root@127.0.0.1", "echo $$ > "+mark+"; exec sleep 4322")...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(60 * time.Second)
	wait := func(what string, f func() bool) {
		t.Helper()
		for !f() {
			if time.Now().After(end) {
				t.Fatal(what)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	pid := ""
	wait("the program does not start", func() bool { b, _ := os.ReadFile(mark); pid = strings.TrimSpace(string(b)); return pid != "" })
	c.Process.Kill()
	c.Wait()
	wait("the program stays", func() bool { _, err := os.Stat("/proc/" + pid + "/fd/0"); return err != nil })
}

func TestRefused(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		name, key, user string
		args            []string
		want            string
	}{
		{"a key that nobody named", "other", "root", []string{"true"}, "Permission denied (publickey)"},
		{"another user", "key", "bert", []string{"true"}, "Permission denied (publickey)"},
	} {
		if out, code := l.ssh(c.key, c.user, "", c.args...); code != 255 || !strings.Contains(out, c.want) {
			t.Errorf("%s: status %d, %s", c.name, code, out)
		}
	}
	// No way through this machine into another network.
	c := exec.Command("ssh", append(l.options("key"), "-p", l.port, "-W", "127.0.0.1:"+l.port, "root@127.0.0.1")...)
	if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), "forwarding failed") && !strings.Contains(string(out), "open failed") {
		t.Errorf("forwarding: %v %s", err, out)
	}
	if !strings.Contains(l.text(), "did not log in") {
		t.Errorf("the log: %s", l.text())
	}
}

func TestFiles(t *testing.T) {
	l := newLab(t)
	from, to, back := filepath.Join(l.dir, "from"), filepath.Join(l.dir, "to"), filepath.Join(l.dir, "back")
	data := strings.Repeat("bytes\x00\n", 300000)
	if err := os.WriteFile(from, []byte(data), 0o640); err != nil {
		t.Fatal(err)
	}
	scp := func(a ...string) {
		t.Helper()
		if out, err := exec.Command("scp", append(append(l.options("key"), "-q", "-p", "-P", l.port), a...)...).CombinedOutput(); err != nil {
			t.Fatalf("scp %v: %v: %s", a, err, out)
		}
	}
	scp(from, "root@127.0.0.1:"+to)
	scp("root@127.0.0.1:"+to, back)
	got, err := os.ReadFile(back)
	if err != nil || string(got) != data {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	if st, err := os.Stat(to); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v %v", st, err)
	}
}
