package iso

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/internal/loaders"
	"lifeboat/internal/run"
	"lifeboat/report"
)

// loaderHost makes a root that has loader files with made-up contents.
func loaderHost(t *testing.T, files ...string) loaders.Set {
	t.Helper()
	root := t.TempDir()
	rnd := rand.New(rand.NewSource(1))
	for _, f := range files {
		size := 300_000
		if strings.HasSuffix(f, "boot_hybrid.img") {
			size = 512
		}
		b := make([]byte, size)
		rnd.Read(b)
		writeFile(t, filepath.Join(root, f), b)
	}
	return loaders.Find(root)
}

var biosFiles = []string{"usr/lib/grub/i386-pc/kernel.img", "usr/lib/grub/i386-pc/boot_hybrid.img", "usr/bin/grub-mkimage"}

var allFiles = append([]string{"usr/lib/shim/shimx64.efi.signed", "usr/lib/shim/mmx64.efi.signed",
	"usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed"}, biosFiles...)

func writeFile(t *testing.T, p string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// fakeMkimage gives an image that depends on the configuration alone.
var fakeMkimage = &run.Fake{Answer: func(c run.Cmd) (run.Result, error) {
	cfg, err := os.ReadFile(c.Args[slices.Index(c.Args, "-c")+1])
	if err != nil {
		return run.Result{}, err
	}
	return run.Result{}, os.WriteFile(c.Args[slices.Index(c.Args, "-o")+1], bytes.Repeat(append(cfg, 0x90), 200_001/(len(cfg)+1)), 0o600)
}}

// spec is a medium with all that a real one has, only smaller.
func spec(t *testing.T, set loaders.Set) Spec {
	t.Helper()
	dir := t.TempDir()
	rnd := rand.New(rand.NewSource(7))
	bytesOf := func(n int) []byte { b := make([]byte, n); rnd.Read(b); return b }
	writeFile(t, filepath.Join(dir, "vmlinuz"), bytesOf(700_001))
	writeFile(t, filepath.Join(dir, "base"), bytesOf(1_000_003))
	return Spec{
		Kernel: filepath.Join(dir, "vmlinuz"),
		Initrd: []Source{{Path: filepath.Join(dir, "base")}, {Data: bytesOf(5001)}, {Data: bytesOf(70)}},
		Files: []File{
			{"/backup/Web01 (old) Ünicode-and-a-rather-long-name.lba", Source{Data: bytesOf(40_000)}},
			{"/backup/empty", Source{}},
		},
		Manifest: []byte(`{"format":"lifeboat.manifest/1"}`),
		Menu: loaders.Menu{BuildID: "b1d2-0001", Host: "web01.example.com", Kernel: "6.1.0-56-amd64", Timeout: 5 * time.Second,
			Built: time.Date(2024, 2, 29, 3, 4, 6, 0, time.UTC), Consoles: []string{"ttyS0,115200"}},
		Loaders: set, Runner: fakeMkimage,
	}
}

func mustWrite(t *testing.T, s Spec) (string, Result) {
	t.Helper()
	p := filepath.Join(t.TempDir(), "web01.iso")
	r, err := Write(t.Context(), p, s)
	if err != nil {
		t.Fatal(err)
	}
	return p, r
}

func TestWriteAndRead(t *testing.T) {
	s := spec(t, loaderHost(t, allFiles...))
	p, r := mustWrite(t, s)
	if st, err := os.Stat(p); err != nil || st.Mode().Perm() != 0o600 || st.Size() != r.Bytes {
		t.Errorf("image: %v, %v, result %d", st, err, r.Bytes)
	}
	// The made-up kernel is no PE file, so Secure Boot must not be promised.
	if want := []loaders.Mode{loaders.BIOS, loaders.UEFI}; !slices.Equal(r.Modes, want) {
		t.Errorf("modes %v, want %v", r.Modes, want)
	}
	if len(r.Problems) != 1 || r.Problems[0].Code != report.CodeLoaderMissing || !strings.Contains(r.Problems[0].Text, "not signed") {
		t.Errorf("problems: %+v", r.Problems)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(p), ".*"))
	if len(left) > 0 {
		t.Errorf("scratch files stay: %v", left)
	}
	img, err := Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if id, err := img.BuildID(); err != nil || id != s.Menu.BuildID {
		t.Errorf("build id %q, %v", id, err)
	}
	if b, err := img.Manifest(); err != nil || !bytes.Equal(b, s.Manifest) {
		t.Errorf("manifest %q, %v", b, err)
	}
	if img.Volume() != "LIFEBOAT_WEB01_EXAMPLE_COM" {
		t.Errorf("label %q", img.Volume())
	}
	base, _ := os.ReadFile(s.Initrd[0].Path)
	want := slices.Concat(base, []byte{0}, s.Initrd[1].Data, []byte{0, 0, 0}, s.Initrd[2].Data)
	if b, err := img.ReadFile(loaders.InitrdPath, 1<<30); err != nil || !bytes.Equal(b, want) {
		t.Errorf("the initramfs differs: %d bytes instead of %d, %v", len(b), len(want), err)
	}
	if _, err := img.ReadFile("/no/such", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("have %v", err)
	}
	if err := img.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestReproducible(t *testing.T) {
	s := spec(t, loaderHost(t, allFiles...))
	a, _ := mustWrite(t, s)
	// Another folder, other times of the sources.
	if err := os.Chtimes(s.Kernel, time.Unix(1, 0), time.Unix(2, 0)); err != nil {
		t.Fatal(err)
	}
	// Times on the image count seconds: the clock must have gone on, and not show.
	for began := time.Now().Unix(); time.Now().Unix() == began; {
		time.Sleep(10 * time.Millisecond)
	}
	b, _ := mustWrite(t, s)
	if sumOf(t, a) != sumOf(t, b) {
		t.Error("two images of one spec differ")
		if out, err := exec.Command("cmp", "-l", a, b).Output(); err != nil {
			t.Logf("%.2000s", out)
		}
	}
	s.Menu.BuildID = "b1d2-0002"
	if c, _ := mustWrite(t, s); sumOf(t, a) == sumOf(t, c) {
		t.Error("another build id gave the same image")
	}
}

func sumOf(t *testing.T, p string) string {
	t.Helper()
	b, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// TestVerifyFinds: every kind of damage is seen and named.
func TestVerifyFinds(t *testing.T) {
	s := spec(t, loaderHost(t, allFiles...))
	p, _ := mustWrite(t, s)
	good, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	img, err := Read(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) int64 { return img.entries[name].extents[0].off }
	for name, c := range map[string]struct {
		off  int64
		want string
	}{
		"kernel":          {at(loaders.KernelPath) + 5000, loaders.KernelPath},
		"catalog":         {at(catalogPath) + 40, catalogPath},
		"sums":            {at(SumsPath) + 3, SumsPath},
		"sum of sums":     {volApp + 20, SumsPath},
		"partition table": {1024 + 32, "partition table"},
		"file name":       {nameOf(img.entries[ManifestPath]), "lifeboat"},
	} {
		bad := slices.Clone(good)
		bad[c.off] ^= 1
		i, err := Read(bytes.NewReader(bad))
		if err == nil {
			err = i.Verify(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	extra := *img.entries[ManifestPath]
	extra.Path = "/evil"
	img.entries["/evil"] = &extra
	if err := img.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), "/evil is not in the list") {
		t.Errorf("an added file: %v", err)
	}
	cut, err := Read(bytes.NewReader(good[:len(good)/2]))
	if err == nil {
		err = cut.Verify(t.Context())
	}
	if err == nil {
		t.Error("half of an image passed")
	}
}

// nameOf is where the Rock Ridge name of an entry begins.
func nameOf(e *Entry) int64 {
	i := slices.IndexFunc(e.records[0].fields, func(f field) bool { return f.sig == "NM" })
	return e.records[0].fields[i].off + 5
}

// TestSections: files longer than one directory record can say.
func TestSections(t *testing.T) {
	defer func(n int64) { sectionBytes = n }(sectionBytes)
	sectionBytes = 64 << 10
	s := spec(t, loaderHost(t, allFiles...))
	long := make([]byte, 11*64<<10+77)
	rand.New(rand.NewSource(3)).Read(long)
	exact := long[:3*64<<10]
	s.Files = append(s.Files, File{"/backup/web01-2026-11-25.lba", Source{Data: long}}, File{"/backup/exact.lba", Source{Data: exact}})
	p, _ := mustWrite(t, s)
	img, err := Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if b, err := img.ReadFile("/backup/web01-2026-11-25.lba", 1<<30); err != nil || !bytes.Equal(b, long) {
		t.Errorf("%d bytes instead of %d, %v", len(b), len(long), err)
	}
	for _, e := range img.List() {
		if strings.Contains(e.Path, "~") {
			t.Errorf("a part is still named: %s", e.Path)
		}
	}
	to := filepath.Join(t.TempDir(), "x")
	out := judge(t, "xorriso", "xorriso", "-osirrox", "on", "-indev", p, "-find", "/backup", "-exec", "lsdl", "--", "-extract", "/backup", to)
	for name, want := range map[string][]byte{"web01-2026-11-25.lba": long, "exact.lba": exact} {
		if b, err := os.ReadFile(filepath.Join(to, name)); err != nil || !bytes.Equal(b, want) {
			t.Errorf("xorriso reads %s differently: %d bytes instead of %d, %v\n%s", name, len(b), len(want), err, out)
		}
	}
	judge(t, "coreutils", "chmod", "-R", "u+w", to)
}

func TestWriteRefuses(t *testing.T) {
	set := loaderHost(t, allFiles...)
	for name, c := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"no loaders":       {func(s *Spec) { s.Loaders = loaderHost(t) }, "install the packages grub-pc-bin"},
		"no initramfs":     {func(s *Spec) { s.Initrd = nil }, "initramfs"},
		"no kernel":        {func(s *Spec) { s.Kernel += ".gone" }, "no such file"},
		"bad build id":     {func(s *Spec) { s.Menu.BuildID = "a/../b" }, "build id"},
		"relative name":    {func(s *Spec) { s.Files[0].Name = "x" }, "absolute name"},
		"name not plain":   {func(s *Spec) { s.Files[0].Name = "/a/../b" }, "not plain"},
		"twice":            {func(s *Spec) { s.Files[0].Name = ManifestPath }, "twice"},
		"folder as source": {func(s *Spec) { s.Initrd[0].Path = "/" }, "not a regular file"},
		"mkimage fails": {func(s *Spec) {
			s.Runner = &run.Fake{Answer: func(run.Cmd) (run.Result, error) { return run.Result{}, errors.New("core image too big") }}
		}, "core image too big"},
		"too large": {func(s *Spec) {
			huge := filepath.Join(t.TempDir(), "huge")
			writeFile(t, huge, nil)
			if err := os.Truncate(huge, 1<<42); err != nil {
				t.Fatal(err)
			}
			s.Files[0].Source = Source{Path: huge}
		}, "MiB free"},
		"initramfs of 4 GiB": {func(s *Spec) {
			huge := filepath.Join(t.TempDir(), "huge")
			writeFile(t, huge, nil)
			if err := os.Truncate(huge, 1<<32); err != nil {
				t.Fatal(err)
			}
			s.Initrd[0] = Source{Path: huge}
		}, "4 GiB"},
	} {
		s := spec(t, set)
		c.change(&s)
		dir := t.TempDir()
		_, err := Write(t.Context(), filepath.Join(dir, "x.iso"), s)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: files stay: %v", name, left)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Write(ctx, filepath.Join(t.TempDir(), "x.iso"), spec(t, set)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestOneMode: a host with the loaders of one firmware still gives a medium,
// which says what it cannot do.
func TestOneMode(t *testing.T) {
	for want, files := range map[loaders.Mode][]string{
		loaders.BIOS: biosFiles,
		loaders.UEFI: {"usr/lib/grub/x86_64-efi/monolithic/gcdx64.efi"},
	} {
		p, r := mustWrite(t, spec(t, loaderHost(t, files...)))
		// One warning for each of the two other modes.
		if !slices.Equal(r.Modes, []loaders.Mode{want}) || len(r.Missing) < 2 || len(r.Problems) != 2 {
			t.Errorf("%s: %+v", want, r)
		}
		out := judge(t, "xorriso", "xorriso", "-indev", p, "-report_el_torito", "plain")
		if strings.Contains(out, " BIOS ") != (want == loaders.BIOS) || strings.Contains(out, " UEFI ") != (want == loaders.UEFI) {
			t.Errorf("%s: %s", want, out)
		}
	}
}

func TestLargeInitrdWarns(t *testing.T) {
	if p, err := loaders.CheckInitrd(399 << 20); p != nil || err != nil {
		t.Errorf("%v, %v", p, err)
	}
	if p, err := loaders.CheckInitrd(450 << 20); p == nil || err != nil || p.Severity != report.Warning {
		t.Errorf("%v, %v", p, err)
	}
}

func FuzzRead(f *testing.F) {
	dir := f.TempDir()
	p := filepath.Join(dir, "seed")
	if out, err := os.Create(p); err == nil {
		pieces := []*piece{{name: SumsPath, size: 10}, {name: "/a/Long Name of a file.txt", size: 1}}
		if err := layOut(out, pieces, "SEED", false, false); err != nil {
			f.Fatal(err)
		}
		if err := out.Truncate(64 << 10); err != nil {
			f.Fatal(err)
		}
		out.Close()
	}
	seed, err := os.ReadFile(p)
	if err != nil {
		f.Fatal(err)
	}
	// The empty system area only slows the fuzzer down.
	f.Add(seed[16*sector:])
	f.Fuzz(func(t *testing.T, b []byte) {
		img, err := Read(bytes.NewReader(append(make([]byte, 16*sector), b...)))
		if err != nil {
			return
		}
		for _, e := range img.List() {
			if e.Mode.IsRegular() {
				_, _ = img.ReadFile(e.Path, 1<<20)
			}
		}
		_ = img.Verify(t.Context())
	})
}

// TestSourceChanges: what grows or shrinks while it is copied spoils a medium.
func TestSourceChanges(t *testing.T) {
	for _, to := range []int64{10, 30} {
		f := filepath.Join(t.TempDir(), "log")
		writeFile(t, f, make([]byte, 20))
		p, err := newPiece("/log", Source{Path: f})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(f, to); err != nil {
			t.Fatal(err)
		}
		if err := p.copyTo(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "changed") {
			t.Errorf("%d bytes: %v", to, err)
		}
	}
}
