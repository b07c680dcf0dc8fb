package rescue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"lifeboat/archive"
	"lifeboat/backup"
	"lifeboat/internal/handoff"
	"lifeboat/internal/netup"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
	"lifeboat/rescue/storage"
	"lifeboat/rescue/triage"
)

// session is one try from the first look to the end.
type session struct {
	w        *Worker
	order    handoff.Order // of the boot, with what was asked for this try
	attended bool
	own      bool // nobody asked for it: the order of this boot
	looking  bool // only the backup's date and manifest are wanted
	keep     bool // a look that may end in writing: its journal is kept on the stick
	dry      bool // shows the plan only: what a failed try left mounted stays
	began    time.Time
	phases   []report.Phase
	medium   *Medium
	stick    *stick // where backups and journals can be kept; nil without one
	net      *netup.Up
	object   backup.Object
	archive  *archive.Archive
	manifest *manifest.Manifest
	machine  *manifest.Machine
	plan     *plan.Plan
	mapping  *plan.Mapping
	verdict  *triage.Verdict // of the installed system, before it is erased
	attempt  int
	problems []report.Problem // steps that failed and were not fatal
	from     int64            // the journal's number before this try: what is told later is part of its result
}

// newSession begins a try. A person may name another archive or mapping than
// the order does: for this try only, so that the next one is as it was.
func (w *Worker) newSession(r Request) *session {
	s := &session{w: w, order: w.Order, attended: r.Attended, own: r.own, began: time.Now()}
	if w.J != nil {
		s.from = w.J.Seq()
		w.boot.first.Do(func() { w.boot.until = s.from })
	}
	if r.Backup != "" {
		s.order.Backup.URL = r.Backup
	}
	if r.Mapping != "" {
		s.order.Mapping = r.Mapping
	}
	return s
}

// phase times a part of the session.
func (s *session) phase(name string, f func() error) error {
	start := time.Now()
	err := f()
	s.phases = append(s.phases, report.Phase{Name: name, Millis: time.Since(start).Milliseconds()})
	return err
}

func (s *session) close() {
	if s.object != nil {
		s.object.Close()
	}
}

// recover runs one recovery and returns how it ended; every failure is said
// on the consoles.
func (w *Worker) recover(ctx context.Context, r Request) (res *report.Result) {
	w.disks.Lock()
	defer w.disks.Unlock()
	s := w.newSession(r)
	defer s.close()
	res = &report.Result{Order: w.Order.ID, Host: w.Order.Host, Started: s.began.UTC(), State: "refused"}
	var err error
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("a fault in lifeboat itself: %v; the log holds the details", r)
			w.Exec.Log("panic: %v\n%s", r, stack())
		}
		s.finish(res, err)
	}()
	if err = s.prepare(ctx); err == nil {
		_, err = s.nextAttempt()
	}
	if err != nil {
		err = s.installedInstead(ctx, err)
		return res
	}
	if err = s.confirm(ctx); err != nil {
		return res
	}
	res.State = "failed" // from here on something may have been written
	err = s.carryOut(ctx, res)
	return res
}

// prepare does everything that may be done before the first write.
func (s *session) prepare(ctx context.Context) error {
	w := s.w
	if os.Getpid() != 1 && os.Getppid() != 1 && !underInit() {
		return report.Errorf(report.CodeNotPID1, "boot the image and recover there", "this is not Lifeboat's rescue system: disks are written only under its own PID 1")
	}
	if err := s.phase("drivers", func() error { return w.settle(ctx) }); err != nil {
		return err
	}
	if err := s.findStick(ctx); err != nil {
		return err
	}
	err := s.phase("network", func() (err error) { s.net, err = w.network(ctx, s.order.Backup.URL); return err })
	if err != nil {
		return err
	}
	w.syncClock(ctx, s.net, s.order.Backup.URL)
	if err := s.phase("backup", func() error { return s.openBackup(ctx) }); err != nil {
		return err
	}
	if err := s.phase("disks", func() error { return s.waitDisks(ctx) }); err != nil {
		return err
	}
	return s.phase("plan", func() error { return s.makePlan(ctx) })
}

// openBackup reaches the backup and checks it as rule 1 demands, and takes
// the manifest inside it.
func (s *session) openBackup(ctx context.Context) error {
	w := s.w
	data, err := os.ReadFile(handoff.ManifestPath)
	if err != nil {
		return fmt.Errorf("read the medium's manifest: %w", err)
	}
	if s.manifest, err = manifest.Decode(data); err != nil {
		return err
	}
	if s.order.Backup.Method != "archive" {
		return report.Errorf(report.CodeConfig, "set backup.method to archive", "the backup method %q cannot be restored", s.order.Backup.Method)
	}
	url := s.order.Backup.URL
	if url == "" {
		return report.Errorf(report.CodeBackupMissing, "give lifeboat.backup=URL on the kernel command line", "the medium names no backup")
	}
	if backup.IsUSB(url) {
		if url, err = s.stickURL(url); err != nil {
			return err
		}
	}
	s.object, err = backup.OpenURL(ctx, url, s.manifest.Host.Name, backup.Options{TokenFile: s.order.Backup.TokenFile})
	if err != nil {
		return err
	}
	w.J.Note("Backup: %s, %d bytes", s.object.Name(), s.object.Size())
	if s.archive, err = backup.OpenArchive(s.object); err != nil {
		return err
	}
	own, err := backup.CheckArchive(ctx, s.archive, s.manifest, s.verifyFull(), func(done, total int64) {
		w.J.Emit(report.Event{Kind: report.Progress, Stage: "check", Step: "check", Text: "Reading the backup to check it", Done: done, Total: total})
	})
	if err != nil {
		return err
	}
	s.takeManifest(own)
	return nil
}

