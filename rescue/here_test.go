package rescue

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/report"
)

// listening is a worker that hears its socket; asked gets each question.
func listening(t *testing.T) (w *Worker, sock string, asked chan report.Event) {
	t.Helper()
	w = booted(t)
	w.T = NewTalk(w.J)
	w.T.Handle = w.handle
	sock = filepath.Join(t.TempDir(), "answers")
	if err := w.T.Serve(t.Context(), sock); err != nil {
		t.Fatal(err)
	}
	asked = make(chan report.Event, 8)
	w.J.AddSink(report.SinkFunc(func(e report.Event) {
		if e.Kind == report.Ask {
			asked <- e
		}
	}))
	return w, sock, asked
}

// soon is a countdown that ends long before a test does; late never ends in one.
const soon, late = 20 * time.Millisecond, time.Hour

func TestShellStopsWhatHasNotBegun(t *testing.T) {
	stopped := errors.New("a key")
	t.Run("before the countdown", func(t *testing.T) {
		w, sock, asked := listening(t)
		Here(sock, "tty1")
		Here(sock, "tty1")
		if err := w.countDown(t.Context(), "", late, true, stopped); report.ProblemOf(err).Code != report.CodeDeclined || report.ExitOf(err) != report.ExitRefused {
			t.Error(err)
		}
		w.countToInstalled(t.Context())
		if len(asked) != 0 {
			t.Error("it was counted down behind the shell")
		}
		n := 0
		for _, e := range w.J.Events() {
			if strings.Contains(e.Text, "opened a shell on tty1") {
				n++
			}
		}
		if n != 1 {
			t.Errorf("said %d times", n)
		}
		// What this very person chose afterwards is counted down as ever.
		if err := w.countDown(t.Context(), "", soon, false, stopped); err != nil || len(asked) != 1 {
			t.Errorf("%v, asked %d times", err, len(asked))
		}
		// A restarted worker knows it still.
		if err := (&Worker{J: NewJournal(), T: w.T}).countDown(t.Context(), "", late, true, stopped); !errors.Is(err, errHere) {
			t.Error(err)
		}
	})
	t.Run("in the countdown", func(t *testing.T) {
		w, sock, asked := listening(t)
		got := make(chan error, 1)
		go func() { got <- w.countDown(t.Context(), "", late, false, stopped) }()
		<-asked
		Here(sock, "tty1")
		if err := <-got; err != stopped {
			t.Error(err)
		}
	})
	t.Run("no worker yet", func(t *testing.T) {
		w, _, _ := listening(t)
		Here(filepath.Join(t.TempDir(), "nobody"), "tty1")
		if err := w.countDown(t.Context(), "", late, true, stopped); !errors.Is(err, errHere) {
			t.Error(err)
		}
	})
	t.Run("after the first write", func(t *testing.T) {
		w, sock, asked := listening(t)
		if err := writeAttempt(1); err != nil {
			t.Fatal(err)
		}
		Here(sock, "tty1")
		Here(filepath.Join(t.TempDir(), "nobody"), "tty1") // while the worker starts again
		if err := w.countDown(t.Context(), "", soon, true, stopped); err != nil || len(asked) != 1 {
			t.Errorf("%v, asked %d times", err, len(asked))
		}
	})
	t.Run("another question", func(t *testing.T) {
		w, sock, asked := listening(t)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error, 1)
		go func() { _, err := w.T.Ask(ctx, Question{Kind: "menu"}); got <- err }()
		<-asked
		Here(sock, "tty1")
		cancel()
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Errorf("a shell answered the menu: %v", err)
		}
	})
}
