package run

import (
	"context"
	"os/exec"
)

// Process is a program that goes on while we work.
type Process struct {
	cmd  *exec.Cmd
	errb *limited
	argv []string
	x    Exec
	done chan struct{}
	err  error
}

// Start starts c and returns at once. The process ends with ctx. Extra files
// are not passed on.
func (x Exec) Start(ctx context.Context, c Cmd) (*Process, error) {
	cmd := command(ctx, c)
	p := &Process{cmd: cmd, errb: &limited{}, argv: append([]string{c.Path}, c.Args...), x: x, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = c.Stdout, p.errb
	x.logf("start: %s", Quote(p.argv))
	if err := cmd.Start(); err != nil {
		return nil, &Error{Argv: p.argv, Code: -1, Cause: err}
	}
	go func() {
		defer close(p.done)
		if err := cmd.Wait(); err != nil {
			p.err = &Error{Argv: p.argv, Code: cmd.ProcessState.ExitCode(), Stderr: p.errb.String(), Cause: err}
		}
	}()
	return p, nil
}

// Pid of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end and tells how it ended.
func (p *Process) Wait() error { <-p.done; return p.err }

// Kill ends the process and its group, and waits.
func (p *Process) Kill() {
	_ = p.cmd.Cancel()
	<-p.done
}
