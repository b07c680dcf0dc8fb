// Command lifeboat-rescue is the lifeboat command of the rescue system: the
// worker and the console sessions that PID 1 starts, and what people type.
// Level 7: composition.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"lifeboat/internal/chroot"
	"lifeboat/internal/cli"
	"lifeboat/internal/handoff"
	"lifeboat/internal/probe"
	"lifeboat/internal/run"
	"lifeboat/report"
	"lifeboat/rescue"
	"lifeboat/rescue/ui"
)

// verbs of the rescue system; worker, console and ssh are PID 1's.
var verbs = map[string]struct {
	run  func(ctx context.Context, o *cli.Out, args []string) error
	help string
}{
	"worker":   {worker, ""},
	"console":  {console, ""},
	"ssh":      {sshServer, ""},
	"recover":  {ask("recover"), "recover [--auto] [--backup URL|PATH] [--mapping FILE]: begin a recovery; a person confirms on any console (--auto: 30 s to stop it); another archive or mapping than the medium's counts for this try"},
	"plan":     {ask("plan"), "plan [--backup URL|PATH] [--mapping FILE]: show on every console what a recovery would do; changes nothing"},
	"status":   {status, "status: what happened so far (--json: as events)"},
	"repair":   {ask("repair"), "repair: bring back what starts an intact system (boot loader, initramfs, fstab ids, firmware entry); touches no data; a person confirms on any console"},
	"undo":     {ask("undo"), "undo: put back what was on the disks before a recovery began to write, as long as no filesystem was made; a person confirms on any console"},
	"diagnose": {diagnose, "diagnose: look at the installed system without a write, and judge it (--json: verdict and facts; --machine: the machine as the planner sees it, for lifeboat plan --machine)"},
	"enter":    {enter, "enter [PROGRAM ARGUMENT...]: a shell, or a program, in the restored system at " + rescue.TargetRoot + ", with /dev, /proc, /sys and /run as its tools need them"},
	"shell":    {shell, "shell: a shell"},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	o := cli.New()
	var args []string
	for _, a := range os.Args[1:] {
		// What follows enter is for the program there.
		if a == "--json" && (len(args) == 0 || args[0] != "enter") {
			o.JSON = true
			continue
		}
		args = append(args, a)
	}
	if len(args) == 0 || args[0] == "--help" || args[0] == "help" {
		help(o)
		return
	}
	v, ok := verbs[args[0]]
	if !ok {
		os.Exit(o.Fail(report.Errorf(report.CodeUsage, "see `lifeboat help`", "the verb %q is not known in the rescue system", args[0])))
	}
	os.Exit(o.Fail(v.run(ctx, o, args[1:])))
}

func help(o *cli.Out) {
	o.Print("Lifeboat, in the rescue system. Verbs:")
	for _, n := range []string{"recover", "plan", "repair", "undo", "diagnose", "status", "enter", "shell"} {
		o.Print("  lifeboat %s", verbs[n].help)
	}
	o.Print("Example: lifeboat plan")
}

// worker runs the recovery; only PID 1 starts it.
func worker(ctx context.Context, _ *cli.Out, _ []string) error {
	if os.Getppid() != 1 {
		return report.Errorf(report.CodeNotPID1, "use `lifeboat recover`", "the worker is started by PID 1 of the rescue system only")
	}
	// A restore allocates in bursts; the machine may have little memory.
	debug.SetGCPercent(50)
	w, err := rescue.NewWorker(ctx)
	if err != nil {
		return err
	}
	if err := w.Main(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// console shows the recovery on the terminal that PID 1 gave us.
func console(ctx context.Context, _ *cli.Out, _ []string) error {
	c := ui.New(os.Getenv("LIFEBOAT_CONSOLE"), func() error { return shell(ctx, nil, nil) })
	if err := c.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil // the machine goes down
}

// ask sends a request to the worker.
func ask(what string) func(context.Context, *cli.Out, []string) error {
	return func(_ context.Context, o *cli.Out, args []string) error {
		r, err := request(what, args)
		if err != nil {
			return err
		}
		if _, err := rescue.Send(handoff.AnswersPath, r); err != nil {
			return err
		}
		o.Print("Asked; follow it on the console, or with `lifeboat status`.")
		return nil
	}
}

// request reads the words of recover and plan. Paths are made absolute: the
// worker has another working folder than the shell.
func request(what string, args []string) (r rescue.Request, err error) {
	r = rescue.Request{Do: what, Attended: true, From: "shell"}
	f := flag.NewFlagSet(what, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&r.Backup, "backup", "", "")
	f.StringVar(&r.Mapping, "mapping", "", "")
	auto := false
	if what == "recover" {
		f.BoolVar(&auto, "auto", false, "")
	}
	err = f.Parse(args)
	if err == nil && f.NArg() > 0 {
		err = fmt.Errorf("%q is not known", f.Arg(0))
	}
	if err != nil {
		return r, report.Errorf(report.CodeUsage, "see `lifeboat help`", "%w", err)
	}
	r.Attended = !auto
	if r.Backup != "" && !strings.Contains(r.Backup, "://") {
		r.Backup, err = filepath.Abs(r.Backup)
	}
	if r.Mapping != "" && err == nil {
		r.Mapping, err = filepath.Abs(r.Mapping)
	}
	return r, err
}

// status prints the events so far.
func status(_ context.Context, o *cli.Out, _ []string) error {
	data, err := os.ReadFile(handoff.EventsPath)
	if err != nil {
		return fmt.Errorf("read the events: %w", err)
	}
	for _, l := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		var e report.Event
		if json.Unmarshal([]byte(l), &e) != nil {
			continue
		}
		switch {
		case o.JSON:
			fmt.Fprintln(o.Stdout, l)
		case e.Kind != report.Progress && e.Text != "":
			o.Print("%s %-8s %s", e.Time.Format("15:04:05"), e.Kind, e.Text)
		}
	}
	return nil
}

// diagnose asks the worker, who owns the disks, for a look at the installed
// system; --machine prints what the planner sees of the machine.
func diagnose(ctx context.Context, o *cli.Out, args []string) error {
	if len(args) == 1 && args[0] == "--machine" {
		m, err := probe.Machine(ctx, probe.Options{Run: run.Exec{}, Rescue: true, OpenedMounts: []string{rescue.TargetRoot}})
		if err != nil {
			return err
		}
		return o.Value(m)
	}
	r, err := request("diagnose", args)
	if err != nil {
		return err
	}
	rep, err := rescue.Send(handoff.AnswersPath, r)
	if err != nil {
		return err
	}
	var t rescue.Triage
	if err := json.Unmarshal(rep.Data, &t); err != nil {
		return fmt.Errorf("understand the worker's answer: %w", err)
	}
	if o.JSON {
		return o.Value(t)
	}
	for _, l := range t.Verdict.Lines() {
		o.Print("%s", l)
	}
	return nil
}

// enter becomes a shell in the restored system.
func enter(_ context.Context, o *cli.Out, args []string) error {
	if len(args) == 0 {
		o.Print("This is the restored system; `exit` leaves it.")
	}
	return chroot.Shell(rescue.TargetRoot, args)
}

// shell becomes a shell.
func shell(context.Context, *cli.Out, []string) error {
	sh, err := findShell()
	if err != nil {
		return err
	}
	return syscall.Exec(sh, []string{"-" + filepath.Base(sh)}, os.Environ())
}

func findShell() (string, error) {
	for _, sh := range []string{"/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/sh", "/bbin/gosh"} {
		if _, err := os.Stat(sh); err == nil {
			return sh, nil
		}
	}
	return "", fmt.Errorf("this image holds no shell")
}
