// Package run starts programs: one log line for start and end, quoted argv,
// both streams kept, exit status checked, time limits.
// Level 1: the only user of os/exec; a fake for tests.
package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Cmd is a program to start. Secrets never go into Args: hand them by Stdin.
type Cmd struct {
	Path   string   // name or path; names are looked up in PATH of Env, or ours
	Args   []string // without argv[0]
	Env    []string // nil: minimal (PATH, LC_ALL=C.UTF-8, tool specific); else replaces it
	Dir    string
	Stdin  io.Reader
	Stdout io.Writer // nil: kept in Result.Stdout (at most 64 MiB)
	Root   string    // chroot first
	Limit  time.Duration
	OK     []int                // exit codes that are no failure; nil means 0 only
	Attr   *syscall.SysProcAttr // merged with Root
	Line   func(string)         // called for each line of stderr as it comes; may be nil
}

// Result is how a program ended.
type Result struct {
	Stdout, Stderr []byte
	Code           int
	Took           time.Duration
}

// Runner starts programs. Exec is the real one; tests put a fake.
type Runner interface {
	Run(ctx context.Context, c Cmd) (Result, error)
}

// Error tells what was run and what came back.
type Error struct {
	Argv   []string
	Code   int // -1 when it never ran or was killed
	Stderr string
	Cause  error
}

// Error names program, arguments, status and the last lines of stderr.
func (e *Error) Error() string {
	s := Quote(e.Argv)
	switch {
	case errors.Is(e.Cause, exec.ErrNotFound):
		return s + ": program not found"
	case errors.Is(e.Cause, context.DeadlineExceeded):
		s += ": stopped after its time limit"
	case e.Code >= 0:
		s += fmt.Sprintf(": exit status %d", e.Code)
	default:
		s += fmt.Sprintf(": %v", e.Cause)
	}
	if t := lastLines(e.Stderr, 3); t != "" {
		s += ": " + t
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// NotFound tells whether err says that the program itself is missing.
func NotFound(err error) bool { return errors.Is(err, exec.ErrNotFound) }

// LookPath finds a program in PATH.
func LookPath(name string) (string, error) { return exec.LookPath(name) }

// Logger gets one line for each start and end; nil is silent.
type Logger func(format string, args ...any)

// Exec is the Runner that starts real programs.
type Exec struct{ Log Logger }

// DefaultEnv is what programs see when Cmd.Env is nil: nothing of the host's
// locale or tool settings leaks into output that we parse.
var DefaultEnv = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"LC_ALL=C.UTF-8", "TERM=linux", "HOME=/root",
	// No udevd answers in the rescue system; without this lvm waits for it.
	"DM_DISABLE_UDEV=1", "LVM_SUPPRESS_FD_WARNINGS=1",
}

// HostEnv is DefaultEnv for a host whose udev owns the device nodes.
var HostEnv = []string{DefaultEnv[0], DefaultEnv[1], DefaultEnv[2], DefaultEnv[3], DefaultEnv[5]}

// Run starts c and waits for it. A status that is not listed in c.OK is an
// *Error; Result is filled in both cases.
func (x Exec) Run(ctx context.Context, c Cmd) (Result, error) {
	if c.Limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Limit)
		defer cancel()
	}
	cmd := command(ctx, c)
	var out, errb limited
	cmd.Stdout, cmd.Stderr = c.Stdout, io.Writer(&errb)
	if c.Stdout == nil {
		cmd.Stdout = &out
	}
	if c.Line != nil {
		cmd.Stderr = io.MultiWriter(&errb, &lines{f: c.Line})
	}
	argv := append([]string{c.Path}, c.Args...)
	x.logf("run: %s", Quote(argv))
	start := time.Now()
	err := cmd.Run()
	res := Result{Stdout: out.Bytes(), Stderr: errb.Bytes(), Code: -1, Took: time.Since(start)}
	if cmd.ProcessState != nil {
		res.Code = cmd.ProcessState.ExitCode()
	}
	if ctx.Err() != nil && err != nil {
		err = ctx.Err()
	}
	if errors.Is(err, exec.ErrWaitDelay) && okCode(c.OK, res.Code) {
		// It ended well and left a child behind that holds its output open.
		x.logf("%s left programs running; they are ended", c.Path)
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		err = nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && res.Code >= 0 && okCode(c.OK, res.Code) {
		err = nil
	}
	if err == nil && res.Code >= 0 && !okCode(c.OK, res.Code) {
		err = fmt.Errorf("exit status %d", res.Code)
	}
	if err != nil {
		e := &Error{Argv: argv, Code: res.Code, Stderr: errb.String(), Cause: err}
		x.logf("failed: %v (%.1f s)", e, res.Took.Seconds())
		return res, e
	}
	x.logf("done: %s: exit status %d (%.1f s)", c.Path, res.Code, res.Took.Seconds())
	return res, nil
}

func (x Exec) logf(f string, a ...any) {
	if x.Log != nil {
		x.Log(f, a...)
	}
}

func command(ctx context.Context, c Cmd) *exec.Cmd {
	path := c.Path
	cmd := exec.CommandContext(ctx, path, c.Args...)
	if c.Root != "" && strings.HasPrefix(path, "/") {
		// The path counts inside the new root; LookPath looked outside.
		cmd.Path, cmd.Err = path, nil
	}
	cmd.Env, cmd.Dir, cmd.Stdin = c.Env, c.Dir, c.Stdin
	if c.Env == nil {
		cmd.Env = DefaultEnv
	}
	attr := c.Attr
	if attr == nil {
		attr = &syscall.SysProcAttr{}
	}
	if c.Root != "" {
		attr.Chroot = c.Root
		if c.Dir == "" {
			cmd.Dir = "/"
		}
	}
	// Its own group, so that a time limit ends children too.
	attr.Setpgid = true
	cmd.SysProcAttr = attr
	cmd.Cancel = func() error {
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func okCode(ok []int, code int) bool {
	if ok == nil {
		return code == 0
	}
	for _, c := range ok {
		if c == code {
			return true
		}
	}
	return false
}

// Quote writes argv as a shell would take it.
func Quote(argv []string) string {
	q := make([]string, len(argv))
	for i, a := range argv {
		if a != "" && strings.IndexFunc(a, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,@%+^", r))
		}) < 0 {
			q[i] = a
			continue
		}
		q[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return strings.Join(q, " ")
}

func lastLines(s string, n int) string {
	s = strings.TrimSpace(s)
	l := strings.Split(s, "\n")
	if len(l) > n {
		l = l[len(l)-n:]
	}
	for i := range l {
		l[i] = strings.TrimSpace(l[i])
	}
	return strings.Join(l, " | ")
}

// limited keeps the first 64 MiB: a tool gone mad must not eat the memory.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len() < 64<<20 {
		l.Buffer.Write(p)
	}
	return len(p), nil
}

type lines struct {
	f   func(string)
	buf []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.buf = append(l.buf, p...)
	for {
		i := bytes.IndexAny(l.buf, "\n\r")
		if i < 0 {
			return len(p), nil
		}
		if i > 0 {
			l.f(string(l.buf[:i]))
		}
		l.buf = l.buf[i+1:]
	}
}
