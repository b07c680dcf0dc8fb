package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// Event is something that QEMU reported by itself, such as RESET or SHUTDOWN.
type Event struct {
	Name string
	Data map[string]any
	At   time.Time // QEMU's clock
}

// QMP is a connection to QEMU's control socket.
type QMP struct {
	conn net.Conn

	mu      sync.Mutex
	next    int
	waiting map[string]chan message
	events  []Event
	more    chan struct{} // closed and replaced at each event and at the end
	err     error         // why the connection ended
}

type message struct {
	QMP       json.RawMessage `json:"QMP"`
	Return    json.RawMessage `json:"return"`
	Error     *QMPError       `json:"error"`
	ID        string          `json:"id"`
	Event     string          `json:"event"`
	Data      map[string]any  `json:"data"`
	Timestamp struct {
		Seconds      int64 `json:"seconds"`
		Microseconds int64 `json:"microseconds"`
	} `json:"timestamp"`
}

// QMPError is QEMU's own answer to a command that it refused.
type QMPError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

// Error is QEMU's text.
func (e *QMPError) Error() string { return e.Class + ": " + e.Desc }

// newQMP speaks the greeting and goes on reading in the background.
func newQMP(ctx context.Context, conn net.Conn) (*QMP, error) {
	q := &QMP{conn: conn, waiting: map[string]chan message{}, more: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Now()) })
	defer stop()
	r := bufio.NewReader(conn)
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("read QEMU's greeting: %w", err)
	}
	var m message
	if err := json.Unmarshal(line, &m); err != nil || m.QMP == nil {
		return nil, fmt.Errorf("QEMU's control socket says %.80q instead of a greeting", line)
	}
	go q.read(r)
	if _, err := q.Execute(ctx, "qmp_capabilities", nil); err != nil {
		return nil, err
	}
	return q, nil
}

func (q *QMP) read(r *bufio.Reader) {
	for {
		line, err := r.ReadBytes('\n')
		var m message
		if err == nil {
			if err = json.Unmarshal(line, &m); err != nil {
				err = fmt.Errorf("QEMU's control socket sent %.80q: %w", line, err)
			}
		}
		q.mu.Lock()
		switch {
		case err != nil:
			q.err = err
			for _, c := range q.waiting {
				close(c)
			}
			q.waiting = nil
		case m.Event != "":
			at := time.Unix(m.Timestamp.Seconds, m.Timestamp.Microseconds*1000)
			q.events = append(q.events, Event{Name: m.Event, Data: m.Data, At: at})
		default:
			if c := q.waiting[m.ID]; c != nil {
				delete(q.waiting, m.ID)
				c <- m
			}
		}
		if err != nil || m.Event != "" {
			close(q.more)
			q.more = make(chan struct{})
		}
		q.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Execute runs a command and returns its answer. arguments may be nil.
func (q *QMP) Execute(ctx context.Context, command string, arguments any) (json.RawMessage, error) {
	req := map[string]any{"execute": command}
	if arguments != nil {
		req["arguments"] = arguments
	}
	answer := make(chan message, 1)
	q.mu.Lock()
	if q.err != nil {
		q.mu.Unlock()
		return nil, fmt.Errorf("QMP %s: %w", command, errEnded)
	}
	q.next++
	id := strconv.Itoa(q.next)
	req["id"] = id
	b, err := json.Marshal(req)
	if err == nil {
		q.waiting[id] = answer
		_, err = q.conn.Write(append(b, '\n'))
	}
	if err != nil {
		delete(q.waiting, id)
	}
	q.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("QMP %s: %w", command, err)
	}
	select {
	case m, ok := <-answer:
		switch {
		case !ok:
			return nil, fmt.Errorf("QMP %s: %w", command, errEnded)
		case m.Error != nil:
			return nil, fmt.Errorf("QMP %s: %w", command, m.Error)
		}
		return m.Return, nil
	case <-ctx.Done():
		q.mu.Lock()
		delete(q.waiting, id)
		q.mu.Unlock()
		return nil, fmt.Errorf("QMP %s: %w", command, context.Cause(ctx))
	}
}

// Mark is the number of events so far, to wait for later ones.
func (q *QMP) Mark() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.events)
}

// Events are all events so far.
func (q *QMP) Events() []Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append([]Event(nil), q.events...)
}

// WaitEvent waits for the first event from number mark on that match accepts.
func (q *QMP) WaitEvent(ctx context.Context, mark int, match func(Event) bool) (Event, error) {
	for {
		q.mu.Lock()
		events, more, err := q.events, q.more, q.err
		q.mu.Unlock()
		for ; mark < len(events); mark++ {
			if match(events[mark]) {
				return events[mark], nil
			}
		}
		if err != nil {
			return Event{}, errEnded
		}
		select {
		case <-more:
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
	}
}

// Refused tells whether QEMU answered with an error, as opposed to being gone.
func Refused(err error) bool {
	var q *QMPError
	return errors.As(err, &q)
}
