package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/internal/kmod"
)

// modprobeArgs are the arguments of modprobe.
type modprobeArgs struct {
	names            []string
	params           []string
	quiet, verbose   bool
	all, dry, remove bool
	root, release    string
}

// parseModprobe reads arguments as kmod's modprobe does. The kernel itself
// calls "modprobe -q -- ALIAS".
func parseModprobe(args []string) (a modprobeArgs, err error) {
	a.root = "/"
	i := 0
	for ; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			i++
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			break
		}
		value := func() string {
			if i++; i < len(args) {
				return args[i]
			}
			err = fmt.Errorf("%s needs a value", arg)
			return ""
		}
		switch arg {
		case "-S", "--set-version":
			a.release = value()
		case "-d", "--dirname":
			a.root = value()
		default:
			err = a.flags(arg)
		}
		if err != nil {
			return a, err
		}
	}
	if rest := args[i:]; a.all {
		a.names = rest
	} else if len(rest) > 0 {
		a.names, a.params = rest[:1], rest[1:]
	}
	if len(a.names) == 0 {
		return a, errors.New("no module named; example: modprobe ext4")
	}
	return a, nil
}

var longFlags = map[string]byte{"--quiet": 'q', "--all": 'a', "--verbose": 'v', "--dry-run": 'n', "--show": 'n', "--show-depends": 'D',
	"--remove": 'r', "--use-blacklist": 'b', "--syslog": 's', "--ignore-install": 'i', "--first-time": 'F'}

func (a *modprobeArgs) flags(arg string) error {
	letters := arg[1:]
	if strings.HasPrefix(arg, "--") {
		letters = string(longFlags[arg])
	}
	for _, c := range letters {
		switch c {
		case 'q':
			a.quiet = true
		case 'v':
			a.verbose = true
		case 'a':
			a.all = true
		case 'n':
			a.dry, a.verbose = true, true
		case 'D':
			a.dry, a.verbose = true, true
		case 'r':
			a.remove = true
		case 'b', 's', 'i', 'F': // nothing else to do here than what we do anyway
		default:
			return fmt.Errorf("option %s is not known", arg)
		}
	}
	return nil
}

// modprobe is the command: names or aliases with all they need, soft
// dependencies, options of modprobe.d and the kernel command line.
func modprobe(args []string, stdout, stderr io.Writer) int {
	a, err := parseModprobe(args)
	if err == nil && a.remove {
		err = errors.New("modules are not removed in the rescue system; use rmmod")
	}
	if err != nil {
		fmt.Fprintln(stderr, "modprobe:", err)
		return 1
	}
	l, err := modprobeLoader(a, stdout)
	if err != nil {
		if !a.quiet {
			fmt.Fprintln(stderr, "modprobe:", err)
		}
		return 1
	}
	code := 0
	for _, n := range a.names {
		if err := l.Load(n, a.params...); err != nil {
			code = 1
			// -q is about what need not be there; a fault is told in any case.
			if !a.quiet || !errors.Is(err, kmod.ErrUnknown) && !errors.Is(err, kmod.ErrBlacklisted) {
				fmt.Fprintln(stderr, "modprobe:", err)
			}
		}
	}
	return code
}

// notLoaded makes a dry run show everything, whatever runs here.
type notLoaded struct{ kmod.Linux }

func (notLoaded) Loaded(string) bool { return false }

func modprobeLoader(a modprobeArgs, stdout io.Writer) (*kmod.Loader, error) {
	if a.release == "" {
		var u unix.Utsname
		if err := unix.Uname(&u); err != nil {
			return nil, err
		}
		a.release = unix.ByteSliceToString(u.Release[:])
	}
	dir, err := kmod.Folder(a.root, a.release)
	if err != nil {
		return nil, err
	}
	set, err := kmod.Open(dir)
	if err != nil {
		return nil, err
	}
	conf, err := kmod.ReadConf(a.root)
	if err != nil {
		return nil, err
	}
	if b, err := os.ReadFile("/proc/cmdline"); err == nil {
		conf.Cmdline(string(b))
	}
	l := &kmod.Loader{Set: set, Conf: conf, Kernel: kmod.Linux{}, DryRun: a.dry}
	if a.dry {
		l.Kernel = notLoaded{}
	}
	if a.verbose {
		l.Log = func(f string, args ...any) { fmt.Fprintf(stdout, f+"\n", args...) }
	}
	return l, nil
}
