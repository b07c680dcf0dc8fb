// Package ui is the console interface of the rescue system: it follows the
// event log, shows questions and sends the answers to the worker.
// Level 6.
package ui

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/muesli/reflow/wordwrap"
	"golang.org/x/sys/unix"

	"lifeboat/internal/cli"
	"lifeboat/internal/handoff"
	"lifeboat/report"
	"lifeboat/rescue"
)

// Console is one screen with a keyboard: a VGA text console, a serial line or
// an SSH session. Every console shows the same; the first answer counts.
type Console struct {
	In     *os.File
	Out    io.Writer
	Name   string // e.g. ttyS0, for the log
	Events string // the event log; handoff.EventsPath
	Socket string // the worker's socket; handoff.AnswersPath
	Shell  func() error

	mu      sync.Mutex
	open    *rescue.Question
	typed   []byte
	onBar   bool
	lastBar time.Time
	began   time.Time // of what step counts
	step    string
}

// New is the console of this process.
func New(name string, shell func() error) *Console {
	return &Console{In: os.Stdin, Out: os.Stdout, Name: name, Events: handoff.EventsPath, Socket: handoff.AnswersPath, Shell: shell}
}

// Run shows events and takes keys until ctx ends or a shell is wanted.
func (c *Console) Run(ctx context.Context) error {
	restore, err := cbreak(int(c.In.Fd()))
	if err != nil {
		restore = func() {} // not a terminal: lines come as they are
	}
	defer restore()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan report.Event, 64)
	go follow(ctx, c.Events, events)
	keys := make(chan byte, 64)
	go readKeys(ctx, c.In, keys)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-events:
			c.show(e)
		case k, ok := <-keys:
			if !ok {
				return errors.New("the console was closed")
			}
			if c.key(k) {
				restore()
				// A shell shows no countdown, and takes its keys.
				rescue.Here(c.Socket, c.Name)
				return c.Shell()
			}
		case <-tick.C:
			c.count()
		}
	}
}

func (c *Console) line(format string, args ...any) {
	if c.onBar {
		fmt.Fprint(c.Out, "\r\x1b[K")
		c.onBar = false
	}
	text := wrapped(fmt.Sprintf(format, args...), c.width())
	fmt.Fprint(c.Out, strings.ReplaceAll(text, "\n", "\r\n")+"\r\n")
}

// width is how many columns the screen has; 0 where it cannot be known, as on
// serial lines, whose terminals break lines by themselves.
func (c *Console) width() int {
	if c.In == nil {
		return 0
	}
	w, err := unix.IoctlGetWinsize(int(c.In.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(w.Col)
}

// wrapped breaks lines between words; what continues a line stands two columns
// further in.
func wrapped(text string, width int) string {
	const least = 40 // below that every break is as bad as none
	if width < least {
		return text
	}
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		rest := strings.TrimLeft(l, " ")
		lead := l[:len(l)-len(rest)]
		if len(lead)+2 >= width/2 {
			continue
		}
		w := wordwrap.NewWriter(width - len(lead) - 3)
		w.Breakpoints = nil // a date or a path stays in one piece
		_, _ = w.Write([]byte(rest))
		_ = w.Close()
		lines[i] = lead + strings.ReplaceAll(w.String(), "\n", "\n"+lead+"  ")
	}
	return strings.Join(lines, "\n")
}

// show prints one event.
func (c *Console) show(e report.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e.Kind {
	case report.Started:
		c.began, c.step, c.lastBar = e.Time, e.Step, time.Time{}
		if e.Text != "" {
			c.line("%s ...", e.Text)
		}
	case report.Progress:
		c.bar(e)
	case report.Finished:
		if e.Millis >= 1000 {
			c.line("  done in %.1f s", float64(e.Millis)/1000)
		}
	case report.Failed:
		c.line("FAILED: %s", e.Text)
	case report.Note:
		c.line("%s", e.Text)
	case report.Trouble:
		c.line("%s: %s", strings.ToUpper(string(e.Problem.Severity)), e.Problem.Line())
	case report.Done:
		c.line("")
		c.line("=== %s ===", e.Text)
		c.result(e)
	case report.Ask:
		c.ask(e)
	case report.Answered:
		if c.open != nil && c.open.ID == e.Step {
			c.open, c.typed = nil, nil
			if e.Text != "" {
				c.line("(%s)", e.Text)
			}
		}
	}
}

func (c *Console) result(e report.Event) {
	var r report.Result
	if json.Unmarshal(e.Data, &r) != nil {
		return
	}
	for _, p := range r.Problems {
		c.line("  %s", p.Line())
		for _, d := range p.Details {
			c.line("      %s", d)
		}
	}
	c.line("  exit code %d, %s in all", r.Exit, r.Ended.Sub(r.Started).Round(time.Second))
}

// bar rewrites the last line in place.
func (c *Console) bar(e report.Event) {
	if time.Since(c.lastBar) < 900*time.Millisecond {
		return
	}
	if e.Step != c.step { // what is no step of a plan has no beginning of its own
		c.began, c.step = e.Time, e.Step
	}
	c.lastBar = time.Now()
	fmt.Fprintf(c.Out, "\r\x1b[K  %s", cli.Bar(e.Done, e.Total, e.Time.Sub(c.began)))
	c.onBar = true
}

func (c *Console) ask(e report.Event) {
	var q rescue.Question
	if err := json.Unmarshal(e.Data, &q); err != nil {
		return
	}
	if !q.Until.IsZero() && time.Now().After(q.Until) {
		return // replayed after its end
	}
	// What was typed before the question was seen is no answer to it.
	_ = unix.IoctlSetInt(int(c.In.Fd()), unix.TCFLSH, unix.TCIFLUSH)
	c.open, c.typed = &q, nil
	c.line("")
	for _, l := range q.Lines {
		c.line("%s", l)
	}
	c.line("%s", q.Title)
	for _, ch := range q.Choices {
		c.line("  %s  %s", ch.Key, ch.Text)
	}
	if q.Kind == "menu" {
		c.line("  l  Show the log")
		c.line("  s  Shell (exit comes back here)")
	}
	c.prompt()
}

func (c *Console) prompt() {
	if c.open == nil || c.open.Kind == "key" {
		return
	}
	fmt.Fprintf(c.Out, "> %s", c.typed)
}

// count shows the seconds left of a countdown.
func (c *Console) count() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil || c.open.Kind != "key" {
		return
	}
	left := time.Until(c.open.Until).Round(time.Second)
	if left < 0 {
		return
	}
	fmt.Fprintf(c.Out, "\r\x1b[K  %d s left; any key stops ", int(left.Seconds()))
	c.onBar = true
}

