package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/init/internal/early"
	"lifeboat/init/internal/reap"
	"lifeboat/internal/handoff"
)

// end is a way for the system to end.
type end struct {
	signal  syscall.Signal
	command int
	text    string
}

const kexecSignal = syscall.Signal(handoff.KexecSignal)

var ends = map[string]end{
	"reboot":   {unix.SIGTERM, unix.LINUX_REBOOT_CMD_RESTART, "Rebooting"},
	"poweroff": {unix.SIGUSR2, unix.LINUX_REBOOT_CMD_POWER_OFF, "Powering off"},
	"halt":     {unix.SIGUSR1, unix.LINUX_REBOOT_CMD_HALT, "Halting"},
	"kexec":    {kexecSignal, unix.LINUX_REBOOT_CMD_KEXEC, "Starting the kernel that was loaded"},
}

// signals takes over every signal that asks for something, and every other
// that the Go runtime would end the process for when somebody sends it.
func signals() <-chan os.Signal {
	rest := make(chan os.Signal, 1)
	signal.Notify(rest, unix.SIGHUP, unix.SIGQUIT, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV,
		unix.SIGPIPE, unix.SIGALRM, unix.SIGSTKFLT, unix.SIGXCPU, unix.SIGXFSZ, unix.SIGVTALRM, unix.SIGPROF, unix.SIGIO, unix.SIGSYS)
	go func() {
		for range rest {
			continue // taken, and nothing to do
		}
	}()
	c := make(chan os.Signal, 16)
	signal.Notify(c, unix.SIGTERM, unix.SIGINT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPWR, kexecSignal)
	return c
}

func endOf(s os.Signal) (end, bool) {
	switch s {
	case unix.SIGTERM, unix.SIGINT:
		return ends["reboot"], true
	case unix.SIGUSR2, unix.SIGPWR:
		return ends["poweroff"], true
	case unix.SIGUSR1:
		return ends["halt"], true
	case kexecSignal:
		return ends["kexec"], true
	}
	return end{}, false
}

// Time that children have between SIGTERM and SIGKILL, and after that.
const (
	patience = 10 * time.Second
	mercy    = 3 * time.Second
)

// down ends all processes and leaves every filesystem clean.
func down(t *reap.Table, log reap.Log, stopping chan struct{}) {
	select {
	case <-stopping:
	default:
		close(stopping)
	}
	// From PID 1 this reaches every process but itself.
	_ = unix.Kill(-1, unix.SIGTERM)
	_ = unix.Kill(-1, unix.SIGHUP) // shells ignore SIGTERM
	_ = unix.Kill(-1, unix.SIGCONT)
	if !t.Empty(patience) {
		log("processes are left after %v; killing them", patience)
		_ = unix.Kill(-1, unix.SIGKILL)
		if !t.Empty(mercy) {
			log("processes cannot be killed; they wait for a device")
		}
	}
	early.Down(early.Log(log))
}

// shutdown understands the words of shutdown(8) that people type without
// thinking. Times and messages are left out: there is nobody to warn.
func shutdown(args []string) string {
	what := "poweroff"
	for _, a := range args {
		switch a {
		case "-r", "--reboot":
			what = "reboot"
		case "-H", "--halt":
			what = "halt"
		}
	}
	return what
}

// ask is reboot, poweroff and halt as commands.
func ask(name string, args []string, stderr io.Writer) int {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	force := fs.Bool("f", false, "at once: write out, end no process, unmount nothing")
	noSync := fs.Bool("n", false, "with -f: do not even write out")
	fs.Usage = func() {
		fmt.Fprintf(stderr, "%s: asks PID 1 to end all processes, unmount everything and %s.\nExample: %s\n", name, name, name)
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return 2
	}
	e := ends[name]
	var err error
	if *force {
		if !*noSync {
			unix.Sync()
		}
		err = unix.Reboot(e.command)
	} else {
		err = unix.Kill(1, e.signal)
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}
