package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
)

// overlap is how far a search goes back into text that was searched before:
// longer matches are not found. Texts on consoles are far shorter.
const overlap = 16 << 10

// Stream is one serial line or virtio port: everything that the guest wrote,
// and the way to write to it. Text is kept without terminal escapes and
// carriage returns; the file gets every byte.
type Stream struct {
	name string
	conn net.Conn
	file io.WriteCloser // may be nil
	log  func(line string)

	mu    sync.Mutex
	text  []byte
	clean cleaner
	more  chan struct{} // closed and replaced whenever text grows or ends
	ended bool
}

func newStream(name string, conn net.Conn, file io.WriteCloser) *Stream {
	s := &Stream{name: name, conn: conn, file: file, more: make(chan struct{})}
	go s.read()
	return s
}

func (s *Stream) read() {
	buf := make([]byte, 64<<10)
	for {
		n, err := s.conn.Read(buf)
		if n > 0 && s.file != nil {
			_, _ = s.file.Write(buf[:n]) // a full disk here must not stop the guest
		}
		s.mu.Lock()
		s.text = s.clean.append(s.text, buf[:n])
		s.ended = err != nil
		close(s.more)
		s.more = make(chan struct{})
		s.mu.Unlock()
		if err != nil {
			if s.file != nil {
				s.file.Close()
			}
			return
		}
	}
}

// Text is all that was written so far.
func (s *Stream) Text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text)
}

// Mark is the present length, to wait for what comes after it.
func (s *Stream) Mark() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.text)
}

// Write sends bytes to the guest, as if typed on the line.
func (s *Stream) Write(p []byte) (int, error) { return s.conn.Write(p) }

// WaitText waits until text has come, from the very first byte on.
func (s *Stream) WaitText(ctx context.Context, text string) error {
	_, _, err := s.Wait(ctx, 0, regexp.MustCompile(regexp.QuoteMeta(text)))
	return err
}

// Wait waits for re in what comes after mark. It returns the match with its
// groups and the mark after it. The error shows the last lines when the
// context ends or the machine stops before.
func (s *Stream) Wait(ctx context.Context, mark int, re *regexp.Regexp) ([]string, int, error) {
	from := mark
	for {
		s.mu.Lock()
		text, more, ended := s.text, s.more, s.ended
		s.mu.Unlock()
		if from > len(text) {
			from = len(text)
		}
		// text only grows, so the part that we see never changes under us.
		if m := re.FindSubmatchIndex(text[from:]); m != nil {
			groups := make([]string, 0, len(m)/2)
			for i := 0; i < len(m); i += 2 {
				if m[i] < 0 {
					groups = append(groups, "")
					continue
				}
				groups = append(groups, string(text[from+m[i]:from+m[i+1]]))
			}
			return groups, from + m[1], nil
		}
		if ended {
			return nil, len(text), fmt.Errorf("wait for %q on %s: %w; last lines:\n%s", re, s.name, errEnded, tail(text, 15))
		}
		// An event may be one line longer than that.
		line := bytes.LastIndexByte(text[:max(mark, len(text)-overlap)], '\n') + 1
		from = max(mark, line)
		select {
		case <-more:
		case <-ctx.Done():
			return nil, len(text), fmt.Errorf("wait for %q on %s: %w; last lines:\n%s", re, s.name, context.Cause(ctx), tail(text, 15))
		}
	}
}

// errEnded says that nothing more can come.
var errEnded = errors.New("the machine stopped")

// Ended tells whether err says that the machine stopped.
func Ended(err error) bool { return errors.Is(err, errEnded) }

func tail(text []byte, n int) string {
	l := strings.Split(strings.TrimRight(string(text), "\n \x00"), "\n")
	if len(l) > n {
		l = l[len(l)-n:]
	}
	return "  " + strings.Join(l, "\n  ")
}

// cleaner takes terminal escapes out of a stream that comes in pieces.
type cleaner struct {
	state byte // 0 text, 1 after ESC, 2 in CSI, 3 in a string command, 4 after ESC and an intermediate
}

// append adds the text of p to out. Cursor jumps become line ends: what a
// full-screen menu draws is then readable line by line.
func (c *cleaner) append(out, p []byte) []byte {
	for _, b := range p {
		switch c.state {
		case 1:
			switch {
			case b == '[':
				c.state = 2
			case b == ']' || b == 'P' || b == '_' || b == '^':
				c.state = 3
			case b >= 0x20 && b <= 0x2f:
				c.state = 4
			default:
				c.state = 0
			}
		case 2:
			if b >= 0x40 && b <= 0x7e {
				c.state = 0
				if (b == 'H' || b == 'f') && !bytes.HasSuffix(out, []byte("\n")) {
					out = append(out, '\n')
				}
			}
		case 3:
			if b == 7 || b == 0x1b {
				c.state = 0
				if b == 0x1b {
					c.state = 1
				}
			}
		case 4:
			c.state = 0
		default:
			switch {
			case b == 0x1b:
				c.state = 1
			case b == '\r' || b == 0:
			default:
				out = append(out, b)
			}
		}
	}
	return out
}
