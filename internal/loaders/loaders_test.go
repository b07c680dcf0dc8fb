package loaders

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lifeboat/internal/run"
)

// host makes a root with the first place of each role given.
func host(t *testing.T, roles ...Role) string {
	t.Helper()
	root := t.TempDir()
	for _, r := range roles {
		p := filepath.Join(root, places[r][0].path)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, bytes.Repeat([]byte{0xee}, 512), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestSupports(t *testing.T) {
	for _, c := range []struct {
		name string
		has  []Role
		want []Mode
		efi  []string // files on the medium
		need string   // packages for all modes
	}{
		{"nothing", nil, nil, nil, "grub-pc-bin grub-common grub-efi-amd64-bin shim-signed grub-efi-amd64-signed shim-helpers-amd64-signed"},
		{"BIOS only", []Role{GrubPC, HybridBoot, GrubMkimage}, []Mode{BIOS}, nil,
			"grub-efi-amd64-bin shim-signed grub-efi-amd64-signed shim-helpers-amd64-signed"},
		{"UEFI, unsigned", []Role{GrubCDPlain, GrubMkimage}, []Mode{UEFI}, []string{"BOOTX64.EFI"},
			"grub-pc-bin shim-signed grub-efi-amd64-signed shim-helpers-amd64-signed"},
		{"signed GRUB, no shim", []Role{GrubCD}, []Mode{UEFI}, []string{"BOOTX64.EFI"},
			"grub-pc-bin grub-common shim-signed shim-helpers-amd64-signed"},
		{"all", []Role{GrubPC, HybridBoot, GrubMkimage, GrubCD, Shim, MokManager}, []Mode{BIOS, UEFI, SecureBoot},
			[]string{"BOOTX64.EFI", "grubx64.efi", "mmx64.efi"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Find(host(t, c.has...))
			if have := s.Supports(); !slices.Equal(have, c.want) {
				t.Errorf("supports %v, want %v", have, c.want)
			}
			var names []string
			for n := range s.MediumFiles() {
				names = append(names, n)
			}
			slices.Sort(names)
			if !slices.Equal(names, c.efi) {
				t.Errorf("EFI files %v, want %v", names, c.efi)
			}
			var missing []Missing
			for _, m := range Modes {
				missing = append(missing, s.Missing(m)...)
			}
			if p := Packages(missing); p != c.need {
				t.Errorf("packages %q, want %q", p, c.need)
			}
		})
	}
}

func TestUbuntuShim(t *testing.T) {
	root := host(t, Shim)
	if p := Find(root).Path(Shim); !strings.HasSuffix(p, ".signed.latest") {
		t.Errorf("have %s", p)
	}
}

func TestBIOSImage(t *testing.T) {
	ctx := context.Background()
	_, err := Find(host(t)).BIOSImage(ctx, &run.Fake{}, ElTorito, "")
	if err == nil || !strings.Contains(err.Error(), "install the package grub-pc-bin") {
		t.Errorf("have %v", err)
	}
	s := Find(host(t, GrubPC, HybridBoot, GrubMkimage))
	fake := &run.Fake{Answer: func(c run.Cmd) (run.Result, error) {
		cfg, err := os.ReadFile(c.Args[slices.Index(c.Args, "-c")+1])
		if err != nil || string(cfg) != "early words\n" {
			t.Errorf("configuration: %q, %v", cfg, err)
		}
		return run.Result{}, os.WriteFile(c.Args[slices.Index(c.Args, "-o")+1], make([]byte, 8192), 0o600)
	}}
	if b, err := s.BIOSImage(ctx, fake, ElTorito, "early words\n"); err != nil || len(b) != 8192 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if c := fake.Calls()[0]; !strings.Contains(c, "-O i386-pc-eltorito") || !strings.Contains(c, "drivemap") {
		t.Errorf("called %s", c)
	}
	fake.Answer = func(run.Cmd) (run.Result, error) { return run.Result{}, errors.New("no such module") }
	if _, err := s.BIOSImage(ctx, fake, Core, ""); err == nil || !strings.Contains(err.Error(), "no such module") {
		t.Errorf("have %v", err)
	}
}

func TestBootCode(t *testing.T) {
	s := Find(host(t, HybridBoot, DiskBoot))
	b, err := s.HybridCode(0x1234)
	if err != nil || len(b) != 440 || b[0x1b0] != 0x38 || b[0x1b1] != 0x12 {
		t.Errorf("%x, %v", b, err)
	}
	core := make([]byte, 2048)
	b, err = s.DiskCode(core, 2048)
	if err != nil || len(b) != 440 || b[0x5d] != 8 || b[0x66] != 0x90 || core[0x1f4] != 1 || core[0x1f5] != 8 {
		t.Errorf("%x, %v", b, err)
	}
	if off, b := ElToritoBootInfo(16); off != 2548 || b[0] != 21 {
		t.Errorf("%d %x", off, b)
	}
}

func TestDiskPrefix(t *testing.T) {
	if p, err := diskPrefix([]byte("xx\x00/EFI/ubuntu\x00yy")); err != nil || p != "/EFI/ubuntu" {
		t.Errorf("%q, %v", p, err)
	}
	if _, err := diskPrefix([]byte("/EFI/debianish\x00")); err == nil {
		t.Error("a longer name was taken for /EFI/debian")
	}
}

// pe64 is the smallest PE header with a security directory.
func pe64(size uint32) []byte {
	b := make([]byte, 512)
	copy(b, "MZ")
	b[0x3c] = 0x40
	copy(b[0x40:], "PE\x00\x00")
	b[0x44], b[0x45] = 0x64, 0x86 // machine
	b[0x54] = 240                 // size of the optional header
	o := b[0x58:]
	o[0], o[1] = 0x0b, 0x02 // PE32+
	o[108] = 16             // directories
	d := o[112+4*8:]
	d[0], d[4] = 0x80, byte(size)
	return b
}

func TestSigned(t *testing.T) {
	for _, c := range []struct {
		b    []byte
		want bool
		bad  bool
	}{
		{pe64(0x20), true, false},
		{pe64(0), false, false},
		{[]byte("\x7fELF..."), false, false},
		{[]byte("MZ"), false, true},
		{nil, false, true},
	} {
		ok, err := signed(bytes.NewReader(c.b))
		if ok != c.want || (err != nil) != c.bad {
			t.Errorf("%.8q: %v, %v", c.b, ok, err)
		}
	}
}

func FuzzSigned(f *testing.F) {
	f.Add(pe64(32))
	f.Add([]byte("MZ"))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = signed(bytes.NewReader(b)) })
}

// TestPackageOfDistribution: what is to be installed is a package that the
// host's own distribution has.
func TestPackageOfDistribution(t *testing.T) {
	for release, want := range map[string]string{
		"": "shim-signed grub-efi-amd64-signed shim-helpers-amd64-signed",
		"NAME=\"Debian\"\nVERSION_ID=12\nID=debian\n": "shim-signed grub-efi-amd64-signed shim-helpers-amd64-signed",
		"ID_LIKE=debian\nID=\"ubuntu\"\n":             "shim-signed grub-efi-amd64-signed",
	} {
		root := t.TempDir()
		if release != "" {
			if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, "etc/os-release"), []byte(release), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := Packages(Find(root).Missing(SecureBoot)); got != want {
			t.Errorf("with %q: install %s, want %s", release, got, want)
		}
	}
}
