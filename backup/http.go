package backup

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lifeboat/report"
)

// web is a store on an HTTP server that gives byte ranges, such as `lifeboat
// archive serve`; for reading, any server that answers Range.
type web struct {
	base   *url.URL
	client *http.Client
	sender *http.Client // of uploads
	token  string
	tries  int // of every request; 0: webTries and webPatient
}

// Times that a request may take; a variable only for tests.
var (
	webTries   = 8  // of a first contact
	webPatient = 60 // of a read in the middle of a restore: a server may restart at night
	webBackoff = 500 * time.Millisecond
	webStall   = 60 * time.Second // without one byte
)

func openHTTP(u *url.URL, opt Options) (*web, error) {
	token, err := Token(opt)
	if err != nil {
		return nil, err
	}
	t := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second,
		MaxIdleConnsPerHost:   16,
		DisableCompression:    true, // lengths must be exact
		ReadBufferSize:        256 << 10,
		WriteBufferSize:       256 << 10,
	}
	if opt.CAFile != "" {
		pem, err := os.ReadFile(opt.CAFile)
		if err != nil {
			return nil, report.Errorf(report.CodeConfig, "name a PEM file in ca_file", "read the backup server's authority: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, report.Errorf(report.CodeConfig, "name a PEM file in ca_file", "%s holds no certificate", opt.CAFile)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	up := t.Clone()
	up.ResponseHeaderTimeout = 0 // after an upload the server may write gigabytes to its disks; the upload has a clock of its own
	up.ExpectContinueTimeout = webExpect
	return &web{base: u, client: &http.Client{Transport: t}, sender: &http.Client{Transport: up}, token: token, tries: opt.Tries}, nil
}

// Token returns the bearer token of the options; a token file that others can
// read is refused.
func Token(opt Options) (string, error) {
	if opt.Token != "" || opt.TokenFile == "" {
		return opt.Token, nil
	}
	st, err := os.Stat(opt.TokenFile)
	if err != nil {
		return "", report.Errorf(report.CodeConfig, "write the token into it, mode 0600", "token file: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return "", report.Errorf(report.CodeConfig, "chmod 0600 "+opt.TokenFile, "token file %s has mode %04o: others can read it", opt.TokenFile, st.Mode().Perm())
	}
	b, err := os.ReadFile(opt.TokenFile)
	if err != nil {
		return "", report.Errorf(report.CodeConfig, "", "token file: %w", err)
	}
	t := strings.TrimSpace(string(b))
	if t == "" || strings.ContainsAny(t, " \t\r\n") {
		return "", report.Errorf(report.CodeConfig, "write one word into it", "token file %s holds no token", opt.TokenFile)
	}
	return t, nil
}

func (w *web) String() string { return w.base.Redacted() }

func (w *web) at(parts ...string) string { return w.base.JoinPath(parts...).String() }

func (w *web) request(ctx context.Context, method, u string, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, u, body)
	if err == nil && w.token != "" {
		r.Header.Set("Authorization", "Bearer "+w.token)
	}
	return r, err
}

// statusError is an answer that is not what was asked for.
type statusError struct {
	code int
	what string
	body string
}

func (e *statusError) Error() string {
	s := fmt.Sprintf("%s: HTTP %d %s", e.what, e.code, http.StatusText(e.code))
	if e.body != "" {
		s += ": " + e.body
	}
	return s
}

func (e *statusError) lasting() bool {
	return e.code < 500 && e.code != http.StatusTooManyRequests && e.code != http.StatusRequestTimeout
}

func answer(what string, r *http.Response) *statusError {
	b, _ := io.ReadAll(io.LimitReader(r.Body, 300))
	return &statusError{code: r.StatusCode, what: what, body: strings.TrimSpace(string(b))}
}

// List asks the server for a host's archives; servers that answer no JSON are
// read by naming the archive whole.
func (w *web) List(ctx context.Context, host string) ([]Item, error) {
	if err := checkName(host + "/x"); err != nil {
		return nil, err
	}
	var items []Item
	err := w.retry(ctx, func() error {
		r, err := w.request(ctx, http.MethodGet, w.at(host)+"/", nil)
		if err != nil {
			return err
		}
		r.Header.Set("Accept", "application/json")
		resp, err := w.client.Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusNotFound {
			return nil
		}
		if resp.StatusCode != http.StatusOK {
			return answer("list archives of "+host, resp)
		}
		if !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
			return &statusError{code: http.StatusUnsupportedMediaType, what: "list archives of " + host, body: "the server gives no list; name the archive whole: URL/" + host + "/DATE" + Suffix}
		}
		return json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(&items)
	})
	if err != nil {
		return nil, missing(err, w.String())
	}
	out := items[:0]
	for _, it := range items {
		if checkName(it.Name) == nil && strings.HasPrefix(it.Name, host+"/") && it.Size >= 0 {
			out = append(out, it)
		}
	}
	sortItems(out)
	return out, nil
}

// retry repeats f with growing pauses until it succeeds, fails for good or
// the tries are used up.
func (w *web) retry(ctx context.Context, f func() error) error { return w.retryN(ctx, webTries, f) }

func (w *web) retryN(ctx context.Context, tries int, f func() error) error {
	if w.tries > 0 {
		tries = w.tries
	}
	pause := webBackoff
	for try := 1; ; try++ {
		err := f()
		var st *statusError
		if err == nil || errors.As(err, &st) && st.lasting() || try >= tries || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(pause):
		}
		pause = min(pause*2, 15*time.Second)
	}
}

