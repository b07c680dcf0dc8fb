package qemu

import (
	"net"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// TestStreamLongLine: a line that is longer than what a search goes back is
// found, however it arrives.
func TestStreamLongLine(t *testing.T) {
	ours, theirs := net.Pipe()
	s := newStream("port", ours, nil)
	line := `{"kind":"done","data":"` + strings.Repeat("x", 3*overlap) + `"}`
	go func() {
		for all := line + "\n" + `{"seq":8}` + "\n"; all != ""; {
			n := min(4096, len(all))
			_, _ = theirs.Write([]byte(all[:n]))
			runtime.Gosched()
			all = all[n:]
		}
		theirs.Close()
	}()
	m, next, err := s.Wait(t.Context(), 0, regexp.MustCompile(`(?m)^(\{.*\})$`))
	if err != nil || m[1] != line {
		t.Fatalf("%.40q, %v", m, err)
	}
	if m, _, err = s.Wait(t.Context(), next, regexp.MustCompile(`(?m)^(\{.*\})$`)); err != nil || m[1] != `{"seq":8}` {
		t.Errorf("%.40q, %v", m, err)
	}
}
