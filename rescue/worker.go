package rescue

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/internal/handoff"
	"lifeboat/internal/run"
	"lifeboat/plan"
	"lifeboat/report"
)

// Places of the rescue system.
const (
	TargetRoot = "/mnt/target"               // where the restored system is mounted
	LogPath    = "/run/lifeboat/log.txt"     // programs started, with their output on failure
	countdown  = 30 * time.Second            // on every console before an unattended recovery
	StartEnv   = "LIFEBOAT_WORKER_START"     // set by PID 1: 1 for the first start of the worker
	ResultPath = "/run/lifeboat/result.json" // of the last run
	TargetLogs = "/var/log/lifeboat"         // in the restored system
)

// Worker carries out the order of this boot. It owns every write to a disk;
// consoles and shells only ask it.
type Worker struct {
	Order  handoff.Order
	J      *Journal
	T      *Talk
	Exec   run.Exec
	Start  int    // which start of the worker this is in this boot
	Target string // TargetRoot
	boot   bootState
	port   *port
	faulty bool // a word of the order was not understood
	net    network

	ctx   context.Context // of the worker, for what shells ask
	disks sync.Mutex      // held by whoever opens or writes disks
	mu    sync.Mutex
	busy  bool
	wish  chan Request
}

// bootState is what was found out once for this boot and holds for every try.
type bootState struct {
	drivers  sync.Once
	settled  chan struct{}
	faults   []report.Problem
	clockSet bool
	first    sync.Once
	until    int64 // the journal's number before the first try: what was told by then is of the whole boot
}

// NewWorker reads the order that PID 1 left and opens journal, log and
// socket.
func NewWorker(ctx context.Context) (*Worker, error) {
	w := &Worker{J: NewJournal(), Target: TargetRoot, wish: make(chan Request, 1)}
	w.boot.settled = make(chan struct{})
	w.ctx = ctx
	w.Start, _ = strconv.Atoi(os.Getenv(StartEnv))
	w.Start = max(w.Start, 1)
	if err := w.J.AddFile(handoff.EventsPath, false); err != nil {
		return nil, err
	}
	w.Exec.Log = fileLog(LogPath)
	data, err := os.ReadFile(handoff.OrderPath)
	if err != nil {
		return nil, fmt.Errorf("read the order of this boot: %w", err)
	}
	if w.Order, err = handoff.Decode(data); err != nil {
		return nil, err
	}
	if w.Start > 1 {
		killLeftovers()
	}
	w.orderFaults()
	w.T = NewTalk(w.J)
	w.T.Handle = w.handle
	return w, w.T.Serve(ctx, handoff.AnswersPath)
}

// killLeftovers ends programs that an earlier worker had started inside the
// target: they would hold its filesystems.
func killLeftovers() {
	roots, _ := filepath.Glob("/proc/[0-9]*/root")
	for _, r := range roots {
		link, err := os.Readlink(r)
		if err != nil || link != TargetRoot && !strings.HasPrefix(link, TargetRoot+"/") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(r))); err == nil && pid > 1 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// orderFaults says what PID 1 found wrong with the order or the kernel command
// line. A word that was not understood may have been meant to stop a recovery
// or to choose another backup: nothing begins by itself then.
func (w *Worker) orderFaults() {
	data, err := os.ReadFile(handoff.FaultsPath)
	if err != nil || len(strings.TrimSpace(string(data))) == 0 {
		return
	}
	for _, l := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		w.J.Problem(report.Problem{Code: report.CodeUsage, Severity: report.Warning, Text: l, Next: "correct it in the boot menu"})
	}
	w.faulty = true
	w.onlyMenu()
}

// onlyMenu has nothing begin by itself.
func (w *Worker) onlyMenu() {
	if w.Order.Recover == handoff.Auto || w.Order.Recover == handoff.Repair {
		w.Order.Recover = handoff.Menu
		w.J.Note("Because of that nothing begins by itself")
	}
}

// fileLog appends lines with the time since boot: the clock may be wrong.
func fileLog(path string) run.Logger {
	var mu sync.Mutex
	return func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return
		}
		defer f.Close()
		var ts unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
		fmt.Fprintf(f, "%10.3f %s\n", float64(ts.Nano())/1e9, fmt.Sprintf(format, args...))
	}
}

