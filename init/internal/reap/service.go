package reap

import (
	"fmt"
	"runtime/debug"
	"time"
)

// Log takes one line.
type Log func(format string, args ...any)

// Guard runs f and turns a panic into a log line: a panic that leaves PID 1
// is a kernel panic.
func Guard(log Log, name string, f func()) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			log("%s: internal error: %v", name, p)
			log("%s", debug.Stack())
			ok = false
		}
	}()
	f()
	return true
}

// Forever runs f in a goroutine of its own and again after each panic, until
// it returns by itself.
func Forever(log Log, name string, f func()) {
	go func() {
		for !Guard(log, name, f) {
			time.Sleep(time.Second) // nothing to wait for: only so that a fault at once cannot fill the log
		}
	}()
}

// Service is a program that is started again whenever it ends.
type Service struct {
	Name string
	// Start starts it for the n-th time, counted from 1. Failures is how
	// many times in a row it ended badly and soon.
	Start    func(n, failures int) (*Child, error)
	Soon     time.Duration   // a bad end sooner than this after the start is a failure
	Stopping <-chan struct{} // closed when nothing is to be started any more
	Log      Log
}

// Pauses before the next start of what ended within a second of its start.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// Run keeps the service running until Stopping is closed. There is no end that
// is meant: whatever a recovery came to, a person may want another.
func (s *Service) Run() {
	failures, pause := 0, firstPause
	for n := 1; !s.stopped(); n++ {
		begin := time.Now()
		c, err := s.Start(n, failures)
		how := fmt.Sprint(err)
		bad := err != nil
		if err == nil {
			e := c.Wait()
			how, bad = e.String(), !e.OK()
		}
		lived := time.Since(begin)
		if bad && lived < s.Soon {
			failures++
		} else {
			failures = 0
		}
		// A missing terminal must not fill the log.
		if s.stopped() || failures > 5 && failures%100 != 0 {
			how = ""
		}
		if how != "" {
			s.Log("%s ended: %s; starting it again", s.Name, how)
		}
		if lived > time.Second {
			pause = firstPause
			continue
		}
		select {
		case <-time.After(pause):
		case <-s.Stopping:
		}
		pause = min(2*pause, lastPause)
	}
}

func (s *Service) stopped() bool {
	select {
	case <-s.Stopping:
		return true
	default:
		return false
	}
}
