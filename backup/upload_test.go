package backup

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lifeboat/report"
)

// upload sends n bytes in pieces and gives the error that a backup would end
// with, and how many bytes were taken.
func upload(t *testing.T, url string, opt Options, n int) (taken int, err error) {
	t.Helper()
	s, _, err := OpenStore(url, opt)
	if err != nil {
		t.Fatal(err)
	}
	u, err := s.Create(t.Context(), "h/1.lba")
	if err != nil {
		return 0, err
	}
	defer u.Abort()
	for piece := content(64 << 10); taken < n; {
		m, err := u.Write(piece)
		taken += m
		if err != nil {
			return taken, err
		}
	}
	return taken, u.Commit()
}

// TestUploadSaysWhy: the cause of a failed upload is heard, with what to do,
// before anything is packed where that can be.
func TestUploadSaysWhy(t *testing.T) {
	srv, err := NewServer(t.TempDir(), "secret", t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	token := httptest.NewServer(srv)
	defer token.Close()
	down := httptest.NewServer(nil)
	down.Close()
	var fromFull atomic.Int64
	full := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.CopyN(io.Discard, r.Body, 300<<10)
		fromFull.Store(n)
		refuse(&recorder{ResponseWriter: w}, r, "no space left on device", http.StatusInsufficientStorage)
	}))
	defer full.Close()
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.CopyN(io.Discard, r.Body, 300<<10)
		panic(http.ErrAbortHandler)
	}))
	defer broken.Close()
	static := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) }))
	defer static.Close()
	for _, c := range []struct {
		what, url, code, text, next string
		unpacked                    bool // known before anything is packed
	}{
		{"wrong token", token.URL, report.CodeBackupMissing, "401", "token_file", true},
		{"down", down.URL, report.CodeBackupMissing, "connection refused", "is up", true},
		{"unknown host", "http://store.invalid", report.CodeBackupMissing, "store.invalid", "reached", true},
		{"no store", static.URL, report.CodeBackupMissing, "405", "archive serve", true},
		{"full", full.URL, report.CodeNoSpace, "no space left", "make room", false},
		{"broken off", broken.URL, report.CodeBackupMissing, "upload to http", "is up", false},
	} {
		for range 5 { // the order in which the transport lets go is a matter of luck
			taken, err := upload(t, c.url, Options{Token: "wrong"}, 64<<20)
			p := report.ProblemOf(err)
			if err == nil || p.Code != c.code || !strings.Contains(p.Text, c.text) || !strings.Contains(p.Next, c.next) || strings.Contains(p.Text, "closed pipe") || c.unpacked != (taken == 0) {
				t.Errorf("%s: %d bytes taken, %+v", c.what, taken, p)
			}
		}
	}
	if fromFull.Load() == 0 {
		t.Error("the server without room read nothing")
	}
}

// TestUploadStalls: a server that takes nothing more, or never says that it
// has the archive, does not hold a backup up for ever.
func TestUploadStalls(t *testing.T) {
	e, n, s := webExpect, webUnsent, webStored
	webExpect, webUnsent, webStored = 20*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
	t.Cleanup(func() { webExpect, webUnsent, webStored = e, n, s })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // takes connections, and reads nothing
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	_, err = upload(t, "http://"+l.Addr().String(), Options{}, 256<<20)
	if p := report.ProblemOf(err); p.Code != report.CodeBackupMissing || !strings.Contains(p.Text, "took nothing for") {
		t.Errorf("%v", err)
	}
	hold := make(chan struct{})
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-hold
	}))
	defer ts.Close()
	defer close(hold)
	_, err = upload(t, ts.URL, Options{}, 1<<20)
	if p := report.ProblemOf(err); p.Code != report.CodeBackupMissing || !strings.Contains(p.Text, "did not say within") {
		t.Errorf("%v", err)
	}
}

// TestSlowPackingIsNoStall: the clock runs only while the server has the word.
func TestSlowPackingIsNoStall(t *testing.T) {
	n := webUnsent
	webUnsent = 50 * time.Millisecond
	t.Cleanup(func() { webUnsent = n })
	store, _ := server(t, "", nil)
	u, err := store.Create(t.Context(), "h/1.lba")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Abort()
	for range 3 {
		if _, err := u.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * webUnsent)
	}
	if err := u.Commit(); err != nil || string(get(t, store, "h/1.lba")) != "xxx" {
		t.Errorf("%v", err)
	}
}

func TestBrokenStatus(t *testing.T) {
	for err, want := range map[error]int{
		&os.PathError{Op: "write", Err: syscall.ENOSPC}: http.StatusInsufficientStorage,
		&os.PathError{Op: "write", Err: syscall.EIO}:    http.StatusInternalServerError,
		io.ErrUnexpectedEOF:                             http.StatusBadRequest,
		errors.Join(syscall.EDQUOT):                     http.StatusInsufficientStorage,
	} {
		if got := broken(err); got != want {
			t.Errorf("%v: %d", err, got)
		}
	}
}
