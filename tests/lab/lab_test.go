package lab

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"lifeboat/internal/run"
)

// The recorded text is of the first source system, by Debian 12's tools.
func TestParseDescription(t *testing.T) {
	b, err := os.ReadFile("testdata/describe.txt")
	if err != nil {
		t.Fatal(err)
	}
	d, err := parseDescription(string(b))
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]string{
		"table/label-id":                  "7C0B3F52-91D4-4E0A-8B6E-2F5A9D1C4E77",
		"table/first-lba":                 "34",
		"part 5/attrs":                    `"LegacyBIOSBootable GUID:60"`,
		"part 9/start":                    "411648",
		"part 5/blkid UUID":               "b0071234-5678-4abc-9def-0123456789ab",
		"pv on part 9/pv_uuid":            "Ab3dEf-9hIj-KlMn-0pQr-StUv-WxYz-123456",
		"vg vg-data-a/vg_extent_size":     "8388608",
		"lv vg-data-a/data/lv_tags":       "data-tag",
		"lv vg-data-a/data/segment at 0":  "linear, 536870912 bytes, 1 stripes of 0",
		"lv vg-data-a/swap/lv_read_ahead": "262144",
		"lv vg-data-a/root/lv_size":       "2684354560",
		"part 9/name":                     `"Datentr\xc3\xa4ger 1"`,
		"pv on part 9/pe_start":           "4194304",
		"lv vg-data-a/root/lv_attr":       "-wi-------",
		"vg vg-data-a/vg_tags":            "lab-tag",
		"part 5/uuid":                     "5F00BA11-0000-4000-8000-00000000B007",
	} {
		if got, ok := d.Facts[k]; !ok || got != want {
			t.Errorf("%s = %q (there: %v), want %q", k, got, ok, want)
		}
	}
	want := map[string]Extents{
		"part 2": {{20480, 1028096}}, "part 5": {{1048576, 209715200}}, "part 9": {{210763776, 4083154944}},
		// 210763776 + pe_start 4194304, then 320, 16 and 64 extents of 8 MiB.
		"vg-data-a/root": {{214958080, 2684354560}}, "vg-data-a/swap": {{2899312640, 134217728}}, "vg-data-a/data": {{3033530368, 536870912}},
	}
	if !reflect.DeepEqual(d.extents, want) {
		t.Errorf("extents %v, want %v", d.extents, want)
	}
	for k := range d.Facts {
		if strings.Contains(k, "vda") || strings.Contains(d.Facts[k], "/dev/") {
			t.Errorf("%s = %s: a device name is no identity", k, d.Facts[k])
		}
	}
}

