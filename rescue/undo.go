package rescue

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lifeboat/images/usb"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
	"lifeboat/rescue/storage"
)

// Places of what is kept of the disks before the first write of a recovery.
const (
	keptRoot  = "/run/lifeboat/undo"
	keptIndex = "index.json"
	keptData  = "data"
	// keptSpent is put beside them just before the first filesystem is made:
	// from then on nothing brings back what was there.
	keptSpent = "filesystems-begun"
	// keptLimit bounds the data in memory; headers alone are far below it.
	keptLimit = 256 << 20
)

// keptRoots are the folders of kept data: in memory, and on the stick, which
// outlives this boot. Of the stick all but the journal's mount can only be
// read.
func (s *session) keptRoots(write bool) []string {
	out := []string{keptRoot}
	switch {
	case s.stick == nil || usb.CheckHost(s.w.Order.Host) != nil:
	case s.stick.journal != "":
		out = append(out, filepath.Join(notesRoot, s.w.Order.Host, "undo"))
	case !write:
		out = append(out, filepath.Join(s.stick.path, s.w.Order.Host, "undo"))
	}
	return out
}

// keepOld keeps what lies on the targets where the recovery is going to
// write. A disk whose contents are half gone by an earlier try has nothing
// that would be worth it. What does not succeed is told: a disk that cannot be
// read any more must not be kept from its recovery.
func (s *session) keepOld(ctx context.Context, st *storage.Storage) {
	if s.attempt > 1 || claimedAttempts(s.order.ID, s.machine, s.targets()) > 0 {
		return
	}
	roots := s.keptRoots(true)
	dir := filepath.Join(roots[0], s.keptName())
	k, err := writeKept(dir, func(w *bufio.Writer) (*storage.Kept, error) {
		limit := int64(keptLimit)
		if m := s.machine.Memory; m > 0 {
			limit = min(limit, m/8)
		}
		return st.Keep(ctx, w, limit)
	})
	if err != nil {
		s.w.J.Problem(report.Problem{Code: report.CodeNoUndo, Severity: report.Warning, Text: "What lies on the disks could not be kept: " + err.Error(),
			Next: "there is no undo of this recovery"})
		return
	}
	kept := []string{dir}
	for _, place := range roots[1:] {
		to := filepath.Join(place, s.keptName())
		if err := copyKept(dir, to); err != nil {
			s.w.J.Note("Old tables and headers could not be copied to %s: %v", to, err)
			continue
		}
		kept = append(kept, to)
	}
	what := "Old tables and headers, and all that is overwritten before the first filesystem is made,"
	if !k.Whole {
		what = "Old tables and headers"
	}
	s.w.J.Note("%s are kept (%d KiB in %s): lifeboat undo", what, k.Bytes>>10, strings.Join(kept, ", "))
}

func (s *session) keptName() string {
	return s.began.UTC().Format("20060102T150405Z") + "-" + s.plan.ID[:min(12, len(s.plan.ID))]
}

// writeKept makes a folder of data and, when that is whole, index.
func writeKept(dir string, fill func(*bufio.Writer) (*storage.Kept, error)) (*storage.Kept, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, keptData), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	k, err := fill(w)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	data, err := json.Marshal(k)
	if err == nil {
		err = writeWhole(dir, keptIndex, data)
	}
	return k, err
}

