package sshd

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func TestAdmit(t *testing.T) {
	s := &Server{Log: t.Logf}
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for i := range openPerAddr {
		if !s.admit(a) {
			t.Fatalf("connection %d is refused", i)
		}
	}
	if s.admit(a) {
		t.Error("more connections that have not logged in than allowed")
	}
	if !s.admit(b) {
		t.Error("one address keeps another out")
	}
	n := 0
	for range 2 * perMinute {
		s.settled(a)
		if s.admit(a) {
			n++
		}
	}
	if n > perMinute || n == 0 {
		t.Errorf("%d connections in a minute", n)
	}
	s.settled(b)
	for i := range openAll + 5 {
		x := netip.AddrFrom4([4]byte{10, 1, 0, byte(i)})
		if s.admit(x) && i >= openAll {
			t.Errorf("connection %d of different addresses", i)
		}
	}
}

func TestHostKey(t *testing.T) {
	p := filepath.Join(t.TempDir(), "key")
	a, err := HostKey(p)
	if err != nil {
		t.Fatal(err)
	}
	b, err := HostKey(p)
	if err != nil || Fingerprint(a) != Fingerprint(b) {
		t.Errorf("another key after a restart: %v", err)
	}
	if st, _ := os.Stat(p); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	c, err := HostKey(filepath.Join(t.TempDir(), "key"))
	if err != nil || Fingerprint(a) == Fingerprint(c) {
		t.Errorf("the same key in another boot: %v", err)
	}
}