// webObject reads ranges of one archive. The ETag pins the version: an
// archive that is replaced while it is read is an error, never a mixture.
// redact takes a password out of a URL before it is shown.
func redact(raw string) string {
	if u, err := url.Parse(raw); err == nil {
		return u.Redacted()
	}
	return raw
}

type webObject struct {
	w    *web
	ctx  context.Context
	url  string
	size int64
	etag string
}

// Open asks for the size and proves that the server gives ranges.
func (w *web) Open(ctx context.Context, name string) (Object, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	o := &webObject{w: w, ctx: ctx, url: w.at(name), size: -1}
	err := w.retry(ctx, func() error {
		r, err := w.request(ctx, http.MethodGet, o.url, nil)
		if err != nil {
			return err
		}
		r.Header.Set("Range", "bytes=0-0")
		resp, err := w.client.Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return &statusError{code: 416, what: o.Name(), body: "the server gives no byte ranges; serve the archives by `lifeboat archive serve` or a server that knows Range"}
		}
		if resp.StatusCode != http.StatusPartialContent {
			return answer(o.Name(), resp)
		}
		o.etag = resp.Header.Get("ETag")
		_, _, o.size, err = contentRange(resp.Header.Get("Content-Range"))
		return err
	})
	if err != nil {
		return nil, missing(err, "open the archive")
	}
	return o, nil
}

func contentRange(h string) (first, last, size int64, err error) {
	rng, ok := strings.CutPrefix(h, "bytes ")
	span, total, ok2 := strings.Cut(rng, "/")
	a, b, ok3 := strings.Cut(span, "-")
	if ok && ok2 && ok3 {
		first, err = strconv.ParseInt(a, 10, 64)
		if err == nil {
			last, err = strconv.ParseInt(b, 10, 64)
		}
		if err == nil {
			size, err = strconv.ParseInt(total, 10, 64)
		}
		if err == nil && 0 <= first && first <= last && last < size {
			return first, last, size, nil
		}
	}
	return 0, 0, 0, fmt.Errorf("the server answered with Content-Range %q", h)
}

func (o *webObject) Size() int64  { return o.size }
func (o *webObject) Name() string { return redact(o.url) }
func (o *webObject) Close() error { o.w.client.CloseIdleConnections(); return nil }

// ReadAt fetches one range, going on after broken connections.
func (o *webObject) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read %s at %d", o.Name(), off)
	}
	if off >= o.size {
		return 0, io.EOF
	}
	want := p
	if int64(len(want)) > o.size-off {
		want = want[:o.size-off]
	}
	n := 0
	err := o.w.retryN(o.ctx, webPatient, func() error {
		if n == len(want) {
			return nil
		}
		m, err := o.fetch(want[n:], off+int64(n))
		n += m
		return err
	})
	if err == nil && len(want) < len(p) {
		err = io.EOF
	}
	return n, err
}

func (o *webObject) fetch(p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithCancel(o.ctx)
	defer cancel()
	r, err := o.w.request(ctx, http.MethodGet, o.url, nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+int64(len(p))-1))
	resp, err := o.w.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent {
		return 0, answer(o.Name(), resp)
	}
	first, last, size, err := contentRange(resp.Header.Get("Content-Range"))
	if err != nil {
		return 0, err
	}
	if first != off || last != off+int64(len(p))-1 || size != o.size || resp.Header.Get("ETag") != o.etag {
		return 0, &statusError{code: 412, what: o.Name(), body: "the archive was replaced while it was read; start again"}
	}
	// A server that stalls for ever must not stall the restore for ever.
	t := time.AfterFunc(webStall, cancel)
	defer t.Stop()
	return io.ReadFull(&ticking{r: resp.Body, t: t}, p)
}

type ticking struct {
	r io.Reader
	t *time.Timer
}

func (k *ticking) Read(p []byte) (int, error) {
	n, err := k.r.Read(p)
	if n > 0 {
		k.t.Reset(webStall)
	}
	return n, err
}

func isInvalid(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP)
}
