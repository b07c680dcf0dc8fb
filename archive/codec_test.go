package archive

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNumbersBeyondUstar lets GNU tar list headers whose numbers need pax records,
// without the terabytes that would belong to them.
func TestNumbersBeyondUstar(t *testing.T) {
	var w tarWriter
	for _, c := range []struct {
		e    Entry
		want string
	}{
		{Entry{Path: "/nine-GiB", Type: '0', Mode: 0600, Sec: 1, stored: 9<<30 + 1}, "-rw------- 0/0      9663676417 1970-01-01 00:00:01 nine-GiB"},
		{Entry{Path: "/just-8-GiB", Type: '0', Mode: 0600, Sec: 1, stored: maxOctal11}, "-rw------- 0/0      8589934591 1970-01-01 00:00:01 just-8-GiB"},
		{Entry{Path: "/ids", Type: '5', Mode: 01777, UID: 1<<32 - 2, GID: maxOctal7 + 1, Sec: 1 << 34}, "drwxrwxrwt 4294967294/2097152 0 2514-05-30 01:53:04 ids/"},
		{Entry{Path: "/old", Type: '2', Mode: 0777, Link: "x", Sec: -10}, "lrwxrwxrwx 0/0               0 1969-12-31 23:59:50 old -> x"},
		{Entry{Path: "/dev", Type: '4', Mode: 0660, Sec: 1, Major: 4095, Minor: 1048575}, "brw-rw---- 0/0    4095,1048575 1970-01-01 00:00:01 dev"},
	} {
		b, err := w.appendHeader(nil, &c.e)
		must(t, err)
		cmd := exec.Command("tar", "-tv", "--numeric-owner", "--full-time", "-f", "-")
		cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
		cmd.Stdin = bytes.NewReader(b)
		out, _ := cmd.Output() // it misses the data and says so
		if got := strings.TrimSpace(string(out)); got != c.want {
			t.Errorf("tar lists %q\nwanted    %q", got, c.want)
		}
	}
}

func TestTooMuchForOneEntry(t *testing.T) {
	var w tarWriter
	big := Entry{Path: "/x", Type: '0'}
	for range 40 {
		big.Xattrs = append(big.Xattrs, Xattr{"user.x", make([]byte, maxXattr)})
	}
	if _, err := w.appendHeader(nil, &big); err == nil {
		t.Error("more attributes than a frame holds were taken")
	}
	if _, err := w.appendHeader(nil, &Entry{Path: strings.Repeat("/x", maxPath), Type: '5'}); err == nil {
		t.Error("a path longer than the reader takes was taken")
	}
}

func TestSplitName(t *testing.T) {
	for n := 1; n < 300; n++ {
		for _, cut := range []int{0, 1, 50, n / 2, n - 100, n - 2, n - 1} {
			name := []byte(strings.Repeat("x", n))
			if cut > 0 && cut < n {
				name[cut] = '/'
			}
			head, tail, fits := splitName(string(name))
			if !fits {
				if n <= 100 {
					t.Errorf("%d bytes do not fit", n)
				}
				continue
			}
			whole := tail
			if head != "" {
				whole = head + "/" + tail
			}
			if whole != string(name) || len(tail) > 100 || len(head) > 155 || tail == "" {
				t.Errorf("%d bytes, slash at %d: %d and %d", n, cut, len(head), len(tail))
			}
		}
	}
}

func TestFillHoles(t *testing.T) {
	var data []Range
	least := int64(0)
	for i := range int64(3 * maxPieces) {
		r := Range{Off: i * 16384, Len: 4096}
		if i%100 == 0 {
			r.Off += 8192 // every hundredth hole is larger
		}
		if data = addPiece(data, r, least); len(data) > maxPieces {
			data, least = fillHoles(data, max(least, 2048))
		}
	}
	if len(data) > maxPieces || len(data) < 2 {
		t.Errorf("%d pieces", len(data))
	}
	// Whatever is filled, no byte of data may be left out.
	i := 0
	for n := range int64(3 * maxPieces) {
		at := n * 16384
		if n%100 == 0 {
			at += 8192
		}
		for data[i].Off+data[i].Len <= at {
			i++
		}
		if data[i].Off > at || data[i].Off+data[i].Len < at+4096 {
			t.Fatalf("the piece at %d is not in %+v", at, data[i])
		}
	}
}

func TestTake(t *testing.T) {
	all := []Range{{0, 512}, {1024, 1024}, {10240, 100}}
	for n := range int64(1700) {
		a, b := take(all, n)
		var sum int64
		for _, r := range append(append([]Range{}, a...), b...) {
			sum += r.Len
		}
		var got int64
		for _, r := range a {
			got += r.Len
		}
		if sum != 1636 || got != min(n, 1636) {
			t.Fatalf("take %d: %v and %v", n, a, b)
		}
	}
}

// TestReadErrors packs a file that cannot be read in the middle.
func TestReadErrors(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/f", bytes.Repeat([]byte("x"), 3000))
	fd, err := unix.Open(dir+"/f", unix.O_WRONLY, 0) // reading it fails
	must(t, err)
	defer unix.Close(fd)
	d := &dataReader{fd: fd, ranges: []Range{{0, 1 << 20}}}
	b := d.appendTo(make([]byte, 0, 2<<20), 1<<20, nil)
	if len(b) != 1<<20 || bytes.Trim(b, "\x00") != nil && len(bytes.Trim(b, "\x00")) > 0 {
		t.Errorf("%d bytes, not all zero", len(b))
	}
	if d.err != unix.EBADF || d.errAt != 0 || d.errs != maxReadErrors {
		t.Errorf("error %v at %d, %d times", d.err, d.errAt, d.errs)
	}
}

func TestPaxTime(t *testing.T) {
	for text, want := range map[string][2]int64{"1.5": {1, 5e8}, "-1.5": {-2, 5e8}, "-0.000000001": {-1, 999999999}, "0": {0, 0}, "12": {12, 0}, "-3": {-3, 0}} {
		if got := paxTime(want[0], want[1]); got != text {
			t.Errorf("%v is written as %q, not %q", want, got, text)
		}
		s, n, err := parsePaxTime(text)
		if err != nil || s != want[0] || n != want[1] {
			t.Errorf("%q is read as %d, %d, %v", text, s, n, err)
		}
	}
}

func TestWalkKey(t *testing.T) {
	s := &selection{paths: []string{"/b"}, moved: map[string]string{}}
	for _, c := range []struct {
		first, end string
		want       bool
	}{
		{"/", "", true}, {"/", "/b", false}, {"/", "/b/a", true}, {"/a", "/b-x", true}, {"/b", "/b/x", true},
		{"/b/x", "/c", true}, {"/b-x", "/c", false}, {"/b\x01", "", false}, {"/c", "", false}, {"/a", "/az", false},
	} {
		if got := s.between(c.first, c.end); got != c.want {
			t.Errorf("%q up to %q: %v", c.first, c.end, got)
		}
	}
}
