package reap

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// table is one for all tests: it owns wait4 of the process.
var table *Table

func TestMain(m *testing.M) {
	// Orphans come to us as they come to PID 1.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	table = New()
	os.Exit(m.Run())
}

func sh(t *testing.T, script string) *Child {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	c, err := table.Start(Spec{Argv: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Files: []*os.File{null, null, null}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func within(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(60 * time.Second):
		t.Fatalf("%s: nothing within 60 s", what)
	}
}

// A storm of orphans must neither stay nor take the statuses of our own
// children with it.
func TestOrphanStorm(t *testing.T) {
	before := table.Reaped()
	const orphans = 1000
	storm := sh(t, fmt.Sprintf("i=0; while [ $i -lt %d ]; do (: &) ; i=$((i+1)); done", orphans))
	var own []*Child
	for i := range 40 {
		own = append(own, sh(t, fmt.Sprintf("exit %d", i)))
	}
	for i, c := range own {
		within(t, "own child", c.Done())
		if e := c.Wait(); !e.Exited() || e.ExitStatus() != i {
			t.Errorf("child %d ended with %v", i, e)
		}
	}
	within(t, "storm", storm.Done())
	if !table.Empty(60 * time.Second) {
		t.Fatal("children are left")
	}
	if n := table.Reaped() - before; n != orphans+1+len(own) {
		t.Errorf("%d processes collected, want %d", n, orphans+1+len(own))
	}
}

// An orphan that comes when there is no child of our own is collected too.
func TestLateOrphan(t *testing.T) {
	before := table.Reaped()
	c := sh(t, "(sleep 0.3; exit 3) & exit 0")
	within(t, "parent", c.Done())
	if !table.Empty(60*time.Second) || table.Reaped()-before < 2 {
		t.Errorf("%d collected", table.Reaped()-before)
	}
	if !table.Empty(time.Second) {
		t.Error("no child, and Empty waits")
	}
}

func TestEmptyTimesOut(t *testing.T) {
	c := sh(t, "exec sleep 60")
	if table.Empty(10 * time.Millisecond) {
		t.Error("a running child was overlooked")
	}
	syscall.Kill(c.Pid, syscall.SIGKILL)
	if e := c.Wait(); !e.Signaled() || !strings.Contains(e.String(), "signal 9") {
		t.Errorf("killed child: %v", e)
	}
}

func TestStartFails(t *testing.T) {
	if _, err := table.Start(Spec{Argv: []string{"/nonexistent"}}); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("error %v", err)
	}
}

type lines struct {
	mu sync.Mutex
	l  []string
}

func (l *lines) f(format string, a ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.l = append(l.l, fmt.Sprintf(format, a...))
}

func TestServiceCountsFailures(t *testing.T) {
	var lg lines
	stopping := make(chan struct{})
	var seen []int
	s := &Service{Name: "svc", Soon: time.Minute, Stopping: stopping, Log: lg.f}
	s.Start = func(n, failures int) (*Child, error) {
		seen = append(seen, failures)
		switch n {
		case 1:
			return sh(t, "exit 7"), nil
		case 2:
			return nil, fmt.Errorf("cannot start")
		case 3:
			return sh(t, "kill -9 $$"), nil
		case 4:
			return sh(t, "exit 0"), nil
		}
		close(stopping)
		return sh(t, "exit 0"), nil
	}
	s.Run()
	if fmt.Sprint(seen) != "[0 1 2 3 0]" {
		t.Errorf("failures seen at each start: %v", seen)
	}
	log := strings.Join(lg.l, "\n")
	for _, want := range []string{"exit status 7", "cannot start", "signal 9"} {
		if !strings.Contains(log, want) {
			t.Errorf("log lacks %q:\n%s", want, log)
		}
	}
}

func TestForeverSurvivesPanic(t *testing.T) {
	var lg lines
	done := make(chan struct{})
	n := 0
	Forever(lg.f, "part", func() {
		if n++; n == 1 {
			var m map[string]int
			m["x"] = 1
		}
		close(done)
	})
	within(t, "second run", done)
	if log := strings.Join(lg.l, "\n"); !strings.Contains(log, "part: internal error") || !strings.Contains(log, "reap_test.go") {
		t.Errorf("log:\n%s", log)
	}
}
