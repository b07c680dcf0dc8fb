// Package reap starts PID 1's children, collects every dead process and keeps
// services running.
// Level 6.5: part of init.
package reap

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// Exit is how a child ended.
type Exit struct{ syscall.WaitStatus }

// OK tells whether it ended with status 0.
func (e Exit) OK() bool { return e.Exited() && e.ExitStatus() == 0 }

func (e Exit) String() string {
	if e.Signaled() {
		return fmt.Sprintf("killed by signal %d (%s)", int(e.Signal()), e.Signal())
	}
	return fmt.Sprintf("exit status %d", e.ExitStatus())
}

// Child is a started process.
type Child struct {
	Pid  int
	done chan struct{}
	exit Exit
}

// Done is closed when the child is dead and collected.
func (c *Child) Done() <-chan struct{} { return c.done }

// Wait waits for the end.
func (c *Child) Wait() Exit { <-c.done; return c.exit }

// Spec is a program to start.
type Spec struct {
	Argv  []string // Argv[0] is the path
	Env   []string
	Files []*os.File // standard input, output and error
	TTY   bool       // own session, Files[0] its controlling terminal
}

// Table owns wait4 for the whole process: one loop collects orphans and own
// children alike, so neither is lost and no exit status goes to the wrong
// reader. Nothing else in the process may wait for children.
type Table struct {
	mu      sync.Mutex
	own     map[int]*Child
	started chan struct{} // a child was started
	idle    []chan struct{}
	reaped  int
}

// New starts the collecting loop.
func New() *Table {
	t := &Table{own: map[int]*Child{}, started: make(chan struct{}, 1)}
	chld := make(chan os.Signal, 1)
	signal.Notify(chld, syscall.SIGCHLD)
	go t.loop(chld)
	return t
}

// Start starts a program. The table is locked over fork, so the loop cannot
// meet a dead child before it is entered.
func (t *Table) Start(s Spec) (*Child, error) {
	attr := &syscall.ProcAttr{Env: s.Env, Dir: "/", Sys: &syscall.SysProcAttr{Setsid: true, Setctty: s.TTY}}
	for _, f := range s.Files {
		attr.Files = append(attr.Files, f.Fd())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	pid, err := syscall.ForkExec(s.Argv[0], s.Argv, attr)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", s.Argv[0], err)
	}
	c := &Child{Pid: pid, done: make(chan struct{})}
	t.own[pid] = c
	select {
	case t.started <- struct{}{}:
	default:
	}
	return c, nil
}

// Reaped is the number of processes collected so far.
func (t *Table) Reaped() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reaped
}

func (t *Table) loop(chld <-chan os.Signal) {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil: // no child at all
			t.childless()
			select {
			case <-t.started:
			case <-chld: // an orphan came and died
			}
		case ws.Exited() || ws.Signaled():
			t.collect(pid, ws)
		}
	}
}

func (t *Table) collect(pid int, ws syscall.WaitStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reaped++
	if c := t.own[pid]; c != nil {
		delete(t.own, pid)
		c.exit = Exit{ws}
		close(c.done)
	}
}

// childless tells those who wait for it that no child is left.
func (t *Table) childless() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.own) > 0 {
		return // started since
	}
	for _, c := range t.idle {
		close(c)
	}
	t.idle = nil
}

// Empty waits until no child is left; false means that the time was up.
func (t *Table) Empty(limit time.Duration) bool {
	c := make(chan struct{})
	t.mu.Lock()
	t.idle = append(t.idle, c)
	t.mu.Unlock()
	// The loop may already sleep because there is no child.
	select {
	case t.started <- struct{}{}:
	default:
	}
	select {
	case <-c:
		return true
	case <-time.After(limit):
		return false
	}
}
