package kmod

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Uevent is one message of the kernel about a device.
type Uevent struct {
	Action  string // add, remove, change, move, online, offline, bind, unbind
	Devpath string // below /sys
	Env     map[string]string
}

// ErrOverrun says that messages were lost: look at everything again.
var ErrOverrun = errors.New("uevents were lost because they came faster than they were read")

// ParseUevent reads a kernel message: "ACTION@DEVPATH", then KEY=VALUE, with a
// NUL after each. Messages of udevd, which share the socket, are refused.
func ParseUevent(b []byte) (Uevent, error) {
	head, rest, ok := bytes.Cut(b, []byte{0})
	action, dev, at := strings.Cut(string(head), "@")
	if !ok || !at || action == "" || !strings.HasPrefix(dev, "/") {
		return Uevent{}, fmt.Errorf("not a kernel uevent: %.40q", head)
	}
	u := Uevent{Action: action, Devpath: dev, Env: map[string]string{}}
	for rec := range bytes.SplitSeq(rest, []byte{0}) {
		if k, v, ok := strings.Cut(string(rec), "="); ok {
			u.Env[k] = v
		}
	}
	return u, nil
}

// Monitor hears the kernel's uevents.
type Monitor struct{ f *os.File }

// Listen opens the uevent socket. Messages are kept from now on, so listen
// before looking at what is there.
func Listen() (*Monitor, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("uevents: opening the netlink socket: %w", err)
	}
	// A controller with many disks sends thousands at once. Forcing needs
	// privilege; without it the default has to do.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("uevents: joining the kernel's group: %w", err)
	}
	return &Monitor{os.NewFile(uintptr(fd), "uevents")}, nil
}

// Next waits for the next message. It returns context.DeadlineExceeded when
// none came within wait (zero: for ever), and ErrOverrun when some were lost.
func (m *Monitor) Next(ctx context.Context, wait time.Duration) (Uevent, error) {
	var t time.Time
	if wait > 0 {
		t = time.Now().Add(wait)
	}
	if err := m.f.SetReadDeadline(t); err != nil {
		return Uevent{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = m.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 64<<10)
	for {
		n, err := m.f.Read(buf)
		switch {
		case ctx.Err() != nil:
			return Uevent{}, ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			return Uevent{}, context.DeadlineExceeded
		case errors.Is(err, unix.ENOBUFS):
			return Uevent{}, ErrOverrun
		case err != nil:
			return Uevent{}, fmt.Errorf("uevents: %w", err)
		}
		if u, err := ParseUevent(buf[:n]); err == nil {
			return u, nil
		}
	}
}

// Close closes the socket.
func (m *Monitor) Close() error { return m.f.Close() }