// verifyFull is rule 1's default: every frame of a small archive is read
// before anything is erased.
func (s *session) verifyFull() bool {
	if s.looking {
		return false
	}
	switch s.w.Order.Verify {
	case "full":
		return true
	case "index":
		return false
	}
	return s.object.Size() <= 20<<30 || s.stick != nil && strings.HasPrefix(s.object.Name(), s.stick.path+"/")
}

// takeManifest lets the backup's own manifest win over the medium's (rule
// 15) and says what differs.
func (s *session) takeManifest(own *manifest.Manifest) {
	if own.Fingerprint() != s.manifest.Fingerprint() {
		for _, d := range manifest.Differences(s.manifest, own) {
			s.w.J.Note("The backup differs from the medium: %s", d)
		}
		s.w.J.Note("The layout of the backup (%s) is used, not the medium's (%s)", own.Made.Format(time.RFC3339), s.manifest.Made.Format(time.RFC3339))
	}
	s.manifest = own
}

func (s *session) readMapping() error {
	p := s.order.Mapping
	if p == "" {
		return nil
	}
	data, err := os.ReadFile(p)
	if err != nil {
		return report.Errorf(report.CodeMapping, "name a file inside the image", "read the mapping file: %w", err)
	}
	s.mapping, err = plan.DecodeMapping(data)
	return err
}

// makePlan looks at the machine and plans; a refusal is the error.
func (s *session) makePlan(ctx context.Context) error {
	if err := s.readMapping(); err != nil {
		return err
	}
	if !s.dry {
		if err := s.closeEarlier(ctx); err != nil {
			return err
		}
	}
	if err := s.look(ctx); err != nil {
		return err
	}
	s.plan = plan.Make(s.input())
	if data, err := json.Marshal(s.plan); err == nil {
		_ = os.WriteFile("/run/lifeboat/plan.json", data, 0o600)
	}
	for _, p := range s.plan.Warnings {
		s.w.J.Problem(p)
	}
	if err := s.lookFirst(ctx); err != nil {
		return err
	}
	return s.plan.Err()
}

// closeEarlier closes what a worker that died, or a try that failed, left open
// on its targets: it would look like somebody's. Before anything was written
// in this boot there is nothing of ours, and what is open is left alone.
func (s *session) closeEarlier(ctx context.Context) error {
	if readAttempts() == 0 {
		return nil
	}
	keep := s.ownMedia()
	if b := localBackup(s.object); b != "" {
		keep = append(keep, b)
	}
	return storage.Close(ctx, s.w.Target, keep, s.w.J)
}

func (s *session) input() plan.Input {
	info := s.archive.Info()
	return plan.Input{Manifest: s.manifest, Machine: s.machine, Mapping: s.mapping, Policy: plan.Policy{
		Unattended: !s.attended, Order: s.order.ID, Method: s.order.Backup.Method,
		Backup: info.UUID.String(), BackupMade: info.Started.UTC().Format(time.RFC3339),
		// A person types the host's name before anything is written.
		Armed: s.attended,
	}}
}

// showPlan plans and says everything, and changes nothing.
func (w *Worker) showPlan(ctx context.Context, r Request) error {
	w.disks.Lock()
	defer w.disks.Unlock()
	r.Attended = true
	s := w.newSession(r)
	s.dry = true
	defer s.close()
	err := s.prepare(ctx)
	if s.plan != nil {
		w.J.Note("%s", s.plan.Text())
		// A screen of 25 lines shows only the end of a plan.
		w.J.Note("In short\n%s", strings.Join(s.plan.DiskLines(), "\n"))
		return nil
	}
	return err
}

// finish says how it ended, everywhere.
func (s *session) finish(res *report.Result, err error) {
	*res = s.soFar(*res)
	kind := report.Done
	if err != nil {
		res.Exit = report.ExitOf(err)
		p := report.ProblemOf(err)
		res.Problems = distinct(append([]report.Problem{p}, res.Problems...))
		if st := Stack(err); st != "" {
			s.w.Exec.Log("%s", st)
		}
		if errors.Is(err, context.Canceled) && res.Exit == report.ExitFailed {
			res.State = "interrupted"
		}
	} else {
		res.State, res.Exit = "done", report.ExitOK
	}
	data, jerr := json.Marshal(res)
	if jerr != nil {
		data = nil
	}
	s.w.J.Emit(report.Event{Kind: kind, Text: resultTitle(res), Data: data, Millis: res.Ended.Sub(res.Started).Milliseconds()})
	s.leaveStick(res)
}

func (w *Worker) saveResult(res *report.Result) {
	data, err := json.MarshalIndent(res, "", "  ")
	if err == nil {
		err = os.WriteFile(ResultPath, append(data, '\n'), 0o600)
	}
	if err != nil {
		w.Exec.Log("result: %v", err)
	}
}
