// Package console opens the consoles that the kernel really has and runs a
// session on each.
// Level 6.5: part of init.
package console

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ActivePath lists the consoles that the kernel has registered.
const ActivePath = "/sys/class/tty/console/active"

// Terminal is one to run a session on.
type Terminal struct {
	Name string // below /dev: ttyS0
	Baud int    // line speed to set; 0 keeps what is set
}

// Terminals are those to run sessions on: the consoles of the kernel from the
// contents of ActivePath, the preferred first, then the others that the
// command line names by console=. The kernel registers one serial line only,
// and takes the first that is named even when the machine has not got it; a
// person may sit at any of them. The foreground screen "tty0" is the first
// virtual terminal.
func Terminals(active string, words []string) []Terminal {
	var out []Terminal
	add := func(name string, baud int) {
		if name == "tty0" || name == "tty" {
			name = "tty1"
		}
		known := func(t Terminal) bool { return t.Name == name }
		if valid(name) && !slices.ContainsFunc(out, known) {
			out = append(out, Terminal{name, baud})
		}
	}
	// The kernel puts the preferred one last.
	for _, n := range slices.Backward(strings.Fields(active)) {
		add(n, 0)
	}
	for _, w := range words {
		name, options, _ := strings.Cut(w, ",")
		// 115200n8r: speed, parity, bits, flow control.
		if i := strings.IndexFunc(options, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
			options = options[:i]
		}
		baud, _ := strconv.Atoi(options)
		add(name, baud)
	}
	return out
}

// valid accepts names such as ttyS0, ttyAMA0, hvc1: letters and a number. Not
// "null", and not "uart8250", which stands for a port that has such a name too.
func valid(name string) bool {
	letters := strings.TrimRight(name, "0123456789")
	return letters != name && letters != "" && letters != "uart" && letters != "ttynull" &&
		strings.Trim(letters, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// Active are the terminals of now; words are the values of console= on the
// command line. A kernel without the list gets the first virtual terminal and
// whatever /dev/console is.
func Active(words []string) []Terminal {
	b, err := os.ReadFile(ActivePath)
	if t := Terminals(string(b), words); err == nil && len(t) > 0 {
		return t
	}
	return []Terminal{{Name: "console"}, {Name: "tty1"}}
}

// Open opens a terminal without waiting for a carrier and without making it
// anybody's controlling terminal. Reads and writes of the result wait, which
// is what a session wants; PID 1 itself writes through Say only.
func Open(t Terminal) (*os.File, error) {
	path := filepath.Join("/dev", t.Name)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening console %s: %w", path, err)
	}
	// A serial line that does not exist opens, but has no settings.
	if err := sane(fd, t.Baud); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("console %s: %w", path, err)
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("console %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// speeds are the constants of the line speeds in use.
var speeds = map[int]uint32{1200: unix.B1200, 2400: unix.B2400, 4800: unix.B4800, 9600: unix.B9600, 19200: unix.B19200,
	38400: unix.B38400, 57600: unix.B57600, 115200: unix.B115200, 230400: unix.B230400, 460800: unix.B460800, 921600: unix.B921600, 1500000: unix.B1500000}

// sane puts the terminal into line mode whatever the last session left behind.
// Modem lines are ignored: three wires must do.
func sane(fd, baud int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag = unix.ICRNL | unix.IXON | unix.BRKINT | unix.IUTF8
	t.Oflag = unix.OPOST | unix.ONLCR
	t.Lflag = unix.ISIG | unix.ICANON | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHOCTL | unix.ECHOKE | unix.IEXTEN
	t.Cflag |= unix.CREAD | unix.HUPCL | unix.CLOCAL
	if b, ok := speeds[baud]; ok {
		t.Cflag = t.Cflag&^unix.CBAUD | b
	}
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
