// Package cli is the face of the commands: terminal, plain and JSON output,
// prompts, error → exit code.
// Level 5.
package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"lifeboat/report"
)

// Out prints what a command has to say.
type Out struct {
	Stdout, Stderr       io.Writer
	JSON, Verbose, Quiet bool
	TTY                  bool // progress bars on Stderr

	mu       sync.Mutex
	bar      *progressbar.ProgressBar
	step     string
	last     time.Time
	start    time.Time
	seq      int64
	streamed bool // JSON lines were printed: what follows is a line, too
	printed  bool // a JSON document was printed: nothing may follow it
}

// New is the output of this process.
func New() *Out {
	return &Out{Stdout: os.Stdout, Stderr: os.Stderr, TTY: term.IsTerminal(int(os.Stderr.Fd()))}
}

// Print writes a line of the result to standard output, unless JSON is asked.
func (o *Out) Print(format string, args ...any) {
	if o.JSON {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.endBar()
	fmt.Fprintf(o.Stdout, format+"\n", args...)
}

// Info writes a line for people to standard error: quiet and JSON silence it.
func (o *Out) Info(format string, args ...any) {
	if o.JSON || o.Quiet {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.endBar()
	fmt.Fprintf(o.Stderr, format+"\n", args...)
}

// Debugf writes only with --verbose; it fits run.Logger.
func (o *Out) Debugf(format string, args ...any) {
	if o.Verbose {
		o.Info(format, args...)
	}
}

// Value prints the one JSON document of a command; after events it is one
// line, like them.
func (o *Out) Value(v any) error {
	o.printed = true
	return o.encode(o.Stdout, v)
}

// Line prints one of many JSON values: a line of its own.
func (o *Out) Line(v any) error {
	o.streamed = true
	return o.encode(o.Stdout, v)
}

// Document prints what is a JSON document already.
func (o *Out) Document(doc []byte) error {
	o.printed = true
	_, err := o.Stdout.Write(doc)
	return err
}

func (o *Out) encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if !o.streamed {
		e.SetIndent("", "  ")
	}
	return e.Encode(v)
}

// Warn prints a problem that does not stop the command.
func (o *Out) Warn(p report.Problem) {
	if o.JSON {
		return // it is part of the document
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.endBar()
	fmt.Fprintf(o.Stderr, "%s: %s\n", p.Severity, p.Line())
	if p.Severity == report.Info && !o.Verbose {
		return // the line is enough; --verbose has the list
	}
	for _, d := range p.Details {
		fmt.Fprintf(o.Stderr, "    %s\n", d)
	}
}

// Fail prints an error as its problem demands and returns the exit code.
func (o *Out) Fail(err error) int {
	if err == nil {
		return 0
	}
	code := report.ExitOf(err)
	var own *Exit
	if errors.As(err, &own) {
		code = report.Exit(own.Code)
		if own.Err == nil {
			return own.Code
		}
		err = own.Err
	}
	p := report.ProblemOf(err)
	if o.JSON {
		w := o.Stdout
		if o.printed && !o.streamed {
			w = o.Stderr // standard output holds one document
		}
		_ = o.encode(w, map[string]any{"error": p, "exit": code})
		return int(code)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.endBar()
	fmt.Fprintf(o.Stderr, "lifeboat: %s\n", firstLine(err.Error()))
	for _, d := range p.Details {
		fmt.Fprintf(o.Stderr, "    %s\n", d)
	}
	return int(code)
}

// Exit is an error that asks for an exit code of its own; a nil Err prints
// nothing.
type Exit struct {
	Code int
	Err  error
}

// Error is the inner error's text.
func (e *Exit) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap returns the inner error.
func (e *Exit) Unwrap() error { return e.Err }

func firstLine(s string) string {
	return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
}

// Emit prints an event: bars on a terminal, plain lines elsewhere, JSON lines
// with --json. Out is a report.Sink.
func (o *Out) Emit(e report.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.JSON {
		o.seq++
		if e.Time.IsZero() {
			e.Time, e.Seq = time.Now().UTC(), o.seq
		}
		_ = o.Line(e)
		return
	}
	if e.Problem != nil && e.Kind != report.Failed {
		o.endBar()
		fmt.Fprintf(o.Stderr, "%s: %s\n", e.Problem.Severity, e.Problem.Line())
		return
	}
	if o.Quiet {
		return
	}
	switch e.Kind {
	case report.Started:
		o.endBar()
		o.step, o.start, o.last = cmp.Or(e.Step, e.Text), time.Now(), time.Now()
		if e.Text != "" && (!o.TTY || e.Total == 0) {
			fmt.Fprintf(o.Stderr, "%s\n", e.Text)
		}
	case report.Progress:
		o.progress(e)
	case report.Finished:
		o.endBar()
		if e.Text != "" {
			fmt.Fprintf(o.Stderr, "%s%s\n", e.Text, took(e.Millis))
		}
	case report.Failed:
		o.endBar()
		fmt.Fprintf(o.Stderr, "failed: %s\n", e.Text)
	case report.Note:
		o.endBar()
		fmt.Fprintf(o.Stderr, "%s\n", e.Text)
	}
}

func took(ms int64) string {
	if ms < 100 {
		return ""
	}
	return fmt.Sprintf(" (%.1f s)", float64(ms)/1000)
}

// progress draws the bar, or a plain line every ten seconds.
func (o *Out) progress(e report.Event) {
	if k := cmp.Or(e.Step, e.Text); k != o.step || o.start.IsZero() { // nothing said that it began
		o.endBar()
		o.step, o.start, o.last = k, time.Now(), time.Now()
	}
	if !o.TTY {
		if time.Since(o.last) < 10*time.Second {
			return
		}
		o.last = time.Now()
		fmt.Fprintf(o.Stderr, "  %s\n", Bar(e.Done, e.Total, time.Since(o.start)))
		return
	}
	if o.bar == nil {
		total := e.Total
		if total == 0 {
			total = -1
		}
		o.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(o.Stderr), progressbar.OptionShowBytes(true),
			progressbar.OptionSetDescription(e.Text), progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30))
	}
	_ = o.bar.Set64(e.Done)
}

func (o *Out) endBar() {
	if o.bar != nil {
		_ = o.bar.Clear()
		o.bar = nil
	}
}

// Bar is a progress line in words: bytes, share, rate, time left. How long it
// takes is said from the first hundredth on: before, it would be a guess.
func Bar(done, total int64, since time.Duration) string {
	rate := float64(done) / max(since.Seconds(), 0.001)
	switch {
	case total <= 0:
		return fmt.Sprintf("%s, %s/s", Size(done), Size(int64(rate)))
	case done < total/100:
		return fmt.Sprintf("%3d %%, %s of %s", done*100/total, Size(done), Size(total))
	}
	left := time.Duration(float64(total-done) / max(rate, 1) * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf("%3d %%, %s of %s, %s/s, %s left", done*100/total, Size(done), Size(total), Size(int64(rate)), left)
}

// Size writes bytes with a binary unit, as people read them.
func Size(n int64) string {
	f, u := float64(n), 0
	for f >= 1024 && u < 5 {
		f, u = f/1024, u+1
	}
	if u == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}[u])
}
