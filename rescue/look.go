package rescue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/chroot"
	"lifeboat/internal/disklabel"
	"lifeboat/internal/handoff"
	"lifeboat/internal/probe"
	"lifeboat/internal/sysroot"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
	"lifeboat/rescue/adapt"
	"lifeboat/rescue/triage"
)

// TriagePath holds the facts and the verdict of the last look.
const TriagePath = "/run/lifeboat/triage.json"

// Triage is what a look at the installed system gave.
type Triage struct {
	Verdict triage.Verdict `json:"verdict"`
	Facts   *triage.Facts  `json:"facts"`
}

// backupPatience is how long a look waits for the backup: it only tells what
// is newer, and a machine without network is looked at all the same.
const backupPatience = 25 * time.Second

// errBusy answers who wants the disks while something is at work on them.
var errBusy = errors.New("something is at work on the disks; follow it on the console or with `lifeboat status`")

// diagnose answers a shell: it looks while the menu waits.
func (w *Worker) diagnose(r Request) Reply {
	if !w.disks.TryLock() {
		return Reply{Error: errBusy.Error()}
	}
	defer w.disks.Unlock()
	s := w.newSession(r)
	defer s.close()
	t, err := s.lookOnly(w.ctx)
	if err != nil {
		return Reply{Error: err.Error()}
	}
	data, err := json.Marshal(t)
	if err != nil {
		return Reply{Error: err.Error()}
	}
	return Reply{OK: true, Data: data}
}

// showVerdict looks and says what was found on every console.
func (w *Worker) showVerdict(ctx context.Context, r Request) error {
	w.disks.Lock()
	defer w.disks.Unlock()
	s := w.newSession(r)
	defer s.close()
	t, err := s.lookOnly(ctx)
	if err == nil {
		s.say(t)
	}
	return err
}

func (s *session) say(t *Triage) {
	for _, l := range t.Verdict.Lines() {
		s.w.J.Note("%s", l)
	}
}

// lookOnly judges the installed system, with the backup's date when it can be
// reached.
func (s *session) lookOnly(ctx context.Context) (*Triage, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	if err := s.look(ctx); err != nil {
		return nil, err
	}
	return s.triage(ctx, 0)
}

// ready brings up what a look needs.
func (s *session) ready(ctx context.Context) error {
	w := s.w
	if !underInit() {
		return report.Errorf(report.CodeNotPID1, "boot the image", "this is not Lifeboat's rescue system")
	}
	if err := s.phase("drivers", func() error { return w.settle(ctx) }); err != nil {
		return err
	}
	s.looking = true
	if err := s.findStick(ctx); err != nil {
		w.J.Note("%v", err)
	}
	if err := s.phase("backup", func() error { return s.reachBackup(ctx) }); err != nil {
		return err
	}
	return s.phase("disks", func() error { return s.waitDisks(ctx) })
}

// reachBackup takes date and manifest of the backup, if it answers soon; else
// the medium's own manifest must do.
func (s *session) reachBackup(ctx context.Context) error {
	data, err := os.ReadFile(handoff.ManifestPath)
	if err != nil {
		return fmt.Errorf("read the medium's manifest: %w", err)
	}
	if s.manifest, err = manifest.Decode(data); err != nil {
		return err
	}
	bctx, cancel := context.WithTimeout(ctx, backupPatience)
	defer cancel()
	if s.net, err = s.w.network(bctx, s.order.Backup.URL); err == nil {
		s.w.syncClock(bctx, s.net, s.order.Backup.URL)
		err = s.openBackup(bctx)
	}
	if err != nil {
		s.archive = nil
		s.w.J.Note("The backup is not reached (%v): what is newer is told by the date of the medium", err)
	}
	return ctx.Err()
}

// triage looks at the installed system; enough ends the count of newer files
// of each filesystem, 0 counts all.
func (s *session) triage(ctx context.Context, enough int64) (*Triage, error) {
	efiVariables()
	opt := triage.Options{Run: s.w.Exec, Manifest: s.manifest, Enough: enough, Initramfs: s.initramfsLacks,
		Probe: probe.Options{Run: s.w.Exec, Rescue: true, OpenedMounts: []string{s.w.Target}}}
	if s.archive != nil {
		opt.Made, opt.BackupBytes = s.archive.Info().Started, s.archive.TarBytes()
	}
	start := time.Now()
	f, err := triage.Look(ctx, opt)
	s.phases = append(s.phases, report.Phase{Name: "triage", Millis: time.Since(start).Milliseconds()})
	if err != nil {
		return nil, fmt.Errorf("look at the installed system: %w", err)
	}
	t := &Triage{Verdict: triage.Decide(f), Facts: f}
	if data, err := json.MarshalIndent(t, "", "  "); err == nil {
		_ = os.WriteFile(TriagePath, append(data, '\n'), 0o600)
	}
	return t, nil
}

