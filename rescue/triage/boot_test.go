package triage

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/internal/sysroot"
	"lifeboat/manifest"
)

// program is the smallest EFI program with one section of data.
func program(data int) []byte {
	b := make([]byte, 0x200+data)
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[0x3c:], 0x80)
	copy(b[0x80:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(b[0x84:], 0x8664) // x86-64
	binary.LittleEndian.PutUint16(b[0x86:], 1)      // sections
	s := b[0x98:]
	copy(s, ".data")
	binary.LittleEndian.PutUint32(s[16:], uint32(data)) // size in the file
	binary.LittleEndian.PutUint32(s[20:], 0x200)        // place in the file
	return b
}

func TestESP(t *testing.T) {
	m := &manifest.Manifest{Host: manifest.Host{OS: manifest.OSRelease{ID: "debian", Arch: "amd64"}},
		Boot: manifest.Boot{Loader: "grub", GRUB: &manifest.GRUB{EFIDirs: []string{"BOOT", "debian"}, Signed: true}}}
	whole := map[string][]byte{"EFI/debian/shimx64.efi": program(100), "EFI/debian/grubx64.efi": program(900), "EFI/debian/grub.cfg": []byte("search"),
		"EFI/BOOT/BOOTX64.EFI": program(100)}
	for _, c := range []struct {
		name   string
		change func(map[string][]byte)
		state  State
		text   string
	}{
		{"whole", func(map[string][]byte) {}, Same, ""},
		{"empty", func(f map[string][]byte) { clear(f) }, Missing, "no boot program"},
		{"shim cut", func(f map[string][]byte) { f["EFI/debian/shimx64.efi"] = program(100)[:0x240] }, Damaged, "is cut short (576 bytes)"},
		{"shim is text", func(f map[string][]byte) { f["EFI/debian/shimx64.efi"] = []byte("oops") }, Damaged, "is no EFI program"},
		{"no second stage", func(f map[string][]byte) { delete(f, "EFI/debian/grubx64.efi") }, Damaged, "which shim starts, is missing"},
		{"second stage cut", func(f map[string][]byte) { f["EFI/debian/grubx64.efi"] = program(900)[:0x300] }, Damaged, "grubx64.efi is cut short"},
		{"no configuration beside it", func(f map[string][]byte) { f["EFI/debian/grub.cfg"] = nil }, Damaged, "which GRUB reads first"},
		{"only the removable path", func(f map[string][]byte) {
			for _, n := range []string{"shimx64.efi", "grubx64.efi", "grub.cfg"} {
				delete(f, "EFI/debian/"+n)
			}
		}, Missing, "no boot program"},
	} {
		dir := t.TempDir()
		files := map[string][]byte{}
		for k, v := range whole {
			files[k] = v
		}
		c.change(files)
		for name, data := range files {
			p := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		root, err := sysroot.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		var e ESP
		judgeESP(root, m, &e)
		root.Close()
		if e.State != c.state || !strings.Contains(e.Detail, c.text) {
			t.Errorf("%s: %+v", c.name, e)
		}
	}
}

func FuzzBootCode(f *testing.F) {
	b := make([]byte, 64<<10)
	copy(b[0x180:], "GRUB")
	b[510], b[511], b[kernelSector] = 0x55, 0xaa, 1
	f.Add(b[:2048], int64(1024), int64(0))
	f.Add(b, int64(32<<10), int64(512))
	f.Fuzz(func(t *testing.T, b []byte, core, start int64) {
		if core > 1<<40 || core < 0 {
			return
		}
		var p *manifest.Partition
		if start > 0 && start < 1<<40 {
			p = &manifest.Partition{Start: start, Size: 1 << 20}
		}
		judgeBootCode(strings.NewReader(string(b)), p, core)
	})
}

func TestConfig(t *testing.T) {
	s := &scene{facts: &Facts{Filesystems: []Filesystem{{Mounts: []string{"/"}, WasUUID: "AA-1"}, {Mounts: []string{"/boot"}}}}}
	bad, named := s.judgeConfig([]byte("menuentry 'x' {\n\tlinux /vmlinuz-6.1 root=UUID=aa-1 ro\n\tinitrd /ucode.img /initrd.img-6.1\n}\nmenuentry 'y' {\n linux /vmlinuz-5 root=UUID=aa-1\n}\n"), nil)
	if bad != "" || len(named) != 2 || named[0].Image != "/boot/vmlinuz-6.1" || named[0].Initramfs != "/boot/initrd.img-6.1" || named[0].Version != "6.1" || named[1].Initramfs != "" {
		t.Errorf("%q %+v", bad, named)
	}
	for text, want := range map[string]string{"": "empty", " \n": "empty", "\x00\x00": "zero bytes", "set x=1\n": "no kernel",
		"menuentry 'x' {\n linux /vmlinuz root=UUID=bb-2\n}\n": "another root filesystem"} {
		if bad, _ := s.judgeConfig([]byte(text), nil); !strings.Contains(bad, want) {
			t.Errorf("%q: %q", text, bad)
		}
	}
	if bad, _ := s.judgeConfig([]byte("insmod blscfg\nblscfg\n"), nil); bad != "" {
		t.Errorf("BLS: %q", bad)
	}
}