// key takes one key; true asks for a shell.
func (c *Console) key(k byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		if k == '\r' || k == '\n' {
			c.line("s: shell   l: log")
		}
		return c.command(string(k))
	}
	if c.open.Kind == "key" {
		c.send(rescue.Request{Do: "answer", Ask: c.open.ID, Text: "key"})
		return false
	}
	switch k {
	case '\r', '\n':
		fmt.Fprint(c.Out, "\r\n")
		text := strings.TrimSpace(string(c.typed))
		c.typed = nil
		if c.open.Kind == "menu" && (text == "s" || text == "l") {
			shell := c.command(text)
			c.prompt()
			return shell
		}
		if text == "" && c.open.Kind == "menu" {
			c.prompt()
			return false
		}
		c.send(rescue.Request{Do: "answer", Ask: c.open.ID, Text: text})
	case 0x7f, 0x08:
		if len(c.typed) > 0 {
			c.typed = c.typed[:len(c.typed)-1]
			fmt.Fprint(c.Out, "\b \b")
		}
	case 0x15: // ^U
		fmt.Fprint(c.Out, strings.Repeat("\b \b", len(c.typed)))
		c.typed = nil
	default:
		if k >= 0x20 && len(c.typed) < 256 {
			c.typed = append(c.typed, k)
			fmt.Fprintf(c.Out, "%c", k)
		}
	}
	return false
}

func (c *Console) command(s string) (shell bool) {
	switch s {
	case "s":
		c.line("Shell; exit comes back")
		return true
	case "l":
		data, err := os.ReadFile(rescue.LogPath)
		if err != nil {
			c.line("log: %v", err)
			return false
		}
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		if len(lines) > 40 {
			c.line("... the whole log is %s", rescue.LogPath)
			lines = lines[len(lines)-40:]
		}
		for _, l := range lines {
			c.line("%s", l)
		}
	}
	return false
}

func (c *Console) send(r rescue.Request) {
	r.From = c.Name
	if _, err := rescue.Send(c.Socket, r); err != nil {
		c.line("%v", err)
	}
}

// follow gives what the event log holds and everything to come. The log is
// opened as soon as it is there and again when it was begun anew.
func follow(ctx context.Context, path string, out chan<- report.Event) {
	var f *os.File
	var in *bufio.Reader
	var part []byte
	defer func() {
		if f != nil {
			f.Close()
		}
	}()
	for ctx.Err() == nil {
		if f == nil {
			var err error
			if f, err = os.Open(path); err == nil {
				in = bufio.NewReader(f)
			}
		}
		if in != nil {
			for {
				b, err := in.ReadBytes('\n')
				part = append(part, b...)
				if err != nil {
					break
				}
				var e report.Event
				if json.Unmarshal(part, &e) == nil {
					select {
					case out <- e:
					case <-ctx.Done():
						return
					}
				}
				part = nil
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// readKeys reads single bytes; it looks before it reads, so that a shell
// started in our place gets every key.
func readKeys(ctx context.Context, in *os.File, keys chan<- byte) {
	defer close(keys)
	fd := int(in.Fd())
	for ctx.Err() == nil {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 200)
		if err == unix.EINTR || n == 0 {
			continue
		}
		if err != nil || p[0].Revents&(unix.POLLERR|unix.POLLNVAL) != 0 {
			return
		}
		var b [1]byte
		m, err := unix.Read(fd, b[:])
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil || m == 0 {
			return
		}
		select {
		case keys <- b[0]:
		case <-ctx.Done():
			return
		}
	}
}

// cbreak gives keys one by one and without echo.
func cbreak(fd int) (restore func(), err error) {
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	t := *old
	// Every key counts as one: Ctrl-C is what people press to stop a
	// countdown, and Ctrl-S must not freeze the screen.
	t.Lflag &^= unix.ICANON | unix.ECHO | unix.ISIG | unix.IEXTEN
	t.Iflag &^= unix.IXON | unix.BRKINT
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &t); err != nil {
		return nil, err
	}
	var once sync.Once
	return func() { once.Do(func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, old) }) }, nil
}