// efiVariables shows the firmware's variables where the kernel has them: the
// look reads the boot entries.
func efiVariables() {
	const dir = "/sys/firmware/efi/efivars"
	if _, err := os.Stat(dir); err != nil {
		return
	}
	if list, err := os.ReadDir(dir); err == nil && len(list) > 0 {
		return
	}
	_ = unix.Mount("efivarfs", dir, "efivarfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}

// initramfsLacks asks for drivers of this machine in an installed initramfs.
func (s *session) initramfsLacks(root *sysroot.Root, k manifest.Kernel, disks map[manifest.ID]string) ([]string, error) {
	p := &plan.Plan{Kind: plan.KindRepair, Target: s.manifest.Storage}
	for id, no := range disks {
		p.Assignments = append(p.Assignments, plan.Assignment{Node: id, Disk: plan.DiskRef{DevNo: no}})
	}
	ad := &adapt.Adapter{Root: &chroot.Root{Path: root.Path(), FS: root}, Manifest: s.manifest, Plan: p, Machine: s.machine, Sink: report.Discard}
	return ad.Missing(k)
}

// lookFirst judges the installed system before the plan is carried out. A
// person sees the verdict; with nobody watching, files that are in no backup
// are a living system (rule 4), and so is what could not be looked through.
func (s *session) lookFirst(ctx context.Context) error {
	if s.plan.Resumable() || !s.attended && (s.plan.Refused() || s.input().Policy.Armed || !s.hostThere() && !s.tableLost(ctx)) {
		return nil
	}
	enough := int64(0)
	if !s.attended {
		enough = 1
	}
	t, err := s.triage(ctx, enough)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		s.w.J.Note("%v", err)
	default:
		s.say(t)
		s.verdict = &t.Verdict
	}
	if s.attended {
		return nil
	}
	if p := livesOn(s.manifest.Host.Name, t, err); p != nil {
		s.plan.Refusals = append(s.plan.Refusals, *p)
	}
	return nil
}

// livesOn is what forbids to erase an installed system of this host with nobody
// watching: files that are in no backup, or a look that did not get to its end
// and found none. Where a recovery was cut off nobody lives. t is nil when the
// look failed, by err.
func livesOn(host string, t *Triage, err error) *report.Problem {
	p := &report.Problem{Code: report.CodeUnlooked, Severity: report.Error, Object: host,
		Next: "boot the local disk; to erase it all the same, arm the recovery once or type the host's name at the console"}
	doubt := func(format string, args ...any) *report.Problem {
		p.Text = fmt.Sprintf("the installed system of %s may hold files that changed after the backup: %s", host, fmt.Sprintf(format, args...))
		return p
	}
	switch {
	case err != nil:
		return doubt("%v", err)
	case t.Facts.Root.Unfinished:
		return nil
	case t.Verdict.Newer > 0:
		p.Code, p.Text = report.CodeLiving, fmt.Sprintf("the installed system of %s holds files that changed after the backup of %s", host, t.Facts.Made)
		return p
	}
	for _, f := range t.Facts.Filesystems {
		name := strings.Join(f.Mounts, ", ")
		switch {
		case f.AtLeast: // without a newer file it was time that ended the count
			return doubt("looking through %s took too long", name)
		case f.Unlisted > 0:
			return doubt("%d folders of %s cannot be read", f.Unlisted, name)
		}
	}
	return nil
}

// hostThere tells whether a root of this host, that no recovery left half-way,
// lies on a disk that would be erased.
func (s *session) hostThere() bool {
	targets := s.targets()
	for _, d := range s.machine.Disks {
		for _, m := range d.Marks {
			same := m.MachineID != "" && m.MachineID == s.manifest.Host.MachineID || m.Host != "" && strings.EqualFold(m.Host, s.manifest.Host.Name)
			if targets[d.DevNo] && same && !m.Unfinished {
				return true
			}
		}
	}
	return false
}

// tableLost tells whether a disk that would be erased has lost only its
// partition table: it looks blank, or unreadable, and may hold the host.
func (s *session) tableLost(ctx context.Context) bool {
	v, err := blockdev.Live().Scan()
	if err != nil {
		return false
	}
	g := &s.manifest.Storage
	for _, a := range s.plan.Assignments {
		was := g.Node(a.Node)
		i := slices.IndexFunc(v.Devices, func(d *blockdev.Device) bool { return d.DevNo.String() == a.Disk.DevNo })
		if was == nil || was.Disk == nil || i < 0 || v.Devices[i].Bytes != was.Disk.Bytes || len(v.Devices[i].Partitions) > 0 {
			continue
		}
		node := v.Node(v.Devices[i])
		for _, n := range g.OfKind(manifest.KindTable) {
			if len(n.On) != 1 || n.On[0].Node != a.Node {
				continue
			}
			if _, err := probe.LostTable(ctx, s.w.Exec, node, g, n); err == nil {
				if err := disklabel.Forget(ctx, node); err != nil {
					s.w.Exec.Log("hide the partitions of %s: %v", node, err)
				}
				return true
			}
		}
	}
	return false
}

// verdictLines are what stands above the question whether to erase.
func (s *session) verdictLines() []string {
	if s.verdict == nil {
		return nil
	}
	return []string{"The installed system: " + s.verdict.Line, "  next: " + s.verdict.Next}
}
