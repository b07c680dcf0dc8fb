package rescue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/internal/handoff"
	"lifeboat/internal/probe"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
	"lifeboat/rescue/bootlocal"
)

// localCountdown is how long every console offers to stay before the installed
// system is started.
const localCountdown = 10 * time.Second

// installedInstead decides what a recovery that nobody asked for ends with,
// when it is refused: where the order is done already or this host lives on
// (rules 4 and 5), that is the reason, whatever else stood in the way, and the
// installed system is what the machine is there for. A backup that is not
// reached must not hide it.
func (s *session) installedInstead(ctx context.Context, err error) error {
	if !s.own || s.attempt > 0 || ctx.Err() != nil || report.ProblemOf(err).Code == report.CodeDeclined {
		return err
	}
	p, lookErr := s.installed(ctx)
	if lookErr != nil {
		s.w.Exec.Log("look for an installed system: %v", lookErr)
	}
	if p == nil {
		return err
	}
	if was := report.ProblemOf(err); was.Code != p.Code {
		p.Details = append(p.Details, "besides: "+was.Line())
	}
	return &report.Fault{Problem: *p, Cause: err}
}

// installed looks for a system that is to be started in the place of a
// recovery; nil when there is none.
func (s *session) installed(ctx context.Context) (*report.Problem, error) {
	if s.manifest == nil {
		data, err := os.ReadFile(handoff.ManifestPath)
		if err == nil {
			s.manifest, err = manifest.Decode(data)
		}
		if err != nil {
			s.manifest = new(manifest.Manifest) // whether the order is done can be told all the same
		}
	}
	if s.machine == nil {
		if err := s.waitDisks(ctx); err != nil {
			return nil, err
		}
		if err := s.look(ctx); err != nil {
			return nil, err
		}
	}
	since := s.manifest.Made
	if s.archive != nil {
		since = s.archive.Info().Started
	}
	return plan.Local(s.manifest, s.machine, s.order.ID, since), nil
}

// leadsToInstalled tells whether a run ended because the machine has a system
// that is to be started.
func leadsToInstalled(r *report.Result) bool {
	if r == nil || r.State != "refused" || len(r.Problems) == 0 {
		return false
	}
	c := r.Problems[0].Code
	return r.Exit == report.ExitRefused && (c == report.CodeOrderDone || c == report.CodeLiving)
}

// countToInstalled starts the installed system unless somebody presses a key.
func (w *Worker) countToInstalled(ctx context.Context) {
	err := w.countDown(ctx, fmt.Sprintf("The installed system is started in %.0f s; any key keeps this rescue system", localCountdown.Seconds()), localCountdown, true, errKept)
	switch {
	case err == nil:
		w.startInstalled(ctx)
	case ctx.Err() == nil:
		w.J.Note("A person keeps the rescue system; the installed system can be started from the menu")
	}
}

// errKept says that a person pressed a key.
var errKept = errors.New("a person keeps the rescue system")

// startInstalled starts the system on the machine's own disks by the first way
// that works, and comes back when none does, having said why.
func (w *Worker) startInstalled(ctx context.Context) {
	w.disks.Lock()
	defer w.disks.Unlock()
	s := w.newSession(Request{})
	defer s.close()
	var why []string
	for _, way := range []func(context.Context, *session) error{w.byKernel, w.byFirmware, w.byEject} {
		err := way(ctx, s)
		if err == nil || ctx.Err() != nil {
			return
		}
		w.Exec.Log("start the installed system: %v", err)
		why = append(why, err.Error())
	}
	w.J.Problem(report.Problem{Code: report.CodeBootloader, Severity: report.Error, Text: "the installed system cannot be started from here",
		Details: why, Next: "take the medium out and restart: " + strings.Join(why, "; ")})
}

// openInstalled opens the machine's own disks for reading.
func (w *Worker) openInstalled(ctx context.Context, s *session) (*bootlocal.Disks, error) {
	s.medium = w.findMedium(ctx, 2*time.Second)
	bootlocal.MountVars()
	opt := bootlocal.Options{Probe: probe.Options{Run: w.Exec, Rescue: true, Medium: s.ownMedia(), OpenedMounts: []string{w.Target}}}
	if data, err := os.ReadFile(handoff.ManifestPath); err == nil {
		opt.Manifest, _ = manifest.Decode(data) // without it, a single system is found all the same
	}
	return bootlocal.Open(ctx, opt)
}

// byKernel starts the installed kernel in the place of this one, as its boot
// loader's configuration says.
func (w *Worker) byKernel(ctx context.Context, s *session) error {
	d, err := w.openInstalled(ctx, s)
	if err != nil {
		return err
	}
	k, err := d.Kernel()
	if err == nil {
		err = d.Load(k)
	}
	if err2 := d.Close(ctx); err2 != nil {
		w.Exec.Log("close the disks: %v", err2) // PID 1 unmounts what is left
	}
	if err != nil {
		return err
	}
	w.J.Note("Starting the installed system: %s", k)
	w.Exec.Log("installed kernel %s, arguments %s", k.Entry.Kernel, k.Args)
	w.end(ctx, unix.Signal(handoff.KexecSignal))
	return ctx.Err()
}

// byFirmware restarts the machine with the installed system's own entry.
func (w *Worker) byFirmware(ctx context.Context, s *session) error {
	d, err := w.openInstalled(ctx, s)
	if err != nil {
		return err
	}
	e, err := d.Entry()
	if err == nil {
		err = bootlocal.SetNext(e)
	}
	if err2 := d.Close(ctx); err2 != nil {
		w.Exec.Log("close the disks: %v", err2)
	}
	if err != nil {
		return err
	}
	w.J.Note("The firmware starts %q next (%s)", e.Label, e.Loader)
	w.power(ctx, false)
	return ctx.Err()
}

// byEject takes a CD out of the firmware's reach and restarts.
func (w *Worker) byEject(ctx context.Context, s *session) error {
	if s.medium == nil || !strings.HasPrefix(s.medium.Device, "sr") {
		return errors.New("the rescue medium is no CD that could be ejected")
	}
	if err := unix.Unmount(s.medium.Path, 0); err != nil {
		return fmt.Errorf("unmount the rescue medium: %w", err)
	}
	if err := bootlocal.Eject(nodeOf(s.medium.Device)); err != nil {
		return err
	}
	w.J.Note("The rescue medium is ejected; the machine restarts without it")
	w.power(ctx, false)
	return ctx.Err()
}
