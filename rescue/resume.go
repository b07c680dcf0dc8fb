package rescue

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"lifeboat/archive"
	"lifeboat/plan"
	"lifeboat/report"
	"lifeboat/rescue/restore"
)

// planned is the Data of a report.Planned event.
type planned struct {
	Plan    string `json:"plan"`    // its id
	Resumed bool   `json:"resumed"` // what was said before still holds
}

// savePoint is the Data of a report.Saved event: all that is before it is on
// the disk.
type savePoint struct {
	At    archive.Checkpoint `json:"at"`
	Bytes int64              `json:"bytes"` // of tar restored so far
	Lost  restore.Lost       `json:"lost,omitzero"`
}

// earlier is what the target's own journal tells of a try that did not end.
type earlier struct {
	made map[string]bool // steps that ended well
	last savePoint
}

// readEarlier reads a journal for what it says of the plan with this id. A
// line that was being written when the power went is no line: each that
// matters was on the disk before the work went on.
func readEarlier(r io.Reader, id string) (e earlier, err error) {
	e.made = map[string]bool{}
	ours := false
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return e, nil
		}
		if err != nil {
			return e, fmt.Errorf("read the journal on the target: %w", err)
		}
		var v report.Event
		if json.Unmarshal(line, &v) != nil {
			continue
		}
		switch v.Kind {
		case report.Planned:
			var p planned
			ours = json.Unmarshal(v.Data, &p) == nil && p.Plan == id
			if !ours || !p.Resumed {
				e = earlier{made: map[string]bool{}} // what was there before was wiped
			}
		case report.Finished:
			e.made[v.Step] = ours
		case report.Saved:
			var s savePoint
			if ours && json.Unmarshal(v.Data, &s) == nil && s.At.Done >= 0 && s.Lost.Count >= 0 {
				e.last = s
			}
		}
	}
}

// built tells whether everything that holds files was made to its end.
func (e *earlier) built(p *plan.Plan) error {
	for _, s := range p.Steps {
		if s.Stage == plan.StageStorage && !e.made[s.ID] {
			return fmt.Errorf("the journal on the target does not tell that this was finished: %s", s.Text(&p.Target, p))
		}
	}
	return nil
}

// resume opens what an earlier try of the very same plan built, and tells
// whether the restore may go on there. If not, nothing was written and
// everything is wiped and built again.
func (a *actor) resume(ctx context.Context) (bool, error) {
	if !a.s.plan.Resumable() {
		if a.s.attempt > 1 {
			a.s.w.J.Note("The earlier try was of another plan: everything is built fresh")
		}
		return false, nil
	}
	err := a.s.phase("open", func() error { return a.openEarlier(ctx) })
	if err == nil {
		fresh, err := a.askFresh(ctx)
		if err != nil {
			return false, err
		}
		if !fresh {
			a.res.Resumed = true
			a.s.w.J.Note("The earlier try is gone on with: %d MiB of files are restored already", a.earlier.last.Bytes>>20)
			return true, nil
		}
	} else {
		if ctx.Err() != nil {
			return false, report.Errorf(report.CodeInterrupted, "", "stopped while the earlier try was looked at: %w", ctx.Err())
		}
		a.s.w.J.Note("The earlier try cannot be gone on with (%v): everything is built fresh", err)
	}
	a.earlier = earlier{}
	return false, a.st.Unmount(ctx)
}

// openEarlier opens the layers, mounts the target's root and reads the journal
// there.
func (a *actor) openEarlier(ctx context.Context) error {
	if err := a.st.Open(ctx); err != nil {
		return err
	}
	i := slices.IndexFunc(a.s.plan.Steps, func(s plan.Step) bool { return s.Verb == plan.VerbMount && s.Arg == "/" })
	if i < 0 {
		return errors.New("the plan mounts no root")
	}
	if err := a.st.Acts()[plan.VerbMount](ctx, a.s.plan.Steps[i], func(int64, int64) {}); err != nil {
		return err
	}
	f, err := os.Open(a.journal())
	if err != nil {
		return fmt.Errorf("open the journal on the target: %w", err)
	}
	defer f.Close()
	if a.earlier, err = readEarlier(f, a.s.plan.ID); err != nil {
		return err
	}
	if c := a.earlier.last.At; c.Done > 0 && c.Archive != a.s.archive.Info().UUID.String() {
		return fmt.Errorf("what is restored there came from another archive, %s", c.Archive)
	}
	return a.earlier.built(a.s.plan)
}

// askFresh lets a person who is there choose; nobody is asked otherwise.
func (a *actor) askFresh(ctx context.Context) (bool, error) {
	if !a.s.attended {
		return false, nil
	}
	r, err := a.s.w.T.Ask(ctx, Question{Kind: "menu", Title: "An earlier try of this very recovery was cut off", Choices: []Choice{
		{"1", fmt.Sprintf("Go on where it stopped (%d MiB are restored)", a.earlier.last.Bytes>>20)},
		{"2", "Erase everything and begin again"},
	}})
	if err != nil {
		return false, err
	}
	switch r.Text {
	case "1":
		return false, nil
	case "2":
		return true, nil
	}
	return false, report.Errorf(report.CodeDeclined, "choose again", "%q is neither 1 nor 2; nothing was changed", r.Text)
}

// openJournal says of which plan all that follows is.
func (a *actor) openJournal(resumed bool) {
	data, _ := json.Marshal(planned{Plan: a.s.plan.ID, Resumed: resumed})
	a.s.w.J.Emit(report.Event{Kind: report.Planned, Data: data})
}

// save keeps a point of the restore to go on from.
func (a *actor) save(c archive.Checkpoint, bytes int64, lost restore.Lost) error {
	data, err := json.Marshal(savePoint{At: c, Bytes: bytes, Lost: lost})
	if err == nil {
		a.s.w.J.Emit(report.Event{Kind: report.Saved, Stage: string(plan.StageRestore), Data: data})
	}
	return err
}
