package rescue

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"strings"

	"lifeboat/internal/chroot"
	"lifeboat/internal/handoff"
	"lifeboat/internal/sysroot"
	"lifeboat/plan"
	"lifeboat/report"
	"lifeboat/rescue/adapt"
	"lifeboat/rescue/bootloader"
	"lifeboat/rescue/storage"
	"lifeboat/rescue/triage"
)

// mend runs one repair for the menu or the order of this boot.
func (w *Worker) mend(ctx context.Context, r Request) *report.Result {
	w.setBusy(true)
	defer w.setBusy(false)
	res := w.repair(ctx, r)
	w.saveResult(res)
	if res.Exit == report.ExitOK && r.own {
		switch w.Order.Then {
		case handoff.Reboot:
			w.power(ctx, false)
		case handoff.Poweroff:
			w.power(ctx, true)
		}
	}
	return res
}

func (w *Worker) setBusy(b bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy = b
}

// repair brings back what starts an intact system, without touching its data.
func (w *Worker) repair(ctx context.Context, r Request) (res *report.Result) {
	w.disks.Lock()
	defer w.disks.Unlock()
	s := w.newSession(r)
	defer s.close()
	res = &report.Result{Kind: plan.KindRepair, Order: w.Order.ID, Host: w.Order.Host, Started: s.began.UTC(), State: "refused"}
	var err error
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("a fault in lifeboat itself: %v; the log holds the details", r)
			w.Exec.Log("panic: %v\n%s", r, stack())
		}
		s.finish(res, err)
	}()
	s.keep = true
	t, err := s.lookOnly(ctx)
	if err != nil {
		return res
	}
	s.say(t)
	if err = repairable(t); err != nil {
		return res
	}
	if err = s.planRepair(t); err != nil {
		return res
	}
	if err = s.confirmRepair(ctx); err != nil {
		return res
	}
	res.State = "failed"
	err = s.carryOutRepair(ctx, t, res)
	return res
}

// repairable refuses what no repair brings back.
func repairable(t *Triage) error {
	v := &t.Verdict
	switch {
	case v.Kind == triage.Healthy:
		return report.Errorf(report.CodeNoRepair, v.Next, "there is nothing to repair: %s", v.Line)
	case v.Kind != triage.Intact:
		return report.Errorf(report.CodeNoRepair, v.Next, "a repair does not bring this system back: %s", v.Line)
	case v.Blocked != "":
		return report.Errorf(report.CodeNoRepair, "then try again", "%s", v.Blocked)
	}
	return nil
}

// planRepair plans by what the look found: the installed kernels count, which
// may be others than the captured ones.
func (s *session) planRepair(t *Triage) error {
	m := *s.manifest
	m.System.Kernels = t.Facts.Kernels()
	s.manifest = &m
	v := &t.Verdict.Repair
	mend := plan.Mend{Disks: t.Facts.Disks(), Tables: v.Tables, MakeESPs: v.MakeESPs, Sectors: v.Sectors, ESPs: v.ESPs, NVRAM: v.NVRAM,
		Initramfs: v.Initramfs, Modules: v.Modules, Config: v.Config, Fstab: v.Fstab}
	for _, x := range v.Renamed {
		kind := "fs-uuid"
		if n := m.Storage.Node(x.ID); n != nil && n.Swap != nil {
			kind = "swap-uuid"
		}
		mend.Renames = append(mend.Renames, plan.Rename{Kind: kind, Old: x.Was, New: x.Is, Node: x.ID})
	}
	s.plan = plan.Repair(plan.Input{Manifest: s.manifest, Machine: s.machine, Policy: plan.Policy{Order: s.order.ID, Method: "none"}}, mend)
	if data, err := json.Marshal(s.plan); err == nil {
		_ = os.WriteFile("/run/lifeboat/plan.json", data, 0o600)
	}
	for _, p := range s.plan.Warnings {
		s.w.J.Problem(p)
	}
	return s.plan.Err()
}

// confirmRepair shows what will be written to. A person types the host's name;
// an order for a repair waits 30 s for a key that stops it.
func (s *session) confirmRepair(ctx context.Context) error {
	for _, l := range s.plan.DiskLines() {
		s.w.J.Note("%s", l)
	}
	for i, st := range s.plan.Steps {
		s.w.J.Note("  %2d. %s", i+1, st.Text(&s.plan.Target, s.plan))
	}
	host := s.manifest.Host.Name
	if s.attended {
		r, err := s.w.T.Ask(ctx, Question{Kind: "type", Title: "Type the host's name, " + host + ", to repair it; anything else goes back"})
		if err != nil {
			return err
		}
		if strings.TrimSpace(r.Text) != host {
			return report.Errorf(report.CodeDeclined, "choose again", "%q is not the host's name; nothing was written", r.Text)
		}
		return nil
	}
	return s.w.countDown(ctx, fmt.Sprintf("The repair begins in %.0f s; any key stops it", countdown.Seconds()), countdown, s.own,
		report.Errorf(report.CodeDeclined, "choose from the menu", "a person stopped the repair; nothing was written"))
}

