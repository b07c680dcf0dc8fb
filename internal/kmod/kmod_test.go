package kmod

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const recorded = "testdata/debian-6.1"

func openRecorded(t testing.TB) *Set {
	t.Helper()
	s, err := Open(recorded)
	if err != nil {
		t.Fatal(err)
	}
	s.statErr = nil // only the indexes were recorded
	return s
}

// fakeKernel keeps what was inserted, in order.
type fakeKernel struct {
	mu     sync.Mutex
	dir    string
	loaded map[string]bool
	log    []string
	fail   map[string]error
}

func (k *fakeKernel) Loaded(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.loaded[name]
}

func (k *fakeKernel) Insert(path, params string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	n, _ := NameOfPath(path)
	if err := k.fail[n]; err != nil {
		return err
	}
	if k.loaded == nil {
		k.loaded = map[string]bool{}
	}
	k.loaded[n] = true
	rel, _ := filepath.Rel(k.dir, path)
	k.log = append(k.log, strings.TrimSpace("insmod "+rel+" "+params))
	return nil
}

// The recorded file holds what kmod's own "modprobe --show-depends" answered
// on the system the indexes come from.
func TestLoadOrderAgainstKmod(t *testing.T) {
	b, err := os.ReadFile("testdata/show-depends.txt")
	if err != nil {
		t.Fatal(err)
	}
	s := openRecorded(t)
	cases := 0
	for part := range strings.SplitSeq(strings.TrimPrefix(string(b), "# "), "\n# ") {
		lines := strings.Split(strings.TrimSpace(part), "\n")
		var want []string
		for _, l := range lines[1:] {
			if !slices.Contains(want, l) {
				want = append(want, l)
			}
		}
		k := &fakeKernel{dir: recorded}
		l := Loader{Set: s, Kernel: k}
		if err := l.Load(lines[0]); err != nil {
			t.Errorf("%s: %v", lines[0], err)
		}
		// Of several softdep lines for one module kmod reads the first only;
		// btrfs has four, and we take all.
		got := slices.DeleteFunc(slices.Clone(k.log), func(l string) bool {
			return lines[0] == "btrfs" && (strings.Contains(l, "sha256-ssse3") || strings.Contains(l, "xxhash_generic"))
		})
		if !slices.Equal(got, want) {
			t.Errorf("%s loads\n%s\nkmod loads\n%s", lines[0], strings.Join(k.log, "\n"), strings.Join(want, "\n"))
		}
		cases++
	}
	if cases < 10 {
		t.Errorf("only %d cases recorded", cases)
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{
		"kernel/crypto/blowfish-x86_64.ko":    "blowfish_x86_64",
		"kernel/a/camellia-aesni-avx2.ko.zst": "camellia_aesni_avx2",
		"x.ko.xz":                             "x",
		"y.ko.gz":                             "y",
		"kernel/fs/ext4/ext4.o":               "",
		".ko":                                 "",
		"":                                    "",
	} {
		got, ok := NameOfPath(in)
		if got != want || ok != (want != "") {
			t.Errorf("NameOfPath(%q) = %q, %v", in, got, ok)
		}
	}
	s := openRecorded(t)
	for _, n := range []string{"blowfish-x86_64", "blowfish_x86_64", "blowfish-x86-64"} {
		if m, ok := s.Lookup(n); !ok || m.Path != "kernel/arch/x86/crypto/blowfish-x86_64.ko" {
			t.Errorf("Lookup(%q) = %+v, %v", n, m, ok)
		}
	}
}

func TestResolve(t *testing.T) {
	s := openRecorded(t)
	for _, c := range []struct {
		in          string
		mods, built string
	}{
		{"ext4", "ext4", ""},
		{"fs-ext4", "ext4", ""},
		{"fs-vfat", "vfat", ""},
		{"usb:v13FDp3940d0112dc00dsc00dp00ic08isc06ip62in00", "uas usb_storage", ""},
		{"usb:v13FDp3940d0312dc00dsc00dp00ic01isc06ip62in00", "", ""},
		{"pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00", "", ""},
		{"pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00", "e1000e", ""},
		{"pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02", "nvme", ""},
		{"scsi:t-0x00", "sd_mod", ""},
		{"crypto-sha256", "sha256_ssse3", "sha256_generic"},
		{"net-pf-1", "", "unix"},
		{"unix", "", "unix"},
		{"symbol:mb_cache_create", "mbcache", ""},
		{"no-such-thing", "", ""},
		{"", "", ""},
	} {
		mods, built, err := s.Resolve(c.in)
		if strings.Join(mods, " ") != c.mods || strings.Join(built, " ") != c.built {
			t.Errorf("Resolve(%q) = %v, %v; want %q, %q", c.in, mods, built, c.mods, c.built)
		}
		if (c.mods+c.built == "") != errors.Is(err, ErrUnknown) {
			t.Errorf("Resolve(%q): error %v", c.in, err)
		}
	}
}

func TestClosure(t *testing.T) {
	s := openRecorded(t)
	c, err := s.Closure([]string{"ext4", "sd_mod", "unix", "usb-storage", "fs-btrfs"}, []string{"nothing-like-it", "ipmi_msghandler"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range c.Modules {
		for _, d := range m.Deps {
			if !seen[d] {
				t.Errorf("%s stands before %s, which it needs", m.Name, d)
			}
		}
		if seen[m.Name] {
			t.Errorf("%s twice", m.Name)
		}
		seen[m.Name] = true
	}
	// sd_mod without t10_pi and ext4 without crc32c do not work (softdep, alias).
	for _, n := range []string{"ext4", "jbd2", "mbcache", "crc16", "crc32c_intel", "crc32c_generic", "t10_pi", "crct10dif_pclmul", "usbcore", "btrfs", "blake2b_generic", "sha256_ssse3", "ipmi_msghandler", "ipmi_devintf"} {
		if !c.Has(n) {
			t.Errorf("closure lacks %s", n)
		}
	}
	if !slices.Contains(c.Builtin, "unix") || !slices.Contains(c.Missing, "nothing-like-it") {
		t.Errorf("builtin %v, missing %v", c.Builtin, c.Missing)
	}
	if _, err := s.Closure([]string{"nothing-like-it"}, nil, nil); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "nothing-like-it") {
		t.Errorf("unknown required module: %v", err)
	}
}

func TestClosureFaults(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("modules.dep", "k/top.ko.zst: k/mid-dle.ko.xz k/base.ko\nk/mid-dle.ko.xz: k/base.ko\nk/base.ko:\nk/alone.ko: k/unlisted.ko\n/opt/drv/far.ko:\nk/near.ko: /opt/drv/far.ko\n../up.ko:\nk/soft.ko:\nk/user.ko:\n")
	put("modules.softdep", "softdep user pre: soft post: base\nsoftdep base pre: user\n")
	put("modules.weakdep", "weakdep user mid-dle\n")
	for _, f := range []string{"top.ko.zst", "base.ko", "alone.ko", "user.ko"} {
		put("k/"+f, "x")
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Closure([]string{"top"}, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "mid_dle") || !strings.Contains(err.Error(), "k/mid-dle.ko.xz") || !Missing(err) {
		t.Errorf("listed but absent: %v", err)
	}
	_, err = s.Closure([]string{"alone"}, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "unlisted") {
		t.Errorf("needed but not listed: %v", err)
	}
	put("k/near.ko", "x")
	if _, err = s.Closure([]string{"near"}, nil, nil); err == nil || !strings.Contains(err.Error(), "/opt/drv/far.ko") {
		t.Errorf("needed but elsewhere: %v", err)
	}
	// The circle of soft dependencies ends, the absent ones are listed.
	c, err := s.Closure([]string{"user"}, nil, nil)
	if err != nil || len(c.Modules) != 2 || !slices.Equal(c.Missing, []string{"mid-dle", "soft"}) {
		t.Errorf("soft circle: %+v, %v", c, err)
	}
	put("k/mid-dle.ko.xz", "x")
	if c, err = s.Closure([]string{"top"}, nil, nil); err != nil || len(c.Modules) != 4 {
		t.Errorf("complete: %+v, %v", c, err)
	}
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "depmod") {
		t.Errorf("empty folder: %v", err)
	}
}

func TestIndexOfSubset(t *testing.T) {
	s := openRecorded(t)
	c, err := s.Closure([]string{"ext4", "e1000e"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	files := s.Index(c.Modules, func(p string) string { return p + ".xz" })
	sub, err := New(Files{Dep: files["modules.dep"], Alias: files["modules.alias"], Softdep: files["modules.softdep"],
		Builtin: files["modules.builtin"], BuiltinModinfo: files["modules.builtin.modinfo"]})
	if err != nil {
		t.Fatal(err)
	}
	c2, err := sub.Closure([]string{"fs-ext4", "pci:v00008086d000010D3sv0sd0bc02sc00i00"}, nil, nil)
	if err != nil || len(c2.Modules) != len(c.Modules) {
		t.Fatalf("closure of the subset: %d modules, want %d: %v", len(c2.Modules), len(c.Modules), err)
	}
	for _, m := range c2.Modules {
		if !strings.HasSuffix(m.Path, ".ko.xz") {
			t.Errorf("path %s was not renamed", m.Path)
		}
	}
	if _, ok := sub.Lookup("btrfs"); ok {
		t.Error("btrfs is in the subset")
	}
	if _, b, _ := sub.Resolve("net-pf-1"); len(b) != 1 {
		t.Error("builtin aliases were lost")
	}
}

func TestConf(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"usr/lib/modprobe.d/a.conf": "blacklist e1000e\nsoftdep ext4 pre: xfs\n",
		"usr/lib/modprobe.d/b.conf": "options nvme io_timeout=1\n",
		"etc/modprobe.d/b.conf":     "# hides the other b.conf\noptions nvme io_timeout=255 \\\n  max_host_mem_size_mb=8\ninstall usb-storage /bin/true\ninstall odd /sbin/modprobe -i odd\nalias my-* ext4\n",
		"etc/modprobe.d/note.txt":   "blacklist ahci\n",
	} {
		p := filepath.Join(root, name)
		os.MkdirAll(filepath.Dir(p), 0o755)
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := ReadConf(root)
	if err != nil {
		t.Fatal(err)
	}
	c.Cmdline(`quiet root=/dev/x nvme.use_threaded_interrupts "odd.text=a b" modprobe.blacklist=ahci,uas ip=10.0.0.1:::: -- late.par=1`)
	k := &fakeKernel{dir: recorded}
	var log []string
	l := Loader{Set: openRecorded(t), Conf: c, Kernel: k, Log: func(f string, a ...any) { log = append(log, f) }}
	if err := l.Load("nvme", "poll_queues=2"); err != nil {
		t.Fatal(err)
	}
	last := k.log[len(k.log)-1]
	if want := "insmod kernel/drivers/nvme/host/nvme.ko io_timeout=255 max_host_mem_size_mb=8 use_threaded_interrupts poll_queues=2"; last != want {
		t.Errorf("got  %s\nwant %s", last, want)
	}
	if err := l.Load("pci:v00008086d000010D3sv0sd0bc02sc00i00"); !errors.Is(err, ErrBlacklisted) {
		t.Errorf("blacklisted by alias: %v", err)
	}
	if err := l.Load("e1000e"); err != nil {
		t.Errorf("blacklisted but named: %v", err)
	}
	if err := l.Load("usb_storage"); err == nil || !strings.Contains(err.Error(), "install line") {
		t.Errorf("switched off: %v", err)
	}
	if err := l.Load("my-thing"); err != nil || !k.loaded["ext4"] || !k.loaded["xfs"] {
		t.Errorf("alias and softdep of modprobe.d: %v, %v", err, k.loaded)
	}
	if c.Options["late"] != nil || !c.Blacklist["ahci"] || len(c.Ignored) != 1 {
		t.Errorf("conf: %+v", c)
	}
}

func TestLoadFailures(t *testing.T) {
	k := &fakeKernel{dir: recorded, fail: map[string]error{"jbd2": errors.New("no such device"), "sha256_ssse3": errors.New("no such device")}}
	l := Loader{Set: openRecorded(t), Kernel: k}
	err := l.Load("ext4")
	if err == nil || !strings.Contains(err.Error(), "ext4 needs jbd2") {
		t.Errorf("failed dependency: %v", err)
	}
	if k.loaded["ext4"] {
		t.Error("ext4 was loaded without jbd2")
	}
	// The built-in one answers to the alias too.
	if err := l.Load("crypto-sha256"); err != nil {
		t.Errorf("crypto-sha256: %v", err)
	}
	if err := l.Load("crc16"); err != nil {
		t.Fatal(err)
	}
	n := len(k.log)
	if err := l.Load("crc16"); err != nil || len(k.log) != n {
		t.Errorf("a loaded module was loaded again: %v, %v", err, k.log[n:])
	}
}

func TestFnmatch(t *testing.T) {
	for _, c := range []struct {
		p, s string
		want bool
	}{
		{"", "", true}, {"*", "", true}, {"a*b*c", "a/x/b/c", true}, {"a*b*c", "abcd", false}, {"?", "", false},
		{"d01[0-2]*", "d0112", true}, {"d01[0-2]*", "d013", false}, {"[!a]", "b", true}, {"[!a]", "a", false},
		{"[]a]", "]", true}, {"[a", "[a", true}, {"[a-]", "-", true}, {`\*`, "*", true}, {`\*`, "x", false},
		{"x*", "x", true}, {"*x", "aax", true}, {"*ab", "aab", true}, {`[\]]`, "]", true}, {`a\`, `a\`, true},
	} {
		if got := Fnmatch(c.p, c.s); got != c.want {
			t.Errorf("Fnmatch(%q, %q) = %v", c.p, c.s, got)
		}
	}
}