// handle answers requests of consoles and shells other than answers.
func (w *Worker) handle(r Request) Reply {
	switch r.Do {
	case "note": // of another child of PID 1, for every console
		w.J.Note("%s", r.Text)
		return Reply{OK: true}
	case "here":
		return w.personCame(r.From)
	case "diagnose":
		return w.diagnose(r)
	case "recover", "plan", "repair", "undo":
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.busy {
			return Reply{Error: "a recovery is running; follow it on the console or with `lifeboat status`"}
		}
		select {
		case w.wish <- r:
			return Reply{OK: true}
		default:
			return Reply{Error: "another request is waiting"}
		}
	}
	return Reply{Error: fmt.Sprintf("%q is not known", r.Do)}
}

// Main runs until the machine is restarted or ctx ends.
func (w *Worker) Main(ctx context.Context) error {
	w.J.Note("Lifeboat rescue system of %s, built %s", w.Order.Host, w.Order.Built)
	for _, f := range w.clampClock() {
		w.J.Note("%s", f)
	}
	w.keymap()
	w.startDrivers(ctx)
	if err := w.settle(ctx); err != nil {
		return err
	}
	w.virtual()
	go w.networkForPeople(ctx)
	if w.Order.Recover == handoff.Off {
		return w.bootLocal(ctx)
	}
	var last *report.Result
	if w.Order.Recover == handoff.Repair {
		last = w.autoRepair(ctx)
	} else {
		last = w.autoStart(ctx)
	}
	for ctx.Err() == nil {
		last = w.menu(ctx, last)
	}
	return ctx.Err()
}

// autoStart carries out an automatic order, when this start may.
func (w *Worker) autoStart(ctx context.Context) *report.Result {
	attempts := readAttempts()
	again := attempts + 1
	switch {
	case w.Order.Reason != "":
		w.J.Note("This image offers the menu only: %s", w.Order.Reason)
		return nil
	case w.Order.Recover != handoff.Auto:
		return nil
	case w.Start > maxAttempts:
		return w.usedUp("the recovery program was started %d times", w.Start)
	case hasEnded():
		w.J.Note("A try of this boot has ended already; a person must decide now")
		return loadResult()
	case attempts >= maxAttempts:
		return w.usedUp("writing was begun %d times", attempts)
	case w.Start > 1:
		w.J.Note("The recovery program ended in the middle; it starts again (attempt %d of %d)", again, maxAttempts)
	}
	res := w.try(ctx, Request{Do: "recover", own: true})
	if leadsToInstalled(res) {
		w.countToInstalled(ctx)
	}
	return res
}

// try runs one recovery and never lets a fault of ours end the worker.
func (w *Worker) try(ctx context.Context, r Request) *report.Result {
	w.mu.Lock()
	w.busy = true
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.busy = false
		w.mu.Unlock()
	}()
	res := w.recover(ctx, r)
	if err := endAttempt(); err != nil {
		w.Exec.Log("attempts: %v", err)
	}
	w.saveResult(res)
	if res.Exit != report.ExitOK {
		return res
	}
	switch w.Order.Then {
	case handoff.Reboot:
		w.power(ctx, false)
	case handoff.Poweroff:
		w.power(ctx, true)
	}
	return res
}

// menu asks what to do, after a run or at the start.
func (w *Worker) menu(ctx context.Context, last *report.Result) *report.Result {
	q := Question{Kind: "menu", Title: "What is to be done?", Choices: []Choice{
		{"1", recoverChoice(w.Order.Host, "step by step", "asks before it erases", restored(last))},
		{"2", recoverChoice(w.Order.Host, "automatically", "shows 30 s what will be erased", restored(last))},
		{"3", "Show the plan, change nothing"},
		{"4", "Restart this machine"},
		{"5", "Switch this machine off"},
		{"6", "Look at the installed system first, write nothing"},
		{"7", "Repair what starts the installed system, touch no data (asks before it writes)"},
		{"9", "Start the installed system"},
	}}
	if len(keptFolders([]string{keptRoot})) > 0 {
		q.Choices = append(q.Choices, Choice{"8", "Put back what was on the disks before the recovery, as long as no filesystem was made"})
	}
	if last != nil {
		q.Title = resultTitle(last)
		for _, p := range last.Problems {
			if p.Severity != report.Info { // those are in the report
				q.Lines = append(q.Lines, p.Line())
			}
		}
	}
	if w.Order.Reason != "" {
		q.Lines = append(q.Lines, "Attention: "+w.Order.Reason)
	}
	mctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answer := make(chan Request, 1)
	go func() {
		if r, err := w.T.Ask(mctx, q); err == nil {
			answer <- r
		}
	}()
	var r Request
	select {
	case <-ctx.Done():
		return last
	case r = <-answer:
	case r = <-w.wish:
		r.Text = map[string]string{"recover": "2", "plan": "3", "repair": "7", "undo": "8"}[r.Do]
		if r.Do == "recover" && r.Attended {
			r.Text = "1"
		}
	}
	return w.choose(ctx, r, last)
}

