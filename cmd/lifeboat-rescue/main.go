// Command lifeboat-rescue is the lifeboat command of the rescue system: the
// worker and the console sessions that PID 1 starts.
// Level 7: composition.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"lifeboat/internal/kmod"
)

func main() {
	verb := ""
	if len(os.Args) > 1 {
		verb = os.Args[1]
	}
	var err error
	switch verb {
	case "worker":
		err = worker()
	case "console":
		err = console()
	default:
		fmt.Fprintf(os.Stderr, "lifeboat: verb %q is not known; known are worker and console\n", verb)
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lifeboat:", err)
		os.Exit(1)
	}
}

// worker loads the modules of all devices, and of those that appear, until it
// is asked to end.
func worker() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	dir, err := kmod.Folder("/", unix.ByteSliceToString(u.Release[:]))
	if err != nil {
		return err
	}
	set, err := kmod.Open(dir)
	if err != nil {
		return err
	}
	conf, err := kmod.ReadConf("/")
	if err != nil {
		return err
	}
	a := kmod.Autoloader{
		Loader: &kmod.Loader{Set: set, Conf: conf, Kernel: kmod.Linux{}},
		Failed: func(m string, err error) { fmt.Fprintln(os.Stderr, err) },
	}
	return a.Run(ctx, func() { fmt.Fprintln(os.Stderr, "all devices have their drivers") })
}

// console becomes a shell.
func console() error {
	for _, sh := range []string{"/usr/bin/bash", "/usr/bin/sh"} {
		if _, err := os.Stat(sh); err == nil {
			return syscall.Exec(sh, []string{filepath.Base(sh)}, os.Environ())
		}
	}
	return fmt.Errorf("no shell in this image")
}
