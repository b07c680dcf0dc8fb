package drill

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat/images/usb"
)

// TestChooseHost: of several hosts one must be named, and is found by the key
// of its place in the menu.
func TestChooseHost(t *testing.T) {
	two := []usb.Host{{Name: "db01"}, {Name: "web01"}}
	for _, c := range []struct {
		hosts      []usb.Host
		host, keys string
		want       string // of the refusal
	}{
		{two[:1], "", "a", ""},
		{two[:1], "db01", "a", ""},
		{two[:1], "web01", "", "no rescue system of web01"},
		{two, "", "", "db01, web01"},
		{two, "web01", "2a", ""},
		{two, "mail", "", "no rescue system of mail"},
		{nil, "", "", "no rescue system"},
		{append(make([]usb.Host, 9), two...), "db01", "", "have a key"},
	} {
		d := &drill{o: Options{Host: c.host}}
		h, err := d.choose(c.hosts)
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) || c.want == "" && (err != nil || d.keys != c.keys || c.host != "" && h.Name != c.host) {
			t.Errorf("%q of %v: %s by %q, %v", c.host, c.hosts, h.Name, d.keys, err)
		}
	}
}

// TestCopySparse: every byte and every hole of an image comes along.
func TestCopySparse(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	f, err := os.Create(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at, b := range map[int64][]byte{0: []byte("begin"), 5 << 20: bytes.Repeat([]byte{7}, 70_000), 30<<20 - 3: []byte("end")} {
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(40 << 20); err != nil {
		t.Fatal(err)
	}
	if err := copySparse(to, from); err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(from)
	b, err := os.ReadFile(to)
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("the copy differs: %d and %d bytes, %v", len(a), len(b), err)
	}
	var st unix.Stat_t
	if err := unix.Stat(to, &st); err != nil || st.Blocks*512 > 2<<20 {
		t.Errorf("%d bytes are on the disk, %v", st.Blocks*512, err)
	}
}
