// Package report holds what happened: events, coded problems and exit codes.
// Level 0: data, validation, encoding; pure.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind says what an event tells about its step.
type Kind string

const (
	Started  Kind = "started"
	Progress Kind = "progress"
	Finished Kind = "finished"
	Failed   Kind = "failed"
	Note     Kind = "note"     // a line for people, no state
	Trouble  Kind = "problem"  // carries a Problem, the step goes on
	Ask      Kind = "ask"      // the worker waits for a person; Data names what for
	Answered Kind = "answered" // the question of Step is closed; Text says by whom
	Planned  Kind = "planned"  // a plan is carried out from here on; Data names it: Planned opens what a journal tells
	Saved    Kind = "saved"    // all that was restored so far is on the disk; Data says where to go on
	Done     Kind = "done"     // the whole run ended; Data holds the Result
)

// Event is one line of the journal. Every step speaks through one Sink; the
// log, the screen, the journal, the server and --json are all made from it.
type Event struct {
	Time    time.Time       `json:"time"`
	Seq     int64           `json:"seq"`
	Kind    Kind            `json:"kind"`
	Stage   string          `json:"stage,omitempty"`
	Step    string          `json:"step,omitempty"`    // plan.Step.ID: Verb/Node[/Arg]
	Text    string          `json:"text,omitempty"`    // one line for people
	Done    int64           `json:"done,omitempty"`    // bytes done of this step
	Total   int64           `json:"total,omitempty"`   // bytes in all, 0 when unknown
	Millis  int64           `json:"millis,omitempty"`  // duration, on finished and failed
	Problem *Problem        `json:"problem,omitempty"` // on failed and problem
	Data    json.RawMessage `json:"data,omitempty"`    // step's own result, for machines
}

// Sink takes events. Implementations must not block for long and must be safe
// for use by several goroutines.
type Sink interface{ Emit(Event) }

// SinkFunc makes a Sink of a function.
type SinkFunc func(Event)

// Emit calls f.
func (f SinkFunc) Emit(e Event) { f(e) }

// Discard drops every event.
var Discard Sink = SinkFunc(func(Event) {})

// Severity of a problem.
type Severity string

const (
	Info    Severity = "info"
	Warning Severity = "warning"
	Error   Severity = "error"
)

// Exit is a process exit code; the numbers are promised to users.
type Exit int

const (
	ExitOK            Exit = 0
	ExitFailed        Exit = 1
	ExitUsage         Exit = 2 // wrong usage or configuration
	ExitUncovered     Exit = 3 // this system cannot be recovered as captured
	ExitRefused       Exit = 4 // refused for safety
	ExitBackup        Exit = 5 // the backup is missing or damaged
	ExitUnknownNagios Exit = 3 // `check` only
)

// Problem is a coded finding. Code is a row of Codes; Text is one line that
// names the object; Next is what a person does about it.
type Problem struct {
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Text     string   `json:"text"`
	Next     string   `json:"next,omitempty"`
	Object   string   `json:"object,omitempty"` // node ID, mount path, file or device it is about
	Details  []string `json:"details,omitempty"`
}

// Line is the problem on one line, as a screen or log shows it.
func (p Problem) Line() string {
	s := p.Text
	if p.Next != "" {
		s += "; " + p.Next
	}
	return fmt.Sprintf("%s [%s]", s, p.Code)
}

// Fault is an error that carries a coded Problem and its cause.
type Fault struct {
	Problem
	Cause error
}

// Error is the one-line form, with the cause when the text does not hold it.
func (f *Fault) Error() string {
	s := f.Text
	if f.Cause != nil && !strings.Contains(s, f.Cause.Error()) {
		s += ": " + f.Cause.Error()
	}
	if f.Next != "" {
		s += "; " + f.Next
	}
	return s
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Cause }

// Errorf makes a Fault of a code of the table. The last %w of the text, if
// any, becomes the cause.
func Errorf(code, next, format string, args ...any) *Fault {
	err := fmt.Errorf(format, args...)
	return &Fault{Problem: Problem{Code: code, Severity: Error, Text: err.Error(), Next: next}, Cause: errors.Unwrap(err)}
}

// ProblemOf returns the coded problem in err's chain, or a general one.
func ProblemOf(err error) Problem {
	if err == nil {
		return Problem{Code: CodeFailed, Severity: Info, Text: "nothing is wrong"}
	}
	var f *Fault
	if errors.As(err, &f) {
		p := f.Problem
		if full := err.Error(); !strings.HasPrefix(full, p.Text) {
			p.Text = full
		}
		return p
	}
	return Problem{Code: CodeFailed, Severity: Error, Text: err.Error()}
}

// ExitOf maps an error to the exit code that its code promises; nil is 0.
func ExitOf(err error) Exit {
	if err == nil {
		return ExitOK
	}
	var f *Fault
	if errors.As(err, &f) {
		return ExitOfCode(f.Code)
	}
	return ExitFailed
}

// ExitOfCode maps a code of the table to its exit code.
func ExitOfCode(code string) Exit {
	for _, r := range Codes {
		if r.Code == code {
			return r.Exit
		}
	}
	return ExitFailed
}

// Result is how a recovery or drill ended, kept in the report and in the last
// event.
type Result struct {
	Kind     string    `json:"kind,omitempty"` // "" for a recovery, repair, undo
	Order    string    `json:"order,omitempty"`
	Host     string    `json:"host"`
	State    string    `json:"state"` // done, failed, refused
	Exit     Exit      `json:"exit"`
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended"`
	Resumed  bool      `json:"resumed"`           // false: built fresh
	Attempt  int       `json:"attempt,omitempty"` // 1 for the first
	PlanID   string    `json:"plan_id,omitempty"`
	Problems []Problem `json:"problems,omitempty"`
	Phases   []Phase   `json:"phases,omitempty"`
	Bytes    int64     `json:"bytes,omitempty"` // tar bytes restored
}

// Phase is one timed part of a run.
type Phase struct {
	Name   string `json:"name"`
	Millis int64  `json:"millis"`
}
