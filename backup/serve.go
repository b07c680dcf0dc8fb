package backup

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
	"syscall"
	"time"
)

// Server is the small archive server: GET and HEAD with ranges, PUT, lists.
type Server struct {
	dir   *dir
	token string
	log   func(format string, args ...any)
}

// NewServer serves the archives below root. An empty token serves everybody.
func NewServer(root, token string, log func(string, ...any)) (*Server, error) {
	d, err := openDir(root)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = func(string, ...any) {}
	}
	return &Server{dir: d, token: token, log: log}, nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	rec := &recorder{ResponseWriter: w, code: 200}
	s.serve(rec, r)
	s.log("%s %s %s %s: %d, %d bytes, %.1f s", r.RemoteAddr, r.Method, r.URL.Path, r.Header.Get("Range"), rec.code, rec.bytes, time.Since(start).Seconds())
}

type recorder struct {
	http.ResponseWriter
	code  int
	bytes int64
}

// Unwrap lets a http.ResponseController at the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(c int) { r.code = c; r.ResponseWriter.WriteHeader(c) }
func (r *recorder) Write(p []byte) (int, error) {
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// ReadFrom keeps sendfile.
func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(r.ResponseWriter, src)
	r.bytes += n
	return n, err
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat)) // the rescue system sets its clock by it
	if !s.allowed(r) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "a token is needed: name its file in backup.token_file", http.StatusUnauthorized)
		return
	}
	name := strings.Trim(path.Clean("/"+r.URL.Path), "/")
	switch {
	case r.Method == http.MethodPut:
		s.put(w, r, name)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD, PUT")
		http.Error(w, "only GET, HEAD and PUT are known", http.StatusMethodNotAllowed)
	case name == "":
		s.hosts(w, r)
	case !strings.Contains(name, "/"):
		s.list(w, r, name)
	default:
		s.get(w, r, name)
	}
}

func (s *Server) allowed(r *http.Request) bool {
	if s.token == "" {
		return true
	}
	got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(s.token))
	return ok && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func (s *Server) hosts(w http.ResponseWriter, _ *http.Request) {
	h, err := hostDirs(s.dir.path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeJSON(w, h)
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, host string) {
	items, err := s.dir.List(r.Context(), host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	if items == nil {
		items = []Item{}
	}
	writeJSON(w, items)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, name string) {
	var o Object
	err := checkName(name)
	if err == nil && !strings.HasSuffix(name, Suffix) {
		err = fs.ErrNotExist // what else lies in the folder is nobody's business
	}
	if err == nil {
		o, err = s.dir.Open(r.Context(), name)
	}
	if err != nil {
		http.Error(w, "no such archive: "+name, http.StatusNotFound)
		return
	}
	defer o.Close()
	f := o.(*file)
	st, err := f.Stat()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/zstd")
	w.Header().Set("ETag", fmt.Sprintf(`"%x-%x"`, st.ModTime().UnixNano(), st.Size()))
	http.ServeContent(w, r, "", st.ModTime(), f.File)
}

func (s *Server) put(w http.ResponseWriter, r *http.Request, name string) {
	if !strings.HasSuffix(name, Suffix) || checkName(name) != nil {
		http.Error(w, "archives are named HOST/NAME"+Suffix, http.StatusBadRequest)
		return
	}
	up, err := s.dir.Create(context.Background(), name)
	if err != nil {
		code := http.StatusConflict
		if full(err) {
			code = http.StatusInsufficientStorage
		}
		http.Error(w, err.Error(), code)
		return
	}
	n, err := io.Copy(up, r.Body)
	if err == nil && r.ContentLength >= 0 && n != r.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		up.Abort()
		refuse(w, r, fmt.Sprintf("the upload broke off after %d bytes and was dropped: %v", n, err), broken(err))
		return
	}
	if err := up.Commit(); err != nil {
		code := http.StatusInternalServerError
		switch {
		case errors.Is(err, fs.ErrExist):
			code = http.StatusConflict
		case full(err):
			code = http.StatusInsufficientStorage
		}
		http.Error(w, err.Error(), code)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// refuse answers in the middle of an upload. What is still on its way is
// thrown away for a while: a connection closed on it would be reset, and take
// the answer with it.
func refuse(w http.ResponseWriter, r *http.Request, text string, code int) {
	c := http.NewResponseController(w)
	_ = c.EnableFullDuplex() // without these three the answer is less likely to arrive, no more
	http.Error(w, text, code)
	_ = c.Flush()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.Copy(io.Discard, r.Body)
}

// broken tells a client whose fault it is that an upload was dropped.
func broken(err error) int {
	var mine *os.PathError // of the file that is written
	switch {
	case full(err):
		return http.StatusInsufficientStorage
	case errors.As(err, &mine):
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
