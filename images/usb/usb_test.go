package usb

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/internal/loaders"
	"lifeboat/internal/run"
)

// tools runs e2fsprogs for real and makes up GRUB's image.
type tools struct{}

func (tools) Run(ctx context.Context, c run.Cmd) (run.Result, error) {
	if !strings.HasSuffix(c.Path, "grub-mkimage") {
		return run.Exec{}.Run(ctx, c)
	}
	cfg, err := os.ReadFile(c.Args[slices.Index(c.Args, "-c")+1])
	if err != nil {
		return run.Result{}, err
	}
	return run.Result{}, os.WriteFile(c.Args[slices.Index(c.Args, "-o")+1], bytes.Repeat(append(cfg, 0x90), 200_001/(len(cfg)+1)), 0o600)
}

func writeFile(t *testing.T, p string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func random(seed, n int64) []byte {
	b := make([]byte, n)
	rand.New(rand.NewSource(seed)).Read(b)
	return b
}

// loaderHost is a root with loader files of made-up contents.
func loaderHost(t *testing.T) loaders.Set {
	t.Helper()
	root := t.TempDir()
	for i, f := range []string{"usr/lib/grub/i386-pc/kernel.img", "usr/lib/grub/i386-pc/boot_hybrid.img", "usr/lib/grub/i386-pc/boot.img", "usr/bin/grub-mkimage",
		"usr/lib/shim/shimx64.efi.signed", "usr/lib/shim/mmx64.efi.signed", "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed"} {
		size := int64(300_000)
		if strings.HasPrefix(filepath.Base(f), "boot") {
			size = 512
		}
		writeFile(t, filepath.Join(root, f), random(int64(i), size))
	}
	return loaders.Find(root)
}

// spec is a host with all that a real one has, only smaller. The folder has a
// name that no program of ours may trip over.
func spec(t *testing.T, host string, day int) Spec {
	t.Helper()
	dir := filepath.Join(t.TempDir(), `a "b" c`)
	writeFile(t, filepath.Join(dir, "vmlinuz"), random(1, 700_001))
	writeFile(t, filepath.Join(dir, "base"), random(2, 1_000_003))
	writeFile(t, filepath.Join(dir, "order"), random(3, 70))
	return Spec{
		Kernel: filepath.Join(dir, "vmlinuz"), Initrd: []string{filepath.Join(dir, "base"), filepath.Join(dir, "order")},
		Manifest: []byte(`{"format":"lifeboat.manifest/1"}`), OS: "debian", Loaders: loaderHost(t),
		Menu: loaders.Menu{BuildID: fmt.Sprintf("%s-%04d", strings.ReplaceAll(host, ".", "-"), day), Host: host, Kernel: "6.1.0-56-amd64", Timeout: 5 * time.Second,
			Built: time.Date(2026, 11, day, 3, 4, 6, 0, time.UTC), Consoles: []string{"ttyS0,115200"}},
	}
}

func mustWrite(t *testing.T, s Spec) (string, Result) {
	t.Helper()
	p := filepath.Join(t.TempDir(), s.Menu.Host+".usb.img")
	r, err := Write(t.Context(), p, s, tools{})
	if err != nil {
		t.Fatal(err)
	}
	return p, r
}

// judge runs an independent tool and returns all that it says.
func judge(t *testing.T, pkg string, argv ...string) string {
	t.Helper()
	c := exec.Command(argv[0], argv[1:]...)
	c.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "LC_ALL=C", "MTOOLS_SKIP_CHECK=1")
	if c.Err != nil {
		c.Err, c.Path = nil, "/usr/sbin/"+argv[0]
	}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v (of the package %s): %v\n%s", argv, pkg, err, out)
	}
	return string(out)
}