// writeWhole writes a small file that is there whole or not at all.
func writeWhole(dir, name string, data []byte) error {
	tmp := filepath.Join(dir, "."+name)
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err == nil {
		err = os.Rename(tmp, filepath.Join(dir, name))
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// copyKept copies what was kept to a place that outlives this boot, the index
// last.
func copyKept(from, to string) error {
	k, err := readKept(from)
	if err != nil {
		return err
	}
	_, err = writeKept(to, func(w *bufio.Writer) (*storage.Kept, error) {
		f, err := os.Open(filepath.Join(from, keptData))
		if err != nil {
			return nil, err
		}
		defer f.Close()
		_, err = w.ReadFrom(f)
		return k, err
	})
	return err
}

// spendKept says, where it outlives a reset, that there is no way back any
// more for the disks of this plan, whichever try kept them. A place that
// cannot be told so must not be believed later: that stops.
func (s *session) spendKept() error {
	for _, dir := range keptFolders(s.keptRoots(true)) {
		if !s.keptOfPlan(dir) {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, keptSpent)); err == nil {
			continue
		}
		if err := writeWhole(dir, keptSpent, []byte(time.Now().UTC().Format(time.RFC3339)+"\n")); err != nil {
			if err := os.Remove(filepath.Join(dir, keptIndex)); err != nil {
				return fmt.Errorf("mark what was kept in %s as spent: %w", dir, err)
			}
		}
	}
	return nil
}

// keptOfPlan tells whether kept data is of a disk that the plan builds on.
func (s *session) keptOfPlan(dir string) bool {
	k, err := readKept(dir)
	if err != nil {
		return false // findKept does not believe it either
	}
	for _, d := range k.Disks {
		for _, a := range s.plan.Assignments {
			if a.Disk.WWN == d.Disk.WWN && a.Disk.Serial == d.Disk.Serial && a.Disk.Model == d.Disk.Model && a.Disk.Bytes == d.Disk.Bytes {
				return true
			}
		}
	}
	return false
}

func readKept(dir string) (*storage.Kept, error) {
	data, err := os.ReadFile(filepath.Join(dir, keptIndex))
	if err != nil {
		return nil, err
	}
	k := new(storage.Kept)
	if err := json.Unmarshal(data, k); err != nil || k.Format != storage.KeptFormat {
		return nil, report.Errorf(report.CodeNoUndo, "", "what was kept in %s is not understood", dir)
	}
	return k, nil
}

// keptFolders are all folders of kept data, the newest first.
func keptFolders(roots []string) []string {
	var out []string
	for _, root := range roots {
		list, _ := filepath.Glob(filepath.Join(root, "*", keptIndex))
		for _, f := range list {
			out = append(out, filepath.Dir(f))
		}
	}
	slices.SortStableFunc(out, func(a, b string) int { return strings.Compare(filepath.Base(b), filepath.Base(a)) })
	return out
}

// undoing is an undo in the making.
type undoing struct {
	dir  string
	kept *storage.Kept
	plan *plan.Plan
}

// findKept chooses the newest data of which no filesystem was made and whose
// disks are all there.
func (s *session) findKept(m *manifest.Machine) (*undoing, error) {
	var first error
	for _, dir := range keptFolders(s.keptRoots(false)) {
		u, err := openKept(dir, m)
		if err == nil {
			return u, nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = report.Errorf(report.CodeNoUndo, "", "nothing was kept that could be put back: no recovery began to write")
	}
	return nil, first
}

func openKept(dir string, m *manifest.Machine) (*undoing, error) {
	if _, err := os.Stat(filepath.Join(dir, keptSpent)); err == nil {
		return nil, report.Errorf(report.CodeNoUndo, "finish the recovery", "filesystems were made already: what was on the disks before is gone")
	}
	k, err := readKept(dir)
	if err != nil {
		return nil, err
	}
	p, err := storage.UndoPlan(k, m)
	if err != nil {
		return nil, err
	}
	return &undoing{dir: dir, kept: k, plan: p}, nil
}

// undo puts back what a recovery that did not come to its first filesystem
// has overwritten.
func (w *Worker) undo(ctx context.Context, r Request) (res *report.Result) {
	w.setBusy(true)
	defer w.setBusy(false)
	w.disks.Lock()
	defer w.disks.Unlock()
	s := w.newSession(r)
	defer s.close()
	res = &report.Result{Kind: "undo", Order: w.Order.ID, Host: w.Order.Host, Started: s.began.UTC(), State: "refused"}
	var err error
	defer func() { s.finish(res, err); w.saveResult(res) }()
	if !underInit() {
		err = report.Errorf(report.CodeNotPID1, "boot the image", "this is not Lifeboat's rescue system")
		return res
	}
	if err = w.settle(ctx); err != nil {
		return res
	}
	s.looking, s.keep = true, true
	if err2 := s.findStick(ctx); err2 != nil {
		w.J.Note("%v", err2)
	}
	if err = s.look(ctx); err != nil {
		return res
	}
	u, err2 := s.findKept(s.machine)
	if err = err2; err != nil {
		return res
	}
	if err = s.confirmUndo(ctx, u); err != nil {
		return res
	}
	res.State = "failed"
	err = s.putBack(ctx, u)
	return res
}

func (s *session) confirmUndo(ctx context.Context, u *undoing) error {
	lines := []string{fmt.Sprintf("Kept before the recovery of %s that began to write at %s:", u.kept.Host, u.kept.Time)}
	for _, a := range u.plan.Assignments {
		lines = append(lines, fmt.Sprintf("  %s (%s, serial %s, %d bytes)", a.Disk.Name, a.Disk.Model, orNone(a.Disk.Serial), a.Disk.Bytes))
	}
	if !u.kept.Whole {
		lines = append(lines, "Only tables and headers were kept: filesystems may need their own repair afterwards")
	}
	r, err := s.w.T.Ask(ctx, Question{Kind: "type", Lines: lines, Title: "Type the host's name, " + u.kept.Host + ", to put it back; anything else goes back"})
	if err != nil {
		return err
	}
	if strings.TrimSpace(r.Text) != u.kept.Host {
		return report.Errorf(report.CodeDeclined, "choose again", "%q is not the host's name; nothing was written", r.Text)
	}
	return nil
}

func (s *session) putBack(ctx context.Context, u *undoing) error {
	f, err := os.Open(filepath.Join(u.dir, keptData))
	if err != nil {
		return err
	}
	defer f.Close()
	s.plan = u.plan
	o := storage.Options{Run: s.w.Exec, Plan: u.plan, Root: s.w.Target, Sink: s.w.J}
	o.Medium = s.ownMedia()
	st, err := storage.New(o)
	if err != nil {
		return err
	}
	return s.phase("undo", func() error { return st.Undo(ctx, u.kept, f) })
}