func (w *Worker) choose(ctx context.Context, r Request, last *report.Result) *report.Result {
	switch strings.TrimSpace(r.Text) {
	case "1":
		r.Attended = true
		return w.try(ctx, r)
	case "2":
		r.Attended = false
		return w.try(ctx, r)
	case "3":
		if err := w.showPlan(ctx, r); err != nil {
			w.J.Problem(report.ProblemOf(err))
		}
	case "6":
		if err := w.showVerdict(ctx, r); err != nil {
			w.J.Problem(report.ProblemOf(err))
		}
	case "7":
		r.Attended = true
		return w.mend(ctx, r)
	case "8":
		r.Attended = true
		return w.undo(ctx, r)
	case "9":
		w.startInstalled(ctx)
	case "4":
		w.power(ctx, false)
	case "5":
		w.power(ctx, true)
	default:
		w.J.Note("%q is not in the menu", r.Text)
	}
	return last
}

func resultTitle(r *report.Result) string {
	switch {
	case r.Kind == "undo" && r.Exit == report.ExitOK:
		return "The disks of " + r.Host + " are as they were before the recovery"
	case r.Kind == "undo" && r.State == "refused":
		return fmt.Sprintf("Nothing was written: nothing of %s was put back (exit code %d)", r.Host, r.Exit)
	case r.Kind == "undo":
		return fmt.Sprintf("Putting back the disks of %s failed (exit code %d)", r.Host, r.Exit)
	case r.Kind == plan.KindRepair && r.Exit == report.ExitOK:
		return r.Host + " is repaired"
	case r.Kind == plan.KindRepair && r.State == "refused":
		return fmt.Sprintf("Nothing was written: %s was not repaired (exit code %d)", r.Host, r.Exit)
	case r.Kind == plan.KindRepair:
		return fmt.Sprintf("The repair of %s failed (exit code %d)", r.Host, r.Exit)
	case r.Exit == report.ExitOK:
		return r.Host + " is recovered"
	case leadsToInstalled(r):
		return fmt.Sprintf("Nothing was erased: %s has a system that is to be started (exit code %d)", r.Host, r.Exit)
	case r.State == "refused":
		return fmt.Sprintf("Nothing was erased: the recovery of %s was refused (exit code %d)", r.Host, r.Exit)
	}
	return fmt.Sprintf("The recovery of %s failed (exit code %d)", r.Host, r.Exit)
}

// power restarts or switches off through PID 1, which unmounts first.
func (w *Worker) power(ctx context.Context, off bool) {
	sig, text := unix.SIGTERM, "Restarting"
	if off {
		sig, text = unix.SIGUSR2, "Switching off"
	}
	w.J.Note("%s this machine", text)
	w.end(ctx, sig)
}

// end has PID 1 end this system by one of its signals, once all that was said
// has gone out.
func (w *Worker) end(ctx context.Context, sig unix.Signal) {
	w.port.flush()
	if err := unix.Kill(1, sig); err != nil {
		w.J.Note("PID 1 did not take the order: %v", err)
		return
	}
	<-ctx.Done()
}

// bootLocal: this order has nothing to do here.
func (w *Worker) bootLocal(ctx context.Context) error {
	w.J.Note("Nothing is to be done here (lifeboat.recover=off)")
	if w.Start == 1 {
		w.countToInstalled(ctx)
	}
	for ctx.Err() == nil {
		w.menu(ctx, nil)
	}
	return ctx.Err()
}
