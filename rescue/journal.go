package rescue

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"lifeboat/report"
)

// Journal is the event log: every event goes to every place that was added,
// from the first event on. It is the Sink of a whole recovery.
type Journal struct {
	mu     sync.Mutex
	seq    int64
	places []place
	kept   []report.Event // all but progress, replayed into places added later
	extra  []report.Sink
	now    func() time.Time
}

// durable are the events after which a journal must tell the truth even when
// the power goes.
var durable = map[report.Kind]bool{report.Finished: true, report.Failed: true, report.Done: true, report.Planned: true, report.Saved: true}

type place struct {
	w    io.WriteCloser
	sync func() error
	path string
}

// NewJournal begins a journal.
func NewJournal() *Journal { return &Journal{now: time.Now} }

// AddFile adds a file, created with its folder, that gets what was said so
// far and everything to come. A durable place is fsynced at each end of a
// step, so that it tells the truth after a power loss.
func (j *Journal) AddFile(path string, durable bool) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("open the journal: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the journal: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := endLine(f); err != nil {
		f.Close()
		return fmt.Errorf("open the journal %s: %w", path, err)
	}
	p := place{w: f, path: path}
	if durable {
		p.sync = f.Sync
	}
	for _, e := range j.kept {
		if err := writeEvent(p.w, e); err != nil {
			f.Close()
			return fmt.Errorf("write the journal %s: %w", path, err)
		}
	}
	j.places = append(j.places, p)
	return nil
}

// endLine ends a line that was cut off when the machine went down.
func endLine(f *os.File) error {
	n, err := f.Seek(0, io.SeekEnd)
	if err != nil || n == 0 {
		return err
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, n-1); err != nil || b[0] == '\n' {
		return err
	}
	_, err = f.Write([]byte{'\n'})
	return err
}

// AddSink adds a sink that gets everything to come.
func (j *Journal) AddSink(s report.Sink) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.extra = append(j.extra, s)
}

// Drop closes the place below a folder that is about to be unmounted.
func (j *Journal) Drop(path string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	keep := j.places[:0]
	for _, p := range j.places {
		if p.path == path {
			if p.sync != nil {
				_ = p.sync()
			}
			p.w.Close()
			continue
		}
		keep = append(keep, p)
	}
	j.places = keep
}

// Emit numbers, stamps and writes an event. A place that cannot be written
// any more is given up, but never the recovery with it.
func (j *Journal) Emit(e report.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seq++
	e.Seq = j.seq
	if e.Time.IsZero() {
		e.Time = j.now().UTC()
	}
	if e.Kind != report.Progress {
		j.kept = append(j.kept, e)
	}
	keep := j.places[:0]
	for _, p := range j.places {
		err := writeEvent(p.w, e)
		if err == nil && p.sync != nil && durable[e.Kind] {
			err = p.sync()
		}
		if err != nil {
			p.w.Close()
			continue
		}
		keep = append(keep, p)
	}
	j.places = keep
	for _, s := range j.extra {
		s.Emit(e)
	}
}

// Events are all events so far but progress.
func (j *Journal) Events() []report.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]report.Event(nil), j.kept...)
}

// Seq is the number of the last event.
func (j *Journal) Seq() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seq
}

// Problems are all findings told after one event up to another: of whichever
// part, so that none can be missing from a result because its part did not
// return it.
func (j *Journal) Problems(after, until int64) (out []report.Problem) {
	for _, e := range j.Events() {
		if e.Seq > after && e.Seq <= until && e.Kind == report.Trouble && e.Problem != nil {
			out = append(out, *e.Problem)
		}
	}
	return out
}

// Note says one line to people.
func (j *Journal) Note(format string, args ...any) {
	j.Emit(report.Event{Kind: report.Note, Text: fmt.Sprintf(format, args...)})
}

// Problem says a coded finding that does not stop the run.
func (j *Journal) Problem(p report.Problem) {
	j.Emit(report.Event{Kind: report.Trouble, Text: p.Text, Problem: &p})
}

func writeEvent(w io.Writer, e report.Event) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}
