package console

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTerminals(t *testing.T) {
	for _, c := range []struct{ active, words, want string }{
		{"tty0 ttyS0\n", "", "ttyS0:0 tty1:0"},
		{"ttyS0 tty0\n", "", "tty1:0 ttyS0:0"},
		{"tty0\n", "", "tty1:0"},
		{"hvc0 tty0 ttyS1", "", "ttyS1:0 tty1:0 hvc0:0"},
		// The kernel took the absent ttyS3 and none of the others.
		{"ttyS3 tty0\n", "ttyS3 ttyS1,115200n8 tty0 ttyS0,9600", "tty1:0 ttyS3:0 ttyS1:115200 ttyS0:9600"},
		{"ttynull0 ttyAMA0\n", "null uart8250,io,0x3f8 brl", "ttyAMA0:0"},
		{"../mem .. x/y tty", "../../etc/x1", "tty1:0"},
		{"", "", ""},
	} {
		var got []string
		for _, x := range Terminals(c.active, strings.Fields(c.words)) {
			got = append(got, fmt.Sprintf("%s:%d", x.Name, x.Baud))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("Terminals(%q, %q) = %v, want %q", c.active, c.words, got, c.want)
		}
	}
}

func TestTerm(t *testing.T) {
	for name, want := range map[string]string{"tty1": "linux", "ttyS0": "vt220", "hvc0": "vt220", "tty": "vt220", "console": "vt220"} {
		if got := Term(name); got != want {
			t.Errorf("Term(%s) = %s, want %s", name, got, want)
		}
	}
}

// pty makes a terminal that nobody reads and returns its name below /dev.
func pty(t *testing.T) (master int, name string) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return fd, fmt.Sprintf("pts/%d", n)
}

func TestOpenRepairsTerminal(t *testing.T) {
	_, name := pty(t)
	fd, err := unix.Open("/dev/"+name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	raw, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	raw.Lflag, raw.Oflag, raw.Iflag = 0, 0, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, raw); err != nil {
		t.Fatal(err)
	}
	f, err := Open(Terminal{Name: name, Baud: 19200})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if got.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != unix.ICANON|unix.ECHO|unix.ISIG || got.Oflag&unix.OPOST == 0 {
		t.Errorf("still raw: lflag %o, oflag %o", got.Lflag, got.Oflag)
	}
	if got.Cflag&unix.CBAUD != unix.B19200 || got.Cflag&unix.CLOCAL == 0 {
		t.Errorf("cflag %o", got.Cflag)
	}
	if fl, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0); err != nil || fl&unix.O_NONBLOCK != 0 {
		t.Errorf("reads of the session do not wait: flags %o, %v", fl, err)
	}
}

// A terminal that takes nothing more must not stop the writer.
func TestSayDoesNotBlock(t *testing.T) {
	_, name := pty(t)
	// Keep it open: the last close would throw the text away.
	f, err := Open(Terminal{Name: name, Baud: 19200})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var last error
	for range 200 {
		last = Say(name, strings.Repeat("x", 1000))
	}
	if last == nil {
		t.Error("a full terminal took 200 kB")
	}
}

func TestOpenWhatIsNoTerminal(t *testing.T) {
	for _, name := range []string{"null", "absent-terminal"} {
		if f, err := Open(Terminal{Name: name, Baud: 19200}); err == nil {
			f.Close()
			t.Errorf("%s was opened as a terminal", name)
		} else if !strings.Contains(err.Error(), name) {
			t.Errorf("error does not name it: %v", err)
		}
	}
}

func TestActiveWithoutList(t *testing.T) {
	got := Active(nil)
	if _, err := os.Stat(ActivePath); err != nil && !slices.Equal(got, []Terminal{{Name: "console"}, {Name: "tty1"}}) {
		t.Errorf("no list: %v", got)
	}
	if len(got) == 0 {
		t.Error("no console at all")
	}
}
