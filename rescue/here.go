package rescue

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"lifeboat/internal/handoff"
	"lifeboat/report"
)

// A console whose user opened a shell shows no question any more. So that
// nothing is erased below the hands of who works there, opening one says that a
// person is here: a countdown that runs ends as by any key, and what would
// begin by itself later waits in the menu. What has begun goes on.

// hereWait bounds how long a worker may keep a person from the shell.
const hereWait = time.Second

// herePath is there when a person came before this boot's order began.
func herePath() string { return filepath.Join(bootDir, "here") }

// Here tells the worker that a person opens a shell on a console. Where no
// worker answers, the next one finds the word.
func Here(socket, console string) {
	told := make(chan error, 1)
	go func() {
		_, err := Send(socket, Request{Do: "here", From: console})
		told <- err
	}()
	select {
	case err := <-told:
		if err == nil {
			return
		}
	case <-time.After(hereWait):
	}
	_ = writeBoot(herePath(), console)
}

// personCame is what the worker does when it is told of a person.
func (w *Worker) personCame(from string) Reply {
	w.T.key(from)
	if readAttempts() != 0 || personHere() || w.Order.Recover == handoff.Menu {
		return Reply{OK: true}
	}
	if !hasEnded() {
		w.J.Note("A person opened a shell on %s: what has not begun waits for them", from)
	}
	if err := writeBoot(herePath(), from); err != nil {
		return Reply{Error: err.Error()}
	}
	return Reply{OK: true}
}

// personHere tells whether a person came before anything was written in this
// boot. A try that was cut off goes on whoever looks on.
func personHere() bool {
	_, err := os.Lstat(herePath())
	return !errors.Is(err, os.ErrNotExist) && readAttempts() == 0
}

// errHere is how an order of this boot ends that a person came before.
var errHere = report.Errorf(report.CodeDeclined, "choose from the menu", "a person opened a shell before it began; nothing was written")

// countDown shows what begins by itself on every console. It returns nil when
// the time ran out, stopped when a person pressed a key or came. own is what
// nobody asked for: that does not even begin to count with a person there.
func (w *Worker) countDown(ctx context.Context, title string, wait time.Duration, own bool, stopped error) error {
	if own && personHere() {
		return errHere
	}
	cctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	_, err := w.T.Ask(cctx, Question{Kind: "key", Title: title, Until: time.Now().Add(wait)})
	switch {
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		if own && personHere() {
			return errHere // between the look and the question
		}
		return nil
	case err != nil:
		return err
	}
	return stopped
}
