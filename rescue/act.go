package rescue

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/internal/chroot"
	"lifeboat/internal/probe"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
	"lifeboat/rescue/adapt"
	"lifeboat/rescue/bootloader"
	"lifeboat/rescue/restore"
	"lifeboat/rescue/storage"
)

// journalDir is in the target's root while the recovery runs.
const journalDir = ".lifeboat-recover"

// actor carries the steps of one plan out.
type actor struct {
	s    *session
	res  *report.Result
	st   *storage.Storage
	root *chroot.Root // made when the first step needs it
	ad   *adapt.Adapter
	open bool  // the target's root is mounted
	lost error // files that could not be restored; the rest is finished all the same
	// earlier is where an earlier try of the same plan is gone on with; empty
	// when everything is built fresh.
	earlier earlier
}

// carryOut writes: from here on the old content of the targets is gone.
func (s *session) carryOut(ctx context.Context, res *report.Result) error {
	if err := s.lastLook(ctx); err != nil {
		res.State = "refused"
		return err
	}
	a := &actor{s: s, res: res}
	attempt, err := s.nextAttempt()
	if err != nil {
		res.State = "refused"
		return err
	}
	a.st, err = storage.New(s.storageOptions(attempt))
	if err != nil {
		res.State = "refused"
		return err
	}
	s.keepOld(ctx, a.st)
	// The claim compares every target once more, and is the first write.
	if err := s.phase("claim", func() error { return a.st.Claim(ctx) }); err != nil {
		res.State = "refused"
		return err
	}
	s.begun(attempt)
	defer a.leave()
	resumed, err := a.resume(ctx)
	if err != nil {
		return err
	}
	a.openJournal(resumed)
	if err := a.stages(ctx, resumed); err != nil {
		return err
	}
	return a.lost
}

// lastLook probes and plans once more: a twin, a cable or a medium may have
// come since the plan was shown, and then it is another plan.
func (s *session) lastLook(ctx context.Context) error {
	shown := s.plan
	if err := s.look(ctx); err != nil {
		return err
	}
	s.plan = plan.Make(s.input())
	if err := s.plan.Err(); err != nil {
		return err
	}
	if !sameTargets(shown, s.plan) {
		return report.Errorf(report.CodeDiskChanged, "start again: the plan is made anew", "the disks of this machine changed while the plan was shown; nothing was erased")
	}
	return nil
}

func sameTargets(a, b *plan.Plan) bool {
	if a.ID != b.ID || len(a.Assignments) != len(b.Assignments) || len(a.Untouched) != len(b.Untouched) {
		return false
	}
	for i := range a.Assignments {
		x, y := a.Assignments[i], b.Assignments[i]
		if x.Node != y.Node || x.Disk.DevNo != y.Disk.DevNo || x.Disk.Serial != y.Disk.Serial || x.Disk.WWN != y.Disk.WWN || x.Disk.Bytes != y.Disk.Bytes {
			return false
		}
	}
	return true
}

func (s *session) storageOptions(attempt int) storage.Options {
	o := storage.Options{Run: s.w.Exec, Plan: s.plan, Root: s.w.Target, Sink: s.w.J,
		Claim: manifest.Claim{Order: s.w.Order.ID, Manifest: s.manifest.Digest(), Host: s.manifest.Host.Name, Attempt: attempt, Time: time.Now().UTC().Format(time.RFC3339)}}
	o.Medium = s.ownMedia()
	if b := localBackup(s.object); b != "" {
		o.Backup = []string{b}
	}
	return o
}

// stages runs the plan stage by stage and times each. After what was opened
// there is nothing to release and to build.
func (a *actor) stages(ctx context.Context, resumed bool) error {
	acts := a.acts()
	for _, st := range []plan.Stage{plan.StageRelease, plan.StageStorage, plan.StageMount, plan.StageRestore, plan.StageAdapt, plan.StageBootloader, plan.StageFinish} {
		if resumed && (st == plan.StageRelease || st == plan.StageStorage) {
			continue
		}
		if err := a.stage(ctx, st, acts); err != nil {
			return err
		}
	}
	return nil
}

// stage runs the steps of one stage and keeps what failed without ending it.
func (a *actor) stage(ctx context.Context, st plan.Stage, acts Acts) error {
	return a.s.phase(string(st), func() error {
		problems, err := a.s.w.J.Steps(ctx, a.s.plan, acts, st, st)
		if err != nil && len(problems) > 0 {
			problems = problems[:len(problems)-1] // the last one is err itself
		}
		a.s.problems = append(a.s.problems, problems...)
		return err
	})
}

// acts is the table of all verbs: storage's own, and what works on the
// mounted target.
func (a *actor) acts() Acts {
	out := Acts{
		plan.VerbRestore: a.restore, plan.VerbPoints: a.points,
		plan.VerbNetwork:   a.adapted((*adapt.Adapter).Network),
		plan.VerbIDs:       a.adapted((*adapt.Adapter).IDs),
		plan.VerbInitramfs: a.adapted((*adapt.Adapter).Initramfs),
		plan.VerbGRUB:      a.loader((*bootloader.Loader).InstallBIOS),
		plan.VerbGRUBEFI:   a.loader((*bootloader.Loader).InstallEFI),
		plan.VerbNVRAM:     a.loader((*bootloader.Loader).NVRAM),
		plan.VerbBootCheck: a.loader((*bootloader.Loader).Check),
		plan.VerbReport:    a.report,
	}
	for v, act := range a.st.Acts() {
		out[v] = Act(act)
	}
	out[plan.VerbMkfs] = func(ctx context.Context, s plan.Step, progress func(int64, int64)) error {
		if err := a.s.spendKept(); err != nil {
			return err
		}
		return a.st.Acts()[plan.VerbMkfs](ctx, s, progress)
	}
	out[plan.VerbMount] = a.mount
	out[plan.VerbUnmount] = a.unmount
	return out
}

