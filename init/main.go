// Command init is PID 1 of the rescue system, and modprobe, reboot, poweroff,
// halt and shutdown when called by these names.
// Level 7: composition.
//
// PID 1 mounts, opens the consoles that the kernel really has, collects dead
// processes and keeps two kinds of children running. It touches no hardware:
// modules, network and recovery are the worker's, so that nothing of theirs
// can stop it.
//
// The contract with its children:
//
//   - "/usr/bin/lifeboat worker" runs without a terminal; its output goes to
//     /run/lifeboat/worker.log. LIFEBOAT_WORKER_START=n counts its starts from
//     1. However it ends it is started again, and should then offer a menu
//     instead of beginning something by itself.
//   - "/usr/bin/lifeboat ssh" runs in the same way when the order names keys; its
//     output goes to /run/lifeboat/ssh.log. It ends with PID 1 only.
//   - "/usr/bin/lifeboat console" runs on every console, those that the kernel
//     registered and those that console= names and the machine has, as leader
//     of its own session, the console being its controlling terminal and
//     standard input, output and error. LIFEBOAT_CONSOLE is the terminal's name,
//     such as ttyS0. It follows the events, shows the menu and may start or
//     become a shell. It is started again whenever it ends. After three failures
//     in a row a plain shell takes its place once.
//   - /run/lifeboat/order.json is the order of the image with the kernel command
//     line applied; /run/lifeboat/order.faults, if it exists, says what was
//     wrong with either, a line each. /run/lifeboat/init.log is PID 1's own log.
//   - PID 1 reboots on SIGTERM and SIGINT (Ctrl-Alt-Del), powers off on SIGUSR2
//     and SIGPWR, halts on SIGUSR1, and on SIGRTMIN+6, as systemd does, starts
//     the kernel that was loaded (kexec), or reboots when none was. The commands
//     reboot, poweroff, halt and shutdown [-r|-H] send these. All children get
//     SIGTERM and have 10 s to end.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/init/internal/console"
	"lifeboat/init/internal/early"
	"lifeboat/init/internal/reap"
	"lifeboat/internal/handoff"
	"lifeboat/internal/run"
)

func main() {
	name := filepath.Base(os.Args[0])
	switch {
	case name == "modprobe":
		os.Exit(modprobe(os.Args[1:], os.Stdout, os.Stderr))
	case name == "shutdown":
		os.Exit(ask(shutdown(os.Args[1:]), nil, os.Stderr))
	case ends[name].signal != 0:
		os.Exit(ask(name, os.Args[1:], os.Stderr))
	case os.Getpid() != 1:
		fmt.Fprintln(os.Stderr, "init: this is PID 1 of the rescue system; call it as reboot, poweroff, halt or modprobe")
		os.Exit(2)
	}
	pid1()
}

// pid1 never returns: even a fault in its own start must leave a system in
// which a person can look around.
func pid1() {
	lg := openLog()
	sigs := signals()
	table := reap.New()
	stopping := make(chan struct{})
	var order handoff.Order
	reap.Guard(lg.f, "start", func() { order = start(lg) })
	reap.Forever(lg.f, "worker", func() { worker(table, lg.f, stopping).Run() })
	if order.SSH != "" {
		reap.Forever(lg.f, "ssh", func() { sshServer(table, lg.f, stopping).Run() })
	}
	c := &consoles{table: table, log: lg.f, stopping: stopping, banner: banner(order), words: order.Consoles, running: map[string]bool{}}
	c.update()
	reap.Forever(lg.f, "console list", func() {
		if err := console.Watch(c.update); err != nil {
			lg.f("watching the list of consoles: %v", err)
		}
	})
	for {
		what := <-sigs
		e, ok := endOf(what)
		if !ok {
			continue
		}
		c.say("\n" + e.text + "\n")
		reap.Guard(lg.f, "going down", func() { down(table, lg.f, stopping) })
		err := unix.Reboot(e.command)
		lg.f("%s: %v", e.text, err)
		if e.command == unix.LINUX_REBOOT_CMD_KEXEC {
			// Nothing runs any more, and no kernel is loaded: as if a restart was asked for.
			err = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
			lg.f("restart: %v", err)
		}
	}
}

// start brings up the bare system.
func start(lg *logger) handoff.Order {
	unix.Umask(0o022)
	os.Clearenv() // the kernel puts words of its command line here
	for _, kv := range environment("linux") {
		k, v, _ := strings.Cut(kv, "=")
		os.Setenv(k, v)
	}
	// A growing heap in PID 1 is a fault of ours; the machine's memory is for the worker.
	debug.SetMemoryLimit(64 << 20)
	early.Mount(lg.f)
	early.Tree(lg.f)
	lg.attach()
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		lg.f("reading the kernel command line: %v", err)
	}
	cmdline := strings.TrimSpace(string(b))
	order := early.WriteOrder(lg.f, cmdline)
	early.Settings(lg.f, handoff.Words(cmdline), order.Debug)
	early.Hostname(lg.f, order.Host)
	return order
}

// environment is what children get.
func environment(term string, more ...string) []string {
	env := make([]string, 0, len(run.DefaultEnv)+len(more))
	for _, kv := range run.DefaultEnv {
		if strings.HasPrefix(kv, "TERM=") {
			kv = "TERM=" + term
		}
		env = append(env, kv)
	}
	return append(env, more...)
}

func banner(o handoff.Order) string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	s := "Lifeboat rescue system"
	if o.Host != "" {
		s += " of " + o.Host
	}
	if o.Built != "" {
		s += ", built " + o.Built
	}
	return fmt.Sprintf("\n%s, kernel %s\n", s, unix.ByteSliceToString(u.Release[:]))
}
