package rescue

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"lifeboat/report"
)

// Request is one line that a console, a shell command or an SSH session sends
// to the worker.
type Request struct {
	Do       string `json:"do"`                 // answer, recover, plan, status, note, here
	Ask      string `json:"ask,omitempty"`      // which question is answered
	Text     string `json:"text,omitempty"`     // what was typed
	From     string `json:"from,omitempty"`     // which console, for the log
	Attended bool   `json:"attended,omitempty"` // recover: a person confirms
	own      bool   // nobody asked: the order of this boot is carried out
	// For this one try, in the place of what the order names; "" keeps that.
	Backup  string `json:"backup,omitempty"`  // recover, plan: URL or path of another archive or store
	Mapping string `json:"mapping,omitempty"` // recover, plan: path of another mapping file
}

// Reply answers a request.
type Reply struct {
	OK    bool            `json:"ok"`
	Error string          `json:"error,omitempty"`
	Data  json.RawMessage `json:"data,omitempty"`
}

// Question is what an Ask event carries. Kinds: "menu" (Choices), "type" (the
// exact Want must be typed), "key" (any key stops; Until is the end).
type Question struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	Title   string    `json:"title"`
	Lines   []string  `json:"lines,omitempty"`
	Choices []Choice  `json:"choices,omitempty"`
	Until   time.Time `json:"until,omitzero"`
}

// Choice of a menu.
type Choice struct {
	Key  string `json:"key"`
	Text string `json:"text"`
}

// Talk carries questions to all consoles and the first answer back. Every
// console sees the same; whoever is first decides.
type Talk struct {
	j  *Journal
	mu sync.Mutex
	n  int
	q  map[string]asked
	// Handle answers requests other than answers; nil refuses them.
	Handle func(Request) Reply
}

// asked is a question that waits.
type asked struct {
	kind string
	to   chan Request
}

// NewTalk makes a Talk that asks through the journal.
func NewTalk(j *Journal) *Talk { return &Talk{j: j, q: map[string]asked{}} }

// Ask puts a question on every console and waits for the first answer or the
// end of ctx.
func (t *Talk) Ask(ctx context.Context, q Question) (Request, error) {
	t.mu.Lock()
	t.n++
	q.ID = strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(t.n) // a restarted worker never takes an old answer
	ch := make(chan Request, 1)
	t.q[q.ID] = asked{q.Kind, ch}
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.q, q.ID)
		t.mu.Unlock()
	}()
	data, err := json.Marshal(q)
	if err != nil {
		return Request{}, err
	}
	t.j.Emit(report.Event{Kind: report.Ask, Text: q.Title, Data: data, Step: q.ID})
	select {
	case r := <-ch:
		t.j.Emit(report.Event{Kind: report.Answered, Step: q.ID, Text: "answered on " + r.From})
		return r, nil
	case <-ctx.Done():
		// A key of the very last instant was taken, and told so: it wins.
		t.mu.Lock()
		delete(t.q, q.ID)
		t.mu.Unlock()
		select {
		case r := <-ch:
			t.j.Emit(report.Event{Kind: report.Answered, Step: q.ID, Text: "answered on " + r.From})
			return r, nil
		default:
		}
		t.j.Emit(report.Event{Kind: report.Answered, Step: q.ID})
		return Request{}, ctx.Err()
	}
}

// errStale answers a console that was too late.
var errStale = errors.New("that question is answered already")

func (t *Talk) answer(r Request) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	q, ok := t.q[r.Ask]
	if !ok {
		return errStale
	}
	delete(t.q, r.Ask)
	q.to <- r
	return nil
}

// key answers each question that any key answers.
func (t *Talk) key(from string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, q := range t.q {
		if q.kind == "key" {
			delete(t.q, id)
			q.to <- Request{Do: "answer", Ask: id, Text: "key", From: from}
		}
	}
}

// Serve listens on a unix socket until ctx ends.
func (t *Talk) Serve(ctx context.Context, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("open the worker's socket: %w", err)
	}
	_ = os.Remove(path)
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("open the worker's socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return fmt.Errorf("open the worker's socket: %w", err)
	}
	context.AfterFunc(ctx, func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go t.conn(c)
		}
	}()
	return nil
}

func (t *Talk) conn(c net.Conn) {
	defer c.Close()
	in := bufio.NewScanner(c)
	in.Buffer(nil, 64<<10)
	for in.Scan() {
		var r Request
		rep := Reply{OK: true}
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			rep = Reply{Error: "not understood: " + err.Error()}
		} else if r.Do == "answer" {
			if err := t.answer(r); err != nil {
				rep = Reply{Error: err.Error()}
			}
		} else if t.Handle != nil {
			rep = t.Handle(r)
		} else {
			rep = Reply{Error: fmt.Sprintf("%q is not known", r.Do)}
		}
		b, err := json.Marshal(rep)
		if err != nil {
			return
		}
		if _, err := c.Write(append(b, '\n')); err != nil {
			return
		}
	}
}

// Send sends one request to the worker and returns its reply.
func Send(path string, r Request) (Reply, error) {
	c, err := net.DialTimeout("unix", path, 5*time.Second)
	if err != nil {
		return Reply{}, fmt.Errorf("reach the worker: %w", err)
	}
	defer c.Close()
	b, err := json.Marshal(r)
	if err != nil {
		return Reply{}, err
	}
	if _, err := c.Write(append(b, '\n')); err != nil {
		return Reply{}, fmt.Errorf("reach the worker: %w", err)
	}
	var rep Reply
	if err := json.NewDecoder(c).Decode(&rep); err != nil {
		return rep, fmt.Errorf("hear the worker: %w", err)
	}
	if rep.Error != "" {
		return rep, errors.New(rep.Error)
	}
	return rep, nil
}