func sumOf(t *testing.T, p string) string {
	t.Helper()
	f, err := os.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func TestWriteAndRead(t *testing.T) {
	s := spec(t, "web01.example.com", 25)
	arch := filepath.Join(t.TempDir(), "arch")
	long := random(9, 3<<20)
	writeFile(t, arch, long)
	if f, err := os.OpenFile(arch, os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	} else if _, err := f.WriteAt([]byte("end"), 5<<30); err != nil { // a file above 4 GiB, with a hole
		t.Fatal(err)
	} else {
		f.Close()
	}
	s.Archives = []Archive{{"web01.example.com/20261125T030405Z.lba", arch}}
	p, r := mustWrite(t, s)
	if st, err := os.Stat(p); err != nil || st.Mode().Perm() != 0o600 || st.Size() != r.Bytes {
		t.Errorf("image: %v, %v, result %d", st, err, r.Bytes)
	}
	if want := []loaders.Mode{loaders.BIOS, loaders.UEFI}; !slices.Equal(r.Modes, want) {
		t.Errorf("modes %v, want %v: the made-up kernel is not signed", r.Modes, want)
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
	hosts := img.Hosts()
	if len(hosts) != 1 || hosts[0].Name != s.Menu.Host || hosts[0].Menu.BuildID != s.Menu.BuildID {
		t.Fatalf("hosts %+v", hosts)
	}
	base, _ := os.ReadFile(s.Initrd[0])
	order, _ := os.ReadFile(s.Initrd[1])
	want := slices.Concat(base, []byte{0}, order, []byte{0, 0})
	if b, err := img.ReadFile(hosts[0].Dir+"/initrd.img", 1<<30); err != nil || !bytes.Equal(b, want) {
		t.Errorf("the initramfs differs: %d bytes instead of %d, %v", len(b), len(want), err)
	}
	list := img.Archives(s.Menu.Host)
	if len(list) != 1 || list[0].Size != 5<<30+3 {
		t.Fatalf("archives %+v", list)
	}
	f, err := img.File(list[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if _, err := f.ReadAt(b[:3], 5<<30); err != nil || string(b[:3]) != "end" {
		t.Errorf("the end of a long file: %q, %v", b[:3], err)
	}
	if _, err := f.ReadAt(b, 4<<30); err != nil || !bytes.Equal(b, make([]byte, 100)) {
		t.Errorf("a hole: %x, %v", b, err)
	}
	if _, err := f.ReadAt(b, 3<<20-50); err != nil || !bytes.Equal(b, append(slices.Clone(long[3<<20-50:]), make([]byte, 50)...)) {
		t.Errorf("the edge of a hole: %x, %v", b, err)
	}
	judgeImage(t, p, s)
}

// judgeImage lets others' tools say what is on the image.
func judgeImage(t *testing.T, p string, s Spec) {
	out := judge(t, "fdisk", "sfdisk", "--verify", p)
	if !strings.Contains(out, "No errors detected") {
		t.Errorf("sfdisk: %s", out)
	}
	out = judge(t, "fdisk", "sfdisk", "--dump", p)
	for _, want := range []string{"start= *2048, size= *2048, type=21686148-6449-6E6F-744E-656564454649", "start= *4096, size= *65536, type=C12A7328", "start= *69632, size= *[0-9]+, type=0FC63DAF"} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("sfdisk does not say %s:\n%s", want, out)
		}
	}
	dir := t.TempDir()
	data := p + "?offset=35651584" // e2fsprogs' own way to name a part of a file
	judge(t, "e2fsprogs", "e2fsck", "-fn", data)
	out = judge(t, "e2fsprogs", "debugfs", "-R", "ls -p /web01.example.com", data)
	if !strings.Contains(out, "/100600/0/0/20261125T030405Z.lba/5368709123/") {
		t.Errorf("debugfs: %s", out)
	}
	kernel := filepath.Join(dir, "kernel")
	judge(t, "e2fsprogs", "debugfs", "-R", "dump /lifeboat/hosts/web01.example.com/"+s.Menu.BuildID+"/vmlinuz "+kernel, data)
	if sumOf(t, kernel) != sumOf(t, s.Kernel) {
		t.Error("debugfs reads another kernel")
	}
	efi := filepath.Join(dir, "efi")
	judge(t, "coreutils", "dd", "if="+p, "of="+efi, "bs=1M", "skip=2", "count=32", "status=none")
	judge(t, "dosfstools", "fsck.fat", "-n", efi)
	out = strings.ToLower(judge(t, "mtools", "mdir", "-/", "-b", "-i", efi, "::"))
	for _, want := range []string{"/efi/boot/bootx64.efi", "/efi/boot/grubx64.efi", "/efi/boot/mmx64.efi", "/boot/grub/grub.cfg", "/efi/lifeboat.id"} {
		if !strings.Contains(out, want) {
			t.Errorf("the ESP lacks %s:\n%s", want, out)
		}
	}
}

func TestReproducible(t *testing.T) {
	s := spec(t, "web01", 25)
	a, _ := mustWrite(t, s)
	for began := time.Now().Unix(); time.Now().Unix() == began; { // times on the image count seconds
		time.Sleep(10 * time.Millisecond)
	}
	b, _ := mustWrite(t, s)
	if sumOf(t, a) != sumOf(t, b) {
		out, _ := exec.Command("cmp", "-l", a, b).Output()
		t.Errorf("two images of one spec differ:\n%.2000s", out)
	}
	s.Menu.BuildID = "another-0001"
	if c, _ := mustWrite(t, s); sumOf(t, a) == sumOf(t, c) {
		t.Error("another build id gave the same image")
	}
}

// TestVerifyFinds: every kind of damage is seen and named.
func TestVerifyFinds(t *testing.T) {
	s := spec(t, "web01", 25)
	p, _ := mustWrite(t, s)
	img, err := Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	at := func(name string) int64 {
		n, err := img.ext.lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		sp, err := img.ext.spans(n)
		if err != nil {
			t.Fatal(err)
		}
		return DataStart + sp[0].at
	}
	dir := img.Hosts()[0].Dir
	for name, c := range map[string]struct {
		off  int64
		want string
	}{
		"kernel":  {at(dir+"/vmlinuz") + 5000, "vmlinuz is damaged"},
		"menu":    {at(menuPath) + 20, menuPath},
		"sums":    {at(dir+"/sha256sums") + 3, "initrd.img is damaged"},
		"id file": {at(loaders.IDFile(s.Menu.BuildID)), "would not find web01"},
		"mark":    {at(MarkPath) + 18, "format"},
		"host":    {at(dir+"/menu.json") + 20, "menu.json"},
		"magic":   {DataStart + superAt + 0x38, "no rescue stick"},
	} {
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		_, _ = f.ReadAt(b, c.off)
		_, _ = f.WriteAt([]byte{b[0] ^ 1}, c.off)
		i, err := Open(p)
		if err == nil {
			err = i.Verify(t.Context())
			i.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		_, _ = f.WriteAt(b, c.off)
		f.Close()
	}
	if err := img.Verify(t.Context()); err != nil {
		t.Errorf("mended again: %v", err)
	}
}

// TestLargerStick: an image that was copied to a larger stick by dd.
func TestLargerStick(t *testing.T) {
	p, r := mustWrite(t, spec(t, "web01", 25))
	if err := os.Truncate(p, r.Bytes+512<<20); err != nil {
		t.Fatal(err)
	}
	img, err := Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if err := img.Verify(t.Context()); err != nil || len(img.Hosts()) != 1 {
		t.Errorf("%v, %v", img.Hosts(), err)
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"no loaders":   {func(s *Spec) { s.Loaders = loaders.Find(t.TempDir()) }, "no boot loader files"},
		"no initramfs": {func(s *Spec) { s.Initrd = nil }, "initramfs"},
		"no kernel":    {func(s *Spec) { s.Kernel += ".gone" }, "no such file"},
		"bad host":     {func(s *Spec) { s.Menu.Host = "../x" }, "cannot be a folder"},
		"bad archive":  {func(s *Spec) { s.Archives = []Archive{{"boot/../x", s.Kernel}} }, "HOST/DATE"},
	} {
		s := spec(t, "web01", 25)
		c.change(&s)
		p := filepath.Join(t.TempDir(), "x.img")
		if _, err := Write(t.Context(), p, s, tools{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := os.ReadDir(filepath.Dir(p)); len(left) > 0 {
			t.Errorf("%s: files stay: %v", name, left)
		}
	}
	other := filepath.Join(t.TempDir(), "other")
	writeFile(t, other, make([]byte, 1<<20))
	if _, err := Open(other); !errors.Is(err, ErrNotStick) {
		t.Errorf("zeros: %v", err)
	}
}

// FuzzRead: a foreign data partition never ends the program.
func FuzzRead(f *testing.F) {
	dir := f.TempDir()
	img := filepath.Join(dir, "fs")
	out, err := exec.Command("/usr/sbin/mke2fs", append(MkfsArgs("seed"), "-b", "1024", "-N", "32", "-O", "^has_journal", img, "64")...).CombinedOutput()
	if err != nil {
		f.Fatalf("%v\n%s", err, out)
	}
	c := exec.Command("/usr/sbin/debugfs", "-w", "-f", "/dev/stdin", img)
	c.Stdin = strings.NewReader("mkdir lifeboat\nmkdir lifeboat/hosts\nmkdir lifeboat/hosts/a\nmkdir lifeboat/hosts/a/b-1234\nwrite /proc/version lifeboat/stick.json\nwrite /proc/version lifeboat/hosts/a/b-1234/menu.json\n")
	if out, err := c.CombinedOutput(); err != nil {
		f.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(img)
	if err != nil {
		f.Fatal(err)
	}
	good := bytes.TrimRight(b, "\x00")
	f.Add(good, int64(0), byte(0))
	f.Add(good, int64(superAt+0x60), byte(0xff))
	f.Add(good, int64(4096+8), byte(1))
	f.Fuzz(func(t *testing.T, b []byte, at int64, x byte) {
		if at >= 0 && at < int64(len(b)) {
			b = slices.Clone(b)
			b[at] ^= x
		}
		i := &Image{}
		_ = i.read(bytes.NewReader(b))
		if i.ext != nil {
			list, _ := i.List()
			for _, e := range list[:min(len(list), 32)] {
				_, _ = i.ReadFile(e.Path, 1<<20)
			}
		}
	})
}
