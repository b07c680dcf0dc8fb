// Package console opens the consoles that the kernel really has and runs a
// session on each.
// Level 6.5: part of init.
package console

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ActivePath lists the consoles that the kernel has registered. What a
// command line names but the machine has not is not in it.
const ActivePath = "/sys/class/tty/console/active"

// Names are the terminals to run a session on, from the contents of
// ActivePath: each once, the preferred first. The foreground screen "tty0" is
// the first virtual terminal.
func Names(active string) []string {
	var out []string
	for _, n := range strings.Fields(active) {
		if n == "tty0" {
			n = "tty1"
		}
		if strings.Contains(n, "/") || strings.HasPrefix(n, ".") || strings.HasPrefix(n, "ttynull") || slices.Contains(out, n) {
			continue
		}
		out = append(out, n)
	}
	// The kernel puts the preferred one last.
	slices.Reverse(out)
	return out
}

// Active reads the names of now. A kernel without the list gets the first
// virtual terminal and whatever /dev/console is.
func Active() []string {
	b, err := os.ReadFile(ActivePath)
	if n := Names(string(b)); err == nil && len(n) > 0 {
		return n
	}
	return []string{"console", "tty1"}
}

// Open opens a terminal without waiting for a carrier and without making it
// anybody's controlling terminal. Reads and writes of the result wait, which
// is what a session wants; PID 1 itself writes through Say only.
func Open(name string) (*os.File, error) {
	path := filepath.Join("/dev", name)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening console %s: %w", path, err)
	}
	// A serial line that does not exist opens, but has no settings.
	if err := sane(fd); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("console %s: %w", path, err)
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("console %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// sane puts the terminal into line mode whatever the last session left behind,
// and keeps speed and parity. Modem lines are ignored: three wires must do.
func sane(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag = unix.ICRNL | unix.IXON | unix.BRKINT | unix.IUTF8
	t.Oflag = unix.OPOST | unix.ONLCR
	t.Lflag = unix.ISIG | unix.ICANON | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHOCTL | unix.ECHOKE | unix.IEXTEN
	t.Cflag |= unix.CREAD | unix.HUPCL | unix.CLOCAL
	for i, c := range map[int]uint8{unix.VINTR: 3, unix.VQUIT: 28, unix.VERASE: 127, unix.VKILL: 21, unix.VEOF: 4,
		unix.VSTART: 17, unix.VSTOP: 19, unix.VSUSP: 26, unix.VMIN: 1, unix.VTIME: 0} {
		t.Cc[i] = c
	}
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// Say writes text to a terminal as far as it goes without waiting: a line
// held by flow control must not hold PID 1.
func Say(name, text string) error {
	fd, err := unix.Open(filepath.Join("/dev", name), unix.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(strings.ReplaceAll(text, "\n", "\r\n")))
	return err
}

// Term is the terminal type for programs on a terminal.
func Term(name string) string {
	if rest, ok := strings.CutPrefix(name, "tty"); ok && rest != "" && strings.Trim(rest, "0123456789") == "" {
		return "linux"
	}
	return "vt220"
}

// Watch calls changed whenever the kernel registers or drops a console, and
// does not return unless the list cannot be watched.
func Watch(changed func()) error {
	fd, err := unix.Open(ActivePath, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, 4096)
	for {
		// Reading arms the notification.
		if _, err := unix.Pread(fd, buf, 0); err != nil {
			return err
		}
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI | unix.POLLERR}}
		if _, err := unix.Poll(p, -1); err != nil && err != unix.EINTR {
			return err
		}
		changed()
	}
}
