package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Size of a terminal in characters.
type Size struct{ Rows, Columns uint16 }

// Session is a program that a person drives, on a terminal of its own or over
// pipes.
type Session struct {
	cmd *exec.Cmd
	tty *os.File  // master side; nil with pipes
	In  io.Writer // nil on a terminal: use Terminal

	closeIn func() error
}

// Session starts c as leader of its own session, with the terminal size given,
// or with pipes when size is nil: its output goes to c.Stdout and stderr. It
// ends with ctx.
func (x Exec) Session(ctx context.Context, c Cmd, size *Size, stderr io.Writer) (*Session, error) {
	cmd := command(ctx, c)
	argv := append([]string{c.Path}, c.Args...)
	// A session of its own is a process group, too; to set both is an error.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	s := &Session{cmd: cmd}
	x.logf("session: %s", Quote(argv[:1])) // what a person types may hold a secret
	var slave *os.File
	var err error
	if size != nil {
		if s.tty, slave, err = terminal(*size); err != nil {
			return nil, err
		}
		defer slave.Close()
		cmd.SysProcAttr.Setctty = true
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	} else {
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		s.In, s.closeIn = in, in.Close
		cmd.Stdout, cmd.Stderr = c.Stdout, stderr
	}
	if err := cmd.Start(); err != nil {
		if s.tty != nil {
			s.tty.Close()
		}
		return nil, &Error{Argv: argv, Code: -1, Cause: err}
	}
	return s, nil
}

// Terminal is the side of the terminal that the person is at, or nil.
func (s *Session) Terminal() *os.File { return s.tty }

// CloseInput tells the program that no more input comes.
func (s *Session) CloseInput() {
	if s.closeIn != nil {
		_ = s.closeIn()
	}
}

// Signal goes to the program's whole group.
func (s *Session) Signal(sig syscall.Signal) { _ = syscall.Kill(-s.cmd.Process.Pid, sig) }

// Resize tells the program that its window changed.
func (s *Session) Resize(z Size) {
	if s.tty == nil {
		return
	}
	// Not by Fd, which would make the descriptor block.
	if c, err := s.tty.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) {
			_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: z.Rows, Col: z.Columns})
		})
	}
}

// Wait waits for the end and returns the exit status, or the signal that ended
// the program.
func (s *Session) Wait() (status int, sig syscall.Signal) {
	err := s.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && s.cmd.ProcessState == nil {
		return 255, 0
	}
	if ws, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 0, ws.Signal()
	}
	return s.cmd.ProcessState.ExitCode(), 0
}

// terminal makes a pair: what a person holds, and what the program gets.
func terminal(z Size) (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a terminal: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, fmt.Errorf("unlock the terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, fmt.Errorf("name the terminal: %w", err)
	}
	if err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: z.Rows, Col: z.Columns}); err != nil {
		return nil, nil, fmt.Errorf("set the terminal's size: %w", err)
	}
	name := filepath.Join("/dev/pts", strconv.Itoa(n))
	if slave, err = os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, fmt.Errorf("open the terminal: %w", err)
	}
	// Reads that end with the program must not block for ever: the runtime
	// polls descriptors that do not block.
	if err = unix.SetNonblock(fd, true); err != nil {
		slave.Close()
		return nil, nil, err
	}
	return os.NewFile(uintptr(fd), "/dev/ptmx"), slave, nil
}