// carryOutRepair runs the steps. A failure leaves nothing mounted: there is no
// half-built system to look at, and another try begins with a look.
func (s *session) carryOutRepair(ctx context.Context, t *Triage, res *report.Result) error {
	st, err := storage.New(s.storageOptions(0))
	if err != nil {
		return err
	}
	a := &actor{s: s, res: res, st: st}
	acts := a.repairActs(t)
	for _, stage := range plan.RepairStages {
		err := a.stage(ctx, stage, acts)
		if err != nil {
			if err2 := a.leaveRoot(); err2 != nil {
				s.w.Exec.Log("leave the installed system: %v", err2)
			}
			if err2 := acts[plan.VerbUnmount](context.WithoutCancel(ctx), plan.Step{}, nil); err2 != nil {
				s.w.J.Note("What the repair opened could not be closed: %v", err2)
			}
			return err
		}
	}
	return nil
}

func (a *actor) repairActs(t *Triage) Acts {
	out := Acts{
		plan.VerbIDs:        a.adapted((*adapt.Adapter).IDs),
		plan.VerbInitramfs:  a.adapted((*adapt.Adapter).Initramfs),
		plan.VerbGRUB:       a.loader((*bootloader.Loader).InstallBIOS),
		plan.VerbGRUBEFI:    a.loader((*bootloader.Loader).InstallEFI),
		plan.VerbNVRAM:      a.loader((*bootloader.Loader).NVRAM),
		plan.VerbGRUBConfig: a.loader((*bootloader.Loader).Config),
		plan.VerbBootCheck:  a.loader((*bootloader.Loader).Check),
		plan.VerbFstab: a.adapted(func(ad *adapt.Adapter, ctx context.Context, s plan.Step) error {
			var lines []adapt.Line
			for _, x := range t.Facts.Boot.Fstab {
				lines = append(lines, adapt.Line{Path: x.Path, Old: x.Spec, New: x.Should})
			}
			return ad.MendFstab(lines)(ctx, s)
		}),
		plan.VerbReport: func(context.Context, plan.Step, func(int64, int64)) error {
			if err := a.leaveRoot(); err != nil {
				return err
			}
			return a.s.repairReport(t, a.res)
		},
	}
	for v, act := range a.st.RepairActs() {
		out[v] = Act(act)
	}
	return out
}

// writable tells whether a repair mounted a path's filesystem for writing.
func writable(p *plan.Plan, name string) bool {
	best, rw := "", false
	for _, st := range p.Steps {
		if (st.Verb == plan.VerbMount || st.Verb == plan.VerbMountRO) && len(st.Arg) >= len(best) &&
			(st.Arg == "/" || name == st.Arg || strings.HasPrefix(name, st.Arg+"/")) {
			best, rw = st.Arg, st.Verb == plan.VerbMount
		}
	}
	return rw
}

// grubFrozen tells whether a repair leaves GRUB's folder as it is.
func (s *session) grubFrozen() bool {
	g := s.manifest.Boot.GRUB
	return s.plan.Kind == plan.KindRepair && g != nil && !writable(s.plan, string(g.Dir))
}

// enterTarget makes the installed system a place to run programs in. What is
// mounted read-only stays so.
func (s *session) enterTarget() (*chroot.Root, error) {
	var o chroot.Options
	if s.plan.Kind == plan.KindRepair {
		o.Scratch = !writable(s.plan, "/")
		if g := s.manifest.Boot.GRUB; s.grubFrozen() {
			// grub-install copies its modules into the installed system, where
			// they are whole already. Those of BIOS are not copied, see
			// bootloader.Loader.Frozen: the folder must be the real one.
			for _, d := range append([]string{"fonts", "locale"}, g.Platforms...) {
				if d == "i386-pc" {
					continue
				}
				o.Cover = append(o.Cover, path.Join(string(g.Dir), d))
			}
		}
	}
	return chroot.EnterWith(s.w.Target, s.w.Exec, o)
}

// repairReport leaves log and plan in the repaired system, if a place for them
// is open for writing anyway; else they stay in the rescue system.
func (s *session) repairReport(t *Triage, res *report.Result) error {
	dir := path.Join(TargetLogs, "repair-"+s.began.UTC().Format("20060102T150405Z"))
	if !writable(s.plan, dir) {
		s.w.J.Note("The report of the repair stays in the rescue system (%s, %s): nothing is written to the system but what starts it", LogPath, TriagePath)
		return nil
	}
	fs, err := sysroot.Open(s.w.Target)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	defer fs.Close()
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	now := s.soFar(*res)
	now.State = "done"
	var events []report.Event
	events = append(events, s.w.J.Events()...)
	for name, v := range map[string]any{"report.json": now, "plan.json": s.plan, "triage.json": t, "events.json": events} {
		data, err := json.MarshalIndent(v, "", "  ")
		if err == nil {
			err = fs.WriteFile(path.Join(dir, name), append(data, '\n'), 0o600)
		}
		if err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	return nil
}

// autoRepair carries out an order for a repair (lifeboat.recover=repair).
func (w *Worker) autoRepair(ctx context.Context) *report.Result {
	if w.Order.Reason != "" || w.Start > 1 {
		w.J.Note("The repair does not begin by itself: a person must decide")
		return loadResult()
	}
	return w.mend(ctx, Request{Do: "repair", own: true})
}