// mount adds the journal as soon as the target's root is there.
func (a *actor) mount(ctx context.Context, s plan.Step, progress func(int64, int64)) error {
	if err := a.st.Acts()[plan.VerbMount](ctx, s, progress); err != nil {
		return err
	}
	if s.Arg != "/" {
		return nil
	}
	a.open = true
	return a.s.w.J.AddFile(a.journal(), true)
}

func (a *actor) journal() string {
	return filepath.Join(a.s.w.Target, journalDir, "journal.jsonl")
}

func (a *actor) restore(ctx context.Context, _ plan.Step, progress func(int64, int64)) error {
	without := restore.Without(a.s.archive.Info(), &a.s.plan.Target)
	for _, path := range without {
		a.s.w.J.Note("%s is in the backup, but has no filesystem in the target: its files are left out", path)
	}
	r, err := restore.Archive(ctx, a.s.archive, a.s.w.Target, restore.Options{
		Without: without, Progress: progress, From: a.earlier.last.At, Lost: a.earlier.last.Lost, Keep: a.save})
	if r != nil {
		a.res.Bytes = r.Skipped + r.Bytes
		a.s.w.J.Note("Restored: %s", restore.Summary(r))
	}
	if err == nil {
		return nil
	}
	p := report.ProblemOf(err)
	if p.Code != report.CodeRestoreFiles {
		return err
	}
	// Without its boot loader the rest of the files would be worth nothing.
	a.s.w.J.Problem(p)
	a.lost = err
	a.res.Problems = append(a.res.Problems, p)
	return nil
}

func (a *actor) points(context.Context, plan.Step, func(int64, int64)) error {
	made, err := restore.Points(a.s.w.Target, a.s.manifest, &a.s.plan.Target)
	if len(made) > 0 {
		a.s.w.J.Note("Made %d mount points and standard directories that the backup does not hold", len(made))
	}
	return err
}

// enter makes the target a place to run programs in, once.
func (a *actor) enter() error {
	if a.root != nil {
		return nil
	}
	var err error
	if a.root, err = a.s.enterTarget(); err != nil {
		return err
	}
	a.ad = &adapt.Adapter{Root: a.root, Manifest: a.s.manifest, Plan: a.s.plan, Machine: a.s.machine,
		Renames: append(append([]plan.Rename(nil), a.s.plan.Renames...), a.st.Renames()...), Sink: a.s.w.J}
	return nil
}

func (a *actor) adapted(f func(*adapt.Adapter, context.Context, plan.Step) error) Act {
	return func(ctx context.Context, s plan.Step, _ func(int64, int64)) error {
		if err := a.enter(); err != nil {
			return err
		}
		return f(a.ad, ctx, s)
	}
}

func (a *actor) loader(f func(*bootloader.Loader, context.Context, plan.Step) error) Act {
	return func(ctx context.Context, s plan.Step, _ func(int64, int64)) error {
		if err := a.enter(); err != nil {
			return err
		}
		l := &bootloader.Loader{Root: a.root, Manifest: a.s.manifest, Plan: a.s.plan, Run: a.s.w.Exec, Sink: a.s.w.J, Frozen: a.s.grubFrozen(),
			Device: func(id manifest.ID) (string, error) { return a.st.Device(ctx, id) }}
		return f(l, ctx, s)
	}
}

// report leaves the chroot first: what is written then is the system's own.
func (a *actor) report(context.Context, plan.Step, func(int64, int64)) error {
	if err := a.leaveRoot(); err != nil {
		return err
	}
	return a.s.writeReport(a.res, a.lost)
}

func (a *actor) unmount(ctx context.Context, s plan.Step, progress func(int64, int64)) error {
	// The journal says "unfinished" until all is on the disk.
	unix.Sync()
	a.s.w.J.Drop(a.journal())
	if err := os.RemoveAll(filepath.Dir(a.journal())); err != nil {
		return fmt.Errorf("take the journal away: %w", err)
	}
	err := a.st.Acts()[plan.VerbUnmount](ctx, s, progress)
	a.open = a.open && err != nil
	return err
}

func (a *actor) leaveRoot() error {
	if a.root == nil {
		return nil
	}
	err := a.root.Close()
	a.root = nil
	return err
}

// leave tidies up after a failure: programs' mounts go, so that another try
// can begin. The target itself stays mounted for a person to look at.
func (a *actor) leave() {
	a.s.w.J.Drop(a.journal())
	if err := a.leaveRoot(); err != nil {
		a.s.w.Exec.Log("leave the restored system: %v", err)
	}
	if a.open {
		a.s.w.J.Note("What was restored stays mounted at %s; `%s` opens a shell in it", a.s.w.Target, chroot.Verb)
	}
}

// look probes the machine afresh.
func (s *session) look(ctx context.Context) error {
	opt := probe.Options{Run: s.w.Exec, Rescue: true, OpenedMounts: []string{s.w.Target}}
	if s.medium == nil {
		s.medium = s.w.findMedium(ctx, 0) // one that came late
	}
	opt.Medium = s.ownMedia()
	if b := localBackup(s.object); b != "" {
		opt.Backup = []string{b}
	}
	var err error
	s.machine, err = probe.Machine(ctx, opt)
	return err
}

// localBackup is the path of a backup that lies on this machine, "" for one
// that comes over the network.
func localBackup(o interface{ Name() string }) string {
	if o == nil || !filepath.IsAbs(o.Name()) {
		return ""
	}
	return o.Name()
}
