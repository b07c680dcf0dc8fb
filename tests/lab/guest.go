package lab

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"lifeboat/internal/run"
)

// AgentPort is the virtio port on which the agent in a guest listens.
const AgentPort = "lab.agent"

// Guest runs commands in a machine whose agent speaks. One at a time.
type Guest struct {
	conn net.Conn
	in   *bufio.Reader

	mu   sync.Mutex
	next int
	bad  error // the stream is out of step: nothing more can be asked
}

// dial connects to the agent's port and waits until the agent answers, which
// may be long: the guest has to boot first.
func dial(ctx context.Context, socket string) (*Guest, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("connect to the agent's port: %w", err)
	}
	g := &Guest{conn: conn, in: bufio.NewReaderSize(conn, 256<<10)}
	if err := g.hello(ctx); err != nil {
		return nil, err
	}
	return g, nil
}

// hello waits for the agent's first answer.
func (g *Guest) hello(ctx context.Context) error {
	defer g.watch(ctx)()
	id := g.id()
	if _, err := fmt.Fprintf(g.conn, "PING %d 0\n", id); err != nil {
		return g.fail(ctx, err)
	}
	for {
		verb, got, _, err := g.header()
		if err != nil {
			return g.fail(ctx, fmt.Errorf("wait for the agent: %w", err))
		}
		if verb == "PONG" && got == id {
			return nil
		}
	}
}

// watch closes the connection when ctx ends: a blocked read returns then.
func (g *Guest) watch(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { g.conn.Close() })
}

// fail notes that the conversation is broken, and why.
func (g *Guest) fail(ctx context.Context, err error) error {
	g.conn.Close()
	if ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	g.bad = err
	return err
}

func (g *Guest) id() int { g.next++; return g.next }

func (g *Guest) header() (verb string, id, n int, err error) {
	line, err := g.in.ReadString('\n')
	if err != nil {
		return "", 0, 0, err
	}
	f := strings.Fields(line)
	if len(f) != 3 {
		return "", 0, 0, fmt.Errorf("the agent sent %q", line)
	}
	id, err1 := strconv.Atoi(f[1])
	n, err2 := strconv.Atoi(f[2])
	if err1 != nil || err2 != nil || n < 0 {
		return "", 0, 0, fmt.Errorf("the agent sent %q", line)
	}
	return f[0], id, n, nil
}

// Result is what a command in the guest gave.
type Result struct {
	Stdout, Stderr []byte
	Code           int // 128+N after signal N
}

// Stream runs script by bash in the guest and passes both streams on as they
// come. A script that leaves something running must redirect its streams.
func (g *Guest) Stream(ctx context.Context, script string, stdout, stderr io.Writer) (code int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ask(ctx, "RUN", "", int64(len(script)), strings.NewReader(script), stdout, stderr)
}

// Run runs script by bash in the guest. A status other than 0 is an error
// with the last lines of stderr; Result is filled in both cases.
func (g *Guest) Run(ctx context.Context, script string) (Result, error) {
	var out, errb bytes.Buffer
	code, err := g.Stream(ctx, script, &out, &errb)
	r := Result{Stdout: out.Bytes(), Stderr: errb.Bytes(), Code: code}
	if err == nil && code != 0 {
		err = &run.Error{Argv: []string{"in the guest:", brief(script)}, Code: code, Stderr: errb.String(), Cause: fmt.Errorf("exit status %d", code)}
	}
	return r, err
}

// Put copies a file of this machine into the guest.
func (g *Guest) Put(ctx context.Context, local, remote string, mode os.FileMode) error {
	f, err := os.Open(local)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var errb bytes.Buffer
	code, err := g.ask(ctx, "PUT", fmt.Sprintf(" %o %s", mode.Perm(), remote), st.Size(), f, io.Discard, &errb)
	if err == nil && code != 0 {
		err = fmt.Errorf("copy %s into the guest: %s", local, strings.TrimSpace(errb.String()))
	}
	return err
}

// Get copies a file out of the guest.
func (g *Guest) Get(ctx context.Context, remote, local string) error {
	f, err := os.Create(local)
	if err != nil {
		return err
	}
	var errb bytes.Buffer
	code, err := g.Stream(ctx, "exec cat -- "+run.Quote([]string{remote}), f, &errb)
	if err == nil && code != 0 {
		err = fmt.Errorf("copy %s out of the guest: %s", remote, strings.TrimSpace(errb.String()))
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func (g *Guest) ask(ctx context.Context, verb, more string, n int64, body io.Reader, stdout, stderr io.Writer) (int, error) {
	if g.bad != nil {
		return -1, fmt.Errorf("the guest's agent was lost before: %w", g.bad)
	}
	defer g.watch(ctx)()
	id := g.id()
	if _, err := fmt.Fprintf(g.conn, "%s %d %d%s\n", verb, id, n, more); err != nil {
		return -1, g.fail(ctx, err)
	}
	if _, err := io.CopyN(g.conn, body, n); err != nil {
		return -1, g.fail(ctx, err)
	}
	for {
		verb, got, n, err := g.header()
		if err == nil && got != id {
			err = fmt.Errorf("the agent answered %s to question %d instead of %d", verb, got, id)
		}
		if err != nil {
			return -1, g.fail(ctx, fmt.Errorf("the agent's answer: %w", err))
		}
		to := stdout
		switch verb {
		case "END":
			return n, nil
		case "ERR":
			to = stderr
		case "OUT":
		default:
			return -1, g.fail(ctx, fmt.Errorf("the agent sent %s", verb))
		}
		if _, err := io.CopyN(to, g.in, int64(n)); err != nil {
			return -1, g.fail(ctx, err)
		}
	}
}

// quit ends the agent; the appliance powers off then.
func (g *Guest) quit(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, err := g.ask(ctx, "QUIT", "", 0, strings.NewReader(""), io.Discard, io.Discard)
	return err
}

func brief(s string) string {
	s = strings.TrimSpace(s)
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		s = s[:i] + " ..."
	}
	return s
}
