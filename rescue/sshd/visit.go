package sshd

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"lifeboat/internal/run"
)

// visit is one session of a person.
type visit struct {
	s    *Server
	ch   ssh.Channel
	conn *ssh.ServerConn
	env  map[string]string
	size *run.Size // of the terminal asked for; nil without one
	p    *run.Session
	busy bool
}

// Payloads of RFC 4254, section 6.
type (
	ptyRequest struct {
		Term          string
		Columns, Rows uint32
		Width, Height uint32
		Modes         string
	}
	windowChange struct{ Columns, Rows, Width, Height uint32 }
	setEnv       struct{ Name, Value string }
	oneString    struct{ Text string }
	exitStatus   struct{ Status uint32 }
	exitSignal   struct {
		Name       string
		Core       bool
		Text, Lang string
	}
)

var signals = map[string]syscall.Signal{"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "KILL": syscall.SIGKILL,
	"TERM": syscall.SIGTERM, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "ABRT": syscall.SIGABRT, "PIPE": syscall.SIGPIPE, "ALRM": syscall.SIGALRM}

// serve answers the requests of one channel.
func (v *visit) serve(ctx context.Context, in <-chan *ssh.Request) {
	defer v.s.recovered()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the client went: a program without a terminal ends
	for r := range in {
		ok := v.request(ctx, r)
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
	}
}

func (v *visit) request(ctx context.Context, r *ssh.Request) bool {
	switch r.Type {
	case "pty-req":
		var p ptyRequest
		if ssh.Unmarshal(r.Payload, &p) != nil || v.busy {
			return false
		}
		v.env["TERM"], v.size = p.Term, size(p.Rows, p.Columns)
		return true
	case "env":
		var e setEnv
		if ssh.Unmarshal(r.Payload, &e) != nil || e.Name != "LANG" && !strings.HasPrefix(e.Name, "LC_") {
			return false
		}
		v.env[e.Name] = e.Value
		return true
	case "window-change":
		var w windowChange
		if ssh.Unmarshal(r.Payload, &w) == nil && v.p != nil {
			v.p.Resize(*size(w.Rows, w.Columns))
		}
		return true
	case "signal":
		var n oneString
		sig, known := syscall.Signal(0), false
		if ssh.Unmarshal(r.Payload, &n) == nil {
			sig, known = signals[n.Text]
		}
		if known && v.p != nil {
			v.p.Signal(sig)
		}
		return known
	case "shell":
		return v.start(ctx, append(v.s.Shell[1:len(v.s.Shell):len(v.s.Shell)], "-l"))
	case "exec":
		var c oneString
		return ssh.Unmarshal(r.Payload, &c) == nil && v.start(ctx, append(v.s.Shell[1:len(v.s.Shell):len(v.s.Shell)], "-c", c.Text))
	case "subsystem":
		var n oneString
		return ssh.Unmarshal(r.Payload, &n) == nil && n.Text == "sftp" && v.sftp()
	}
	return false // no agent, no X11
}

// maxSide bounds what a client may say of its window.
const maxSide = 10000

func size(rows, columns uint32) *run.Size {
	return &run.Size{Rows: uint16(min(rows, maxSide)), Columns: uint16(min(columns, maxSide))}
}

// start runs the shell once in a session.
func (v *visit) start(ctx context.Context, args []string) bool {
	if v.busy {
		return false
	}
	v.busy = true
	c := run.Cmd{Path: v.s.Shell[0], Args: args, Dir: "/root", Env: v.environment(), Stdout: v.ch}
	p, err := v.s.Exec.Session(ctx, c, v.size, v.ch.Stderr())
	if err != nil {
		v.s.Log("ssh: %v", err)
		fmt.Fprintf(v.ch.Stderr(), "lifeboat: %v\r\n", err)
		v.busy = false
		return false
	}
	v.p = p
	go v.carry(p)
	return true
}

// carry moves bytes both ways and tells how the program ended.
func (v *visit) carry(p *run.Session) {
	defer v.s.recovered()
	out, ended := make(chan struct{}), make(chan struct{})
	if t := p.Terminal(); t != nil {
		go func() { _, _ = io.Copy(t, v.ch) }() // the client's going is seen by serve
		go func() { defer close(out); show(v.ch, t, ended) }()
	} else {
		go func() { _, _ = io.Copy(p.In, v.ch); p.CloseInput() }()
		close(out)
	}
	status, sig := p.Wait()
	if t := p.Terminal(); t != nil {
		close(ended)
		_ = t.SetReadDeadline(time.Now().Add(lastWords))
		<-out
		t.Close()
	}
	_ = v.ch.CloseWrite()
	if sig != 0 {
		_, _ = v.ch.SendRequest("exit-signal", false, ssh.Marshal(exitSignal{Name: nameOf(sig), Text: sig.String()}))
	} else {
		_, _ = v.ch.SendRequest("exit-status", false, ssh.Marshal(exitStatus{uint32(status)}))
	}
	_ = v.ch.Close()
}

// lastWords is how long a terminal may stay silent before it is closed once its
// program has ended: one that was left behind may hold it open for ever.
const lastWords = 200 * time.Millisecond

// show copies what a terminal shows, to the end of its program and what that
// wrote last.
func show(to io.Writer, t *os.File, ended <-chan struct{}) {
	buf := make([]byte, 32<<10)
	for {
		select {
		case <-ended:
			_ = t.SetReadDeadline(time.Now().Add(lastWords))
		default:
		}
		n, err := t.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func nameOf(sig syscall.Signal) string {
	for n, s := range signals {
		if s == sig {
			return n
		}
	}
	return "TERM"
}

// environment is the rescue system's, with the client's terminal and language.
func (v *visit) environment() []string {
	var out []string
	for _, kv := range run.DefaultEnv {
		name, _, _ := strings.Cut(kv, "=")
		if _, ok := v.env[name]; !ok && name != "TERM" {
			out = append(out, kv)
		}
	}
	if v.env["TERM"] == "" && v.size != nil {
		v.env["TERM"] = "vt220"
	}
	for k, x := range v.env {
		if !strings.ContainsRune(x, 0) {
			out = append(out, k+"="+x)
		}
	}
	host, port, _ := net.SplitHostPort(v.conn.RemoteAddr().String())
	lhost, lport, _ := net.SplitHostPort(v.conn.LocalAddr().String())
	return append(out, "USER=root", "LOGNAME=root", "SHELL="+v.s.Shell[0], "SSH_CONNECTION="+strings.Join([]string{host, port, lhost, lport}, " "))
}

// sftp serves files, as root sees them: scp of today asks for it.
func (v *visit) sftp() bool {
	if v.busy {
		return false
	}
	srv, err := sftp.NewServer(v.ch, sftp.WithServerWorkingDirectory("/root"))
	if err != nil {
		v.s.Log("ssh: %v", err)
		return false
	}
	v.busy = true
	go func() {
		defer v.s.recovered()
		status := uint32(0)
		if err := srv.Serve(); err != nil && err != io.EOF {
			v.s.Log("ssh: files: %v", err)
			status = 1
		}
		_, _ = v.ch.SendRequest("exit-status", false, ssh.Marshal(exitStatus{status}))
		_ = v.ch.Close()
	}()
	return true
}
