package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"lifeboat/report"
)

// Times of an upload; variables only for tests.
var (
	webExpect = 10 * time.Second // for the server's word that it wants the archive
	webUnsent = 3 * time.Minute  // without one byte taken: disks of a store may spin up, or be busy
	webStored = 15 * time.Minute // from the last byte to the word that the archive is on the disk
)

// webUpload streams one PUT; the server gives the archive its name only when
// the body came whole.
type webUpload struct {
	url    string
	pw     *io.PipeWriter
	cancel context.CancelCauseFunc
	once   sync.Once
	done   chan struct{} // closed when err is known
	err    error
}

// Create begins an upload. It returns when the server has said that it wants
// the archive: a refusal, a wrong name or a server that is down is heard
// before anything is packed.
func (w *web) Create(ctx context.Context, name string) (Upload, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	pr, pw := io.Pipe()
	u := &webUpload{url: w.at(name), pw: pw, cancel: cancel, done: make(chan struct{})}
	body := &sending{PipeReader: pr, begun: make(chan struct{}), cancel: cancel}
	r, err := w.request(ctx, http.MethodPut, u.url, body)
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("upload the archive: %w", err)
	}
	r.Header.Set("If-None-Match", "*")
	r.Header.Set("Content-Type", "application/zstd")
	r.Header.Set("Expect", "100-continue")
	go func() {
		defer close(u.done)
		u.err = u.send(ctx, w.sender, r)
		body.stop()
		pr.CloseWithError(io.ErrClosedPipe)
	}()
	select {
	case <-body.begun:
		return u, nil
	case <-u.done:
		cancel(nil)
		if u.err == nil {
			u.err = u.fault(errors.New("the server took an archive that was not sent"))
		}
		return nil, u.err
	}
}

// send does the request and turns its outcome into what a person can act on.
func (u *webUpload) send(ctx context.Context, c *http.Client, r *http.Request) error {
	resp, err := c.Do(r)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause // the transport says only that it was cancelled
		}
		return u.fault(err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusCreated, http.StatusNoContent, http.StatusOK:
		return nil
	}
	return u.fault(answer(u.Name(), resp))
}

// fault gives the error of an upload its code and what to do next.
func (u *webUpload) fault(err error) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("upload the archive: %w", err)
	}
	code, next := report.CodeBackupMissing, "check that the backup store is up and can be reached from this machine"
	var st *statusError
	if errors.As(err, &st) {
		next = "look at the log of the backup store"
		switch st.code {
		case http.StatusUnauthorized, http.StatusForbidden:
			next = "name the file that holds the store's token in backup.token_file"
		case http.StatusConflict, http.StatusPreconditionFailed:
			code, next = report.CodeFailed, "wait a second and start again: the name is taken"
		case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
			next = "correct backup.url: a server that takes archives is wanted, such as `lifeboat archive serve`"
		case http.StatusInsufficientStorage, http.StatusRequestEntityTooLarge:
			code, next = report.CodeNoSpace, "make room in the backup store; older backups are as they were"
		}
	}
	return report.Errorf(code, next, "upload to %s: %w", u.Name(), err)
}

// sending is the body of an upload under watch. The transport asks for more
// only when it got rid of what it had: the time between is the server's, and
// the time within belongs to the packing.
type sending struct {
	*io.PipeReader
	first  sync.Once
	begun  chan struct{} // closed when the first byte is asked for
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	clock *time.Timer
	over  bool
}

func (s *sending) Read(p []byte) (int, error) {
	s.first.Do(func() { close(s.begun) })
	s.watch(0, nil)
	n, err := s.PipeReader.Read(p)
	switch {
	case err == io.EOF:
		s.watch(webStored, fmt.Errorf("the server did not say within %v that the archive is stored", webStored))
	case n > 0:
		s.watch(webUnsent, fmt.Errorf("the server took nothing for %v", webUnsent))
	}
	return n, err
}

// watch breaks the upload off with why unless it is called again in time.
func (s *sending) watch(d time.Duration, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clock != nil {
		s.clock.Stop()
		s.clock = nil
	}
	if d > 0 && !s.over {
		s.clock = time.AfterFunc(d, func() { s.cancel(why) })
	}
}

func (s *sending) stop() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.watch(0, nil)
}

// Write sends, or says why nothing is taken any more: the pipe itself knows
// only that it is closed.
func (u *webUpload) Write(p []byte) (int, error) {
	n, err := u.pw.Write(p)
	if err == nil {
		return n, nil
	}
	u.end()
	if u.err != nil {
		return n, u.err
	}
	return n, u.fault(errors.New("the server answered before it had the whole archive"))
}

// end waits for the outcome. The transport has let go of the body by then; one
// that still waits for an answer that nobody gives is broken off.
func (u *webUpload) end() {
	t := time.AfterFunc(webUnsent, func() { u.cancel(errors.New("the server gave no answer")) })
	defer t.Stop()
	<-u.done
}

func (u *webUpload) Name() string    { return redact(u.url) }
func (u *webUpload) Local() *os.File { return nil }

// Commit ends the body and waits for the server's word.
func (u *webUpload) Commit() error {
	u.once.Do(func() { u.pw.Close() })
	<-u.done
	u.cancel(nil)
	return u.err
}

// Abort breaks the connection, so that the server drops what it has.
func (u *webUpload) Abort() {
	u.once.Do(func() {
		u.cancel(context.Canceled)
		u.pw.CloseWithError(context.Canceled)
	})
	<-u.done
}
