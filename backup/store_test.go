package backup

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lifeboat/report"
)

func content(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

func put(t *testing.T, s Store, name string, data []byte) {
	t.Helper()
	u, err := s.Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := u.Commit(); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, s Store, name string) []byte {
	t.Helper()
	o, err := s.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	b, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// server runs an archive server on a directory and returns a store on it.
func server(t *testing.T, token string, wrap func(http.Handler) http.Handler) (Store, string) {
	t.Helper()
	root := t.TempDir()
	srv, err := NewServer(root, token, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	var h http.Handler = srv
	if wrap != nil {
		h = wrap(h)
	}
	ts := httptest.NewServer(h)
	t.Cleanup(ts.Close)
	s, _, err := OpenStore(ts.URL, Options{Token: token})
	if err != nil {
		t.Fatal(err)
	}
	return s, root
}

func quick(t *testing.T) {
	old := webBackoff
	webBackoff = time.Millisecond
	t.Cleanup(func() { webBackoff = old })
}

func TestStores(t *testing.T) {
	quick(t)
	d, _, err := OpenStore(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	w, root := server(t, "secret", nil)
	for name, s := range map[string]Store{"dir": d, "http": w} {
		t.Run(name, func(t *testing.T) {
			data := content(3 << 20)
			put(t, s, "web-1/20260102T000000Z.lba", data[:10])
			put(t, s, "web-1/20260103T000000Z.lba", data)
			put(t, s, "web-10/20270101T000000Z.lba", data[:5])
			it, err := Newest(t.Context(), s, "web-1")
			if err != nil || it.Name != "web-1/20260103T000000Z.lba" || it.Size != int64(len(data)) {
				t.Fatalf("newest: %+v, %v", it, err)
			}
			if !bytes.Equal(get(t, s, it.Name), data) {
				t.Error("read back differs")
			}
			if _, err := Newest(t.Context(), s, "nobody"); report.ExitOf(err) != report.ExitBackup {
				t.Errorf("no archive: %v", err)
			}
			u, err := s.Create(t.Context(), it.Name) // must not replace
			if err == nil {
				_, err = u.Write(data)
				if err == nil {
					err = u.Commit()
				} else {
					u.Abort()
				}
			}
			if err == nil || !bytes.Equal(get(t, s, it.Name), data) {
				t.Errorf("an archive was replaced: %v", err)
			}
		})
	}
	st, err := os.Stat(filepath.Join(root, "web-1/20260103T000000Z.lba"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of an archive: %v %v", st.Mode(), err)
	}
}

func TestAbortLeavesNothing(t *testing.T) {
	quick(t)
	d := t.TempDir()
	ds, _, _ := OpenStore(d, Options{})
	w, root := server(t, "", nil)
	for s, dir := range map[Store]string{ds: d, w: root} {
		u, err := s.Create(t.Context(), "h/1.lba")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Write(content(1 << 20)); err != nil {
			t.Fatal(err)
		}
		u.Abort()
		deadline := time.Now().Add(10 * time.Second)
		for {
			left, _ := filepath.Glob(filepath.Join(dir, "h", "*"))
			hidden, _ := filepath.Glob(filepath.Join(dir, "h", ".*"))
			if len(left)+len(hidden) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: left behind: %v %v", s, left, hidden)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// TestKilledUpload: what a killed run of this host left in a directory goes
// with the next backup; what another one writes just now stays.
func TestKilledUpload(t *testing.T) {
	dir := t.TempDir()
	s, _, err := OpenStore(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	living, err := s.Create(t.Context(), "h/1.lba")
	if err != nil {
		t.Fatal(err)
	}
	defer living.Abort()
	old := time.Now().Add(-2 * partialIdle)
	if err := os.Chtimes(living.Local().Name(), old, old); err != nil { // its packing is slow
		t.Fatal(err)
	}
	left := filepath.Join(dir, "h", ".0.lba.partial-123")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(left, old, old); err != nil {
		t.Fatal(err)
	}
	put(t, s, "h/2.lba", []byte("whole"))
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
	if err := living.Commit(); err != nil {
		t.Errorf("the living one: %v", err)
	}
}

func TestToken(t *testing.T) {
	quick(t)
	_, root := server(t, "secret", nil)
	srv, _ := NewServer(root, "secret", nil)
	ts := httptest.NewServer(srv)
	defer ts.Close()
	s, _, _ := OpenStore(ts.URL, Options{Token: "wrong"})
	if _, err := s.List(t.Context(), "h"); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("wrong token: %v", err)
	}
	u, err := s.Create(t.Context(), "h/1.lba")
	if err == nil {
		u.Write([]byte("x"))
		err = u.Commit()
	}
	if err == nil {
		t.Error("PUT with a wrong token was taken")
	}
	f := filepath.Join(t.TempDir(), "token")
	os.WriteFile(f, []byte("secret\n"), 0o644)
	if _, err := Token(Options{TokenFile: f}); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("world-readable token: %v", err)
	}
	os.Chmod(f, 0o600)
	if tok, err := Token(Options{TokenFile: f}); err != nil || tok != "secret" {
		t.Errorf("token %q, %v", tok, err)
	}
}

// TestBrokenConnections: every third answer is cut in the middle; the reader
// goes on where it stopped.
func TestBrokenConnections(t *testing.T) {
	quick(t)
	var n atomic.Int64
	s, root := server(t, "", func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1)%3 != 0 || r.Method != http.MethodGet {
				h.ServeHTTP(w, r)
				return
			}
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		})
	})
	data := content(5<<20 + 17)
	os.Mkdir(filepath.Join(root, "h"), 0o700)
	os.WriteFile(filepath.Join(root, "h/1.lba"), data, 0o600)
	if !bytes.Equal(get(t, s, "h/1.lba"), data) {
		t.Error("read back differs")
	}
}

func TestReplacedWhileRead(t *testing.T) {
	quick(t)
	s, root := server(t, "", nil)
	os.Mkdir(filepath.Join(root, "h"), 0o700)
	p := filepath.Join(root, "h/1.lba")
	os.WriteFile(p, content(1<<20), 0o600)
	o, err := s.Open(context.Background(), "h/1.lba")
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(p, content(1<<20), 0o600)
	os.Chtimes(p, time.Time{}, time.Unix(1, 0))
	if _, err := o.ReadAt(make([]byte, 10), 5); err == nil || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("a replaced archive was read on: %v", err)
	}
}

func TestHostileNames(t *testing.T) {
	s, root := server(t, "", nil)
	os.WriteFile(filepath.Join(filepath.Dir(root), "outside.lba"), []byte("x"), 0o600)
	for _, n := range []string{"../outside.lba", "a/../../x.lba", "/etc/passwd", "a/b/c.lba", "h/..", "-x/1.lba", "", "h/\x00.lba"} {
		if _, err := s.Open(t.Context(), n); err == nil {
			t.Errorf("%q was opened", n)
		}
	}
	ts := s.(*web).base.String()
	for _, p := range []string{"/../outside.lba", "/h/../../outside.lba", "/%2e%2e/outside.lba", "/h/%2e%2e%2foutside.lba"} {
		resp, err := http.Get(ts + p)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == 200 && resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("GET %s gave %d", p, resp.StatusCode)
		}
		resp.Body.Close()
	}
}

func TestOpenStoreNames(t *testing.T) {
	d := t.TempDir()
	for raw, want := range map[string]string{
		d + "/h/1.lba": "h/1.lba", d: "", "file://" + d + "/h/1.lba": "h/1.lba",
		"http://s:1/a/h/1.lba": "h/1.lba", "https://s/h/1.lba": "h/1.lba",
	} {
		s, name, err := OpenStore(raw, Options{})
		if err != nil || name != want {
			t.Errorf("%s: store %v, name %q, %v", raw, s, name, err)
		}
	}
	if _, _, err := OpenStore("ftp://x/y", Options{}); report.ExitOf(err) != report.ExitUsage {
		t.Errorf("ftp: %v", err)
	}
}
