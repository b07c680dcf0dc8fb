package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"lifeboat/init/internal/console"
	"lifeboat/init/internal/reap"
)

const (
	program   = "/usr/bin/lifeboat"
	workerLog = "/run/lifeboat/worker.log"
	sshLog    = "/run/lifeboat/ssh.log"
)

// shells in the order of preference.
var shells = []string{"/usr/bin/bash", "/bin/bash", "/usr/bin/sh", "/bin/sh", "/usr/bin/gosh"}

// worker is the child that recovers.
func worker(t *reap.Table, log reap.Log, stopping <-chan struct{}) *reap.Service {
	return unseen(t, log, stopping, "worker", workerLog, "LIFEBOAT_WORKER_START")
}

// sshServer is a child of its own: however the worker ends, a person can get
// in.
func sshServer(t *reap.Table, log reap.Log, stopping <-chan struct{}) *reap.Service {
	return unseen(t, log, stopping, "ssh", sshLog, "LIFEBOAT_SSH_START")
}

// unseen is a child without a terminal; the variable counts its starts.
func unseen(t *reap.Table, log reap.Log, stopping <-chan struct{}, verb, logPath, count string) *reap.Service {
	return &reap.Service{
		Name: verb, Soon: 10 * time.Second, Stopping: stopping, Log: log,
		Start: func(n, _ int) (*reap.Child, error) {
			null, err := os.Open(os.DevNull)
			if err != nil {
				return nil, err
			}
			defer null.Close()
			out, err := os.OpenFile(logPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
			if err != nil {
				return nil, err
			}
			defer out.Close()
			return t.Start(reap.Spec{
				Argv:  []string{program, verb},
				Env:   environment("linux", fmt.Sprintf("%s=%d", count, n)),
				Files: []*os.File{null, out, out},
			})
		},
	}
}

// consoles keeps a session on every active console.
type consoles struct {
	table    *reap.Table
	log      reap.Log
	stopping <-chan struct{}
	banner   string
	words    []string // values of console= on the command line

	mu      sync.Mutex
	running map[string]bool
}

// update starts sessions on consoles that are new.
func (c *consoles) update() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, tty := range console.Active(c.words) {
		if !c.running[tty.Name] {
			c.running[tty.Name] = true
			reap.Forever(c.log, "console "+tty.Name, func() { c.session(tty).Run() })
		}
	}
}

// say writes to all consoles.
func (c *consoles) say(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.running {
		_ = console.Say(name, text)
	}
}

// failuresToShell is how often the console program may fail in a row before a
// plain shell takes its place.
const failuresToShell = 3

func (c *consoles) session(tty console.Terminal) *reap.Service {
	greeted := false
	return &reap.Service{
		Name: "console " + tty.Name, Soon: 10 * time.Second, Stopping: c.stopping, Log: c.log,
		Start: func(_, failures int) (*reap.Child, error) {
			f, err := console.Open(tty)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			if !greeted {
				_ = console.Say(tty.Name, c.banner)
				greeted = true
			}
			argv := []string{program, "console"}
			if failures >= failuresToShell {
				if argv, err = shell(); err != nil {
					return nil, err
				}
				_ = console.Say(tty.Name, "\nThe console program does not start; this is a plain shell. PID 1's log is /run/lifeboat/init.log.\n")
			}
			return c.table.Start(reap.Spec{
				Argv:  argv,
				Env:   environment(console.Term(tty.Name), "LIFEBOAT_CONSOLE="+tty.Name),
				Files: []*os.File{f, f, f}, TTY: true,
			})
		},
	}
}

func shell() ([]string, error) {
	for _, s := range shells {
		if _, err := os.Stat(s); err == nil {
			return []string{s}, nil
		}
	}
	return nil, fmt.Errorf("no shell: none of %v is there", shells)
}