func TestSegments(t *testing.T) {
	d := &Disk{Facts: map[string]string{}, extents: map[string]Extents{}}
	pvs := map[string]Extent{"/dev/a": {Offset: 1000}}
	for _, r := range []string{"/dev/a:0-9", "/dev/a:10-19", "/dev/a:30-30"} {
		row := map[string]string{"vg_name": "v", "lv_name": "l", "segtype": "linear", "seg_pe_ranges": r}
		if err := d.addSegment(row, 10, pvs); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := d.extents["v/l"], (Extents{{1000, 200}, {1300, 10}}); !reflect.DeepEqual(got, want) {
		t.Errorf("extents %v, want %v: neighbours become one piece, others do not", got, want)
	}
	if err := d.addSegment(map[string]string{"segtype": "linear", "seg_pe_ranges": "/dev/b:0-1"}, 10, pvs); err == nil {
		t.Error("a segment on another disk was taken")
	}
}

// What the referee cannot look into must not pass as equal.
func TestPairs(t *testing.T) {
	a := &Disk{Volumes: map[string]string{"part 1": "vfat", "v/b": "xfs", "v/a": "ext4", "part 2": "", "part 3": "LVM2_member", "v/s": "swap"}}
	b := &Disk{Volumes: map[string]string{"part 1": "vfat", "v/b": "ext4", "v/a": "ext4"}}
	if got, err := a.pairs(b); err != nil || !reflect.DeepEqual(got, []string{"part 1", "v/a"}) {
		t.Errorf("pairs %q, %v", got, err)
	}
	a.Volumes["part 4"] = "crypto_LUKS"
	if _, err := a.pairs(b); err == nil || !strings.Contains(err.Error(), "part 4") {
		t.Errorf("an encrypted volume gave %v", err)
	}
}

func sample(t *testing.T) map[string]file {
	t.Helper()
	files, err := readListing("testdata/sample")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// The recorded files have names with a line end, a backslash, bytes that are
// no UTF-8, a leading dash, and a name that looks like an escape.
func TestListing(t *testing.T) {
	files := sample(t)
	for _, x := range []struct{ path, key, want string }{
		{"new\nline", "xattr user.a", "=0x00ff"},
		{`\012`, "xattr user.empty", "=0x"},
		{`back\slash`, "flags", "i"},
		{"latin1-\xe9", "sha256", "7de1555df0c2700329e815b93b32c571c3ea54dc967b89e81ab73b9972b72d1d"},
		{"-rf", "linked with", "-rf"},
		{"dir/linked", "linked with", "-rf"},
		{"dir/linked", "links", "2"},
		{"link", "target", "to\nwhere"},
		{"link", "xattr trusted.link", "=0x78"},
		{"link", "mtime", "1709208000.1234567890"},
		{"dev", "device", "4:41"},
		{"pipe", "mode", "4755"},
		{"sparse", "stored", "0"},
		{"", "type", "d"},
	} {
		if got := files[x.path][x.key]; got != x.want {
			t.Errorf("%q: %s is %q, want %q", x.path, x.key, got, x.want)
		}
	}
	if len(files) != 13 {
		t.Errorf("%d files, want 13", len(files))
	}
}

func TestCompareFiles(t *testing.T) {
	a, b := sample(t), sample(t)
	if ds := compareFiles("x", a, b); len(ds) != 0 {
		t.Errorf("equal listings differ:\n%v", ds)
	}
	b["sparse"]["stored"] = "10485760"
	b["-rf"]["mtime"] = "1.0"
	delete(b["new\nline"], "xattr user.a")
	b["link"]["xattr user.more"] = "=0x"
	delete(b, "pipe")
	b["new"] = file{"type": "f"}
	ds := compareFiles("x", a, b)
	var got []string
	for _, d := range ds {
		got = append(got, d.Path+":"+d.What)
	}
	want := []string{"-rf:mtime", "link:xattr user.more", "new\nline:xattr user.a", "pipe:missing", "sparse:stored", "new:extra"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	rest, unused := ds.Except(Allow{Path: "new*"}, Allow{Path: "link", What: "xattr *"}, Allow{Path: "other/**"}, Allow{Where: "x", Path: "pipe"}, Allow{Where: "y"})
	if len(rest) != 2 || rest[0].Path != "-rf" || rest[1].Path != "sparse" {
		t.Errorf("left after the rules:\n%v", rest)
	}
	if len(unused) != 2 || unused[0].Path != "other/**" || unused[1].Where != "y" {
		t.Errorf("unused rules %v", unused)
	}
	if !(Allow{Path: "var/log/**"}).matches(Difference{Path: "var/log/a/b"}) || (Allow{Path: "var/log/**"}).matches(Difference{Path: "var/logs"}) {
		t.Error("a rule for a folder must match what is below it, and nothing beside it")
	}
}

func FuzzListing(f *testing.F) {
	for _, s := range []string{"find", "sha256", "xattr", "lsattr", "rdev"} {
		b, err := os.ReadFile("testdata/sample." + s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	b, err := os.ReadFile("testdata/describe.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		files, err := parseFind(b)
		if err != nil {
			files = map[string]file{}
		}
		_ = parseRdev(files, b)
		_ = parseSums(files, b)
		_ = parseXattrs(files, b)
		_ = parseFlags(files, b, b)
		_, _ = parseDescription(string(b))
	})
}

// The agent itself answers, over a socket in place of a virtio port.
func agent(t *testing.T) *Guest {
	t.Helper()
	if _, err := run.LookPath("perl"); err != nil {
		t.Fatalf("the agent is a Perl program: %v; install perl-base", err)
	}
	dir := t.TempDir()
	sock := filepath.Join(dir, "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	p, err := run.Exec{}.Start(ctx, run.Cmd{Path: "perl", Args: []string{"scripts/agent.pl", sock}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); <-p.Done() })
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	g := &Guest{conn: conn, in: bufio.NewReader(conn)}
	if err := g.hello(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestAgent(t *testing.T) {
	g := agent(t)
	ctx := t.Context()
	r, err := g.Run(ctx, "printf 'a\\0b'; echo warning >&2; exit 7")
	if r.Code != 7 || string(r.Stdout) != "a\x00b" || string(r.Stderr) != "warning\n" {
		t.Errorf("got %d, %q, %q", r.Code, r.Stdout, r.Stderr)
	}
	if err == nil || !strings.Contains(err.Error(), "warning") || !strings.Contains(err.Error(), "7") {
		t.Errorf("the error %v does not tell what came back", err)
	}
	if r, err := g.Run(ctx, "kill -9 $$"); r.Code != 128+9 || err == nil {
		t.Errorf("a killed command gave %d, %v", r.Code, err)
	}
	if r, err := g.Run(ctx, "head -c 3000000 /dev/zero"); err != nil || len(r.Stdout) != 3000000 {
		t.Errorf("3000000 bytes came as %d, %v", len(r.Stdout), err)
	}
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "with blank")
	if err := os.WriteFile(in, []byte(strings.Repeat("line\r\n\x00", 100000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.Put(ctx, in, out, 0o750); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(out)
	if err != nil || st.Mode() != 0o750 {
		t.Fatalf("%v, %v", st, err)
	}
	back := filepath.Join(dir, "back")
	if err := g.Get(ctx, out, back); err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(in)
	if b, err := os.ReadFile(back); err != nil || string(a) != string(b) {
		t.Errorf("%d bytes went in and %d came back (%v)", len(a), len(b), err)
	}
	if err := g.Put(ctx, in, "/nowhere/at/all", 0o600); err == nil || !strings.Contains(err.Error(), "/nowhere/at/all") {
		t.Errorf("copying to a missing folder gave %v", err)
	}
	if _, err := g.Run(ctx, "true"); err != nil {
		t.Errorf("after a failed copy the agent is out of step: %v", err)
	}
}

func TestAgentStops(t *testing.T) {
	g := agent(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := g.Run(ctx, "sleep 5"); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled command gave %v", err)
	}
	if _, err := g.Run(t.Context(), "true"); err == nil || !strings.Contains(err.Error(), "lost before") {
		t.Errorf("after that: %v", err)
	}
	// What answers may be anything.
	for _, line := range []string{"PONG x 0\n", "nonsense\n", "END 1\n", "END 7 0\n", "END 1 -4\n"} {
		a, b := net.Pipe()
		g := &Guest{conn: a, in: bufio.NewReader(a)}
		go func() {
			go io.Copy(io.Discard, b)
			_, _ = io.WriteString(b, line)
			b.Close()
		}()
		if _, err := g.Run(t.Context(), "true"); err == nil {
			t.Errorf("%q was taken for an answer", line)
		}
	}
}

func TestCached(t *testing.T) {
	l := &Lab{Dir: t.TempDir(), log: func(string, ...any) {}}
	if err := os.Mkdir(filepath.Join(l.Dir, "x.part"), 0o755); err != nil { // of a run that was killed
		t.Fatal(err)
	}
	builds := 0
	build := func(out string) error {
		builds++
		if e, _ := os.ReadDir(out); len(e) != 0 {
			t.Error("the folder is not empty")
		}
		return os.WriteFile(filepath.Join(out, "f"), nil, 0o644)
	}
	for range 2 {
		p, err := l.cached(t.Context(), "x", build)
		if err != nil || p != filepath.Join(l.Dir, "x") {
			t.Fatal(p, err)
		}
	}
	if builds != 1 {
		t.Errorf("built %d times", builds)
	}
	bad := errors.New("bad")
	if _, err := l.cached(t.Context(), "y", func(string) error { return bad }); err != bad {
		t.Errorf("a failed build gave %v", err)
	}
	for _, p := range []string{"y", "y.part"} {
		if _, err := os.Stat(filepath.Join(l.Dir, p)); !os.IsNotExist(err) {
			t.Errorf("a failed build left %s", p)
		}
	}
	old := time.Now().Add(-unused - time.Hour)
	if err := os.Chtimes(filepath.Join(l.Dir, "x.lock"), old, old); err != nil {
		t.Fatal(err)
	}
	if _, err := l.cached(t.Context(), "z", build); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(l.Dir, "x")); !os.IsNotExist(err) {
		t.Error("a fixture that nobody asked for in a week is still there")
	}
}
