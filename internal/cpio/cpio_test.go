package cpio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// numbers is etc/numbers of the recorded images: seq 1 5000.
func numbers() string {
	var b strings.Builder
	for i := 1; i <= 5000; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

// The images were made with GNU cpio and each codec's own tool, an early
// segment first, as Debian's microcode has it.
func TestReadImagesOfOtherTools(t *testing.T) {
	for _, c := range []Codec{None, Gzip, Zstd, XZ, LZMA, LZ4} {
		b, err := os.ReadFile("testdata/debian-" + string(c) + ".img")
		if err != nil {
			t.Fatal(err)
		}
		entries, segs, err := List(bytes.NewReader(b))
		if err != nil {
			t.Errorf("%s: %v", c, err)
			continue
		}
		if len(segs) != 2 || segs[0].Codec != None || segs[1].Codec != c || segs[1].Offset != 1024 || segs[0].Entries != 5 || segs[1].Entries != 11 {
			t.Errorf("%s: segments %+v", c, segs)
		}
		got := map[string]Entry{}
		for _, e := range entries {
			got[e.Name] = e
		}
		if e := got["console"]; e.Type() != TypeChar || e.Major != 5 || e.Minor != 1 {
			t.Errorf("%s: console %+v", c, e)
		}
		if e := got["bin"]; e.Type() != TypeLink || e.Link != "usr/bin" {
			t.Errorf("%s: link %+v", c, e)
		}
		if e := got["usr/bin/tool"]; e.Mode != TypeFile|0o755 || e.NLink != 2 || e.Segment != 1 {
			t.Errorf("%s: tool %+v", c, e)
		}
		files, err := ReadFiles(bytes.NewReader(b), Entry.Regular, 1<<20)
		if err != nil {
			t.Errorf("%s: %v", c, err)
		}
		for n, want := range map[string]string{"kernel/x86/microcode/GenuineIntel.bin": "microcode bytes", "etc/numbers": numbers(),
			"etc/empty": "", "usr/bin/tool": "#!/bin/sh\n", "usr/bin/tool2": "#!/bin/sh\n"} {
			if b, ok := files[n]; !ok || string(b) != want {
				t.Errorf("%s: %s has %d bytes (%v), want %d", c, n, len(b), ok, len(want))
			}
		}
	}
	for _, n := range []string{"usr/bin/tool", "usr/bin/tool2"} {
		f := openTest(t, "testdata/debian-zstd.img")
		files, err := ReadFiles(f, func(e Entry) bool { return e.Name == n }, 100)
		if err != nil || len(files) != 1 || string(files[n]) != "#!/bin/sh\n" {
			t.Errorf("only %s: %q, %v", n, files, err)
		}
	}
}

func openTest(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestUnreadable(t *testing.T) {
	zst, err := os.ReadFile("testdata/debian-zstd.img")
	if err != nil {
		t.Fatal(err)
	}
	bz, _ := os.ReadFile("testdata/debian-bzip2.img")
	none, _ := os.ReadFile("testdata/debian-none.img")
	flip := bytes.Clone(zst)
	flip[3000] ^= 1
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"bzip2":      {bz, "bzip2"},
		"unknown":    {append(bytes.Clone(none), "hello world"...), "68656c6c6f20"},
		"cut zstd":   {zst[:5000], "segment 1 (zstd, at byte 1024)"},
		"cut none":   {none[:9000], "unexpected EOF"},
		"damaged":    {flip, "segment 1 (zstd"},
		"misaligned": {append(append(bytes.Clone(none), 0), none...), "multiple of 4"},
		"no trailer": {none[:512], "unexpected EOF"},
	} {
		_, _, err := List(bytes.NewReader(c.b))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
	if _, err := ReadFiles(bytes.NewReader(zst), Entry.Regular, 100); !errors.Is(err, ErrTooLarge) {
		t.Errorf("limit: %v", err)
	}
}

func sample(w *Writer) error {
	return errors.Join(
		w.Symlink("bin", "usr/bin"),
		w.File("/bin/tool", 0o4755, []byte("tool")),
		w.Dir("etc", 0o700),
		w.File("./etc//x/y", 0o600, []byte(numbers())),
		w.Char("dev/console", 0o600, 5, 1),
		w.File("ünï code\n", 0o644, nil),
	)
}

func makeImage(t testing.TB, codecs ...Codec) []byte {
	t.Helper()
	var b bytes.Buffer
	i := NewImage(&b, 1_600_000_000)
	for n, c := range codecs {
		if _, err := i.Segment(c, Default, func(w *Writer) error {
			return errors.Join(sample(w), w.File("etc/segment", 0o644, fmt.Appendf(nil, "%d", n)))
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWriteAndRead(t *testing.T) {
	codecs := []Codec{Zstd, None, Gzip, None, Zstd}
	img := makeImage(t, codecs...)
	if !bytes.Equal(img, makeImage(t, codecs...)) {
		t.Error("two images of the same input differ")
	}
	entries, segs, err := List(bytes.NewReader(img))
	if err != nil {
		t.Fatal(err)
	}
	if len(segs) != len(codecs) {
		t.Fatalf("%d segments", len(segs))
	}
	for i, s := range segs {
		if s.Codec != codecs[i] || s.Offset%4 != 0 || s.Entries != len(entries)/len(codecs) {
			t.Errorf("segment %d: %+v", i, s)
		}
	}
	var names []string
	for _, e := range entries[:segs[0].Entries] {
		names = append(names, fmt.Sprintf("%s %o %d", e.Name, e.Mode, e.Ino))
		if e.MTime != 1_600_000_000 || e.UID != 0 {
			t.Errorf("%+v", e)
		}
	}
	want := "bin 120777 1|usr 40755 2|usr/bin 40755 3|usr/bin/tool 104755 4|etc 40700 5|etc/x 40755 6|etc/x/y 100600 7|dev 40755 8|dev/console 20600 9|ünï code\n 100644 10|etc/segment 100644 11"
	if got := strings.Join(names, "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	files, err := ReadFiles(bytes.NewReader(img), Entry.Regular, 1<<20)
	if err != nil || string(files["etc/segment"]) != "4" || string(files["etc/x/y"]) != numbers() {
		t.Errorf("later segments do not win: %q, %v", files["etc/segment"], err)
	}
}

func TestWriterRefuses(t *testing.T) {
	for name, f := range map[string]func(w *Writer) error{
		"twice":       func(w *Writer) error { return errors.Join(w.File("a", 0o644, nil), w.File("/a", 0o644, nil)) },
		"below file":  func(w *Writer) error { return errors.Join(w.File("a", 0o644, nil), w.File("a/b", 0o644, nil)) },
		"root":        func(w *Writer) error { return w.Dir("/", 0o755) },
		"bin folder":  func(w *Writer) error { return w.Dir("lib64", 0o755) },
		"trailer":     func(w *Writer) error { return w.File("TRAILER!!!", 0o644, nil) },
		"zero byte":   func(w *Writer) error { return w.File("a\x00b", 0o644, nil) },
		"empty link":  func(w *Writer) error { return w.Symlink("l", "") },
		"long name":   func(w *Writer) error { return w.File(strings.Repeat("n", 5000), 0o644, nil) },
		"too large":   func(w *Writer) error { return w.Add(Entry{Name: "a", Mode: TypeFile, Size: 1 << 32}, nil) },
		"short data":  func(w *Writer) error { return w.Add(Entry{Name: "a", Mode: TypeFile, Size: 9}, strings.NewReader("x")) },
		"no file":     func(w *Writer) error { return w.Copy("a", filepath.Join(t.TempDir(), "absent")) },
		"copy folder": func(w *Writer) error { return w.Copy("a", t.TempDir()) },
	} {
		if err := f(NewWriter(io.Discard, 0)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := NewEncoder(io.Discard, XZ, Best); err == nil {
		t.Error("xz is written")
	}
}

func TestKernelCodec(t *testing.T) {
	for config, want := range map[string]Codec{
		"CONFIG_RD_GZIP=y\nCONFIG_RD_ZSTD=y\n":              Zstd,
		"CONFIG_RD_GZIP=y\n# CONFIG_RD_ZSTD is not set\n\n": Gzip,
		"": Gzip,
	} {
		if got := KernelCodec([]byte(config)); got != want {
			t.Errorf("%q: %s, want %s", config, got, want)
		}
	}
}

func FuzzList(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.img")
	for _, n := range files {
		if b, err := os.ReadFile(n); err == nil && len(b) < 30000 {
			f.Add(b)
		}
	}
	f.Add([]byte("070701"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = ReadFiles(bytes.NewReader(b), Entry.Regular, 1<<16)
	})
}
