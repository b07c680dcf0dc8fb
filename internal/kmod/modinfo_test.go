package kmod

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// makeModule writes the smallest ELF file with a .modinfo section.
func makeModule(modinfo string) []byte {
	const hdr = 64
	names := "\x00.modinfo\x00.shstrtab\x00"
	var b bytes.Buffer
	off := uint64(hdr)
	shoff := off + uint64(len(modinfo)+len(names))
	w := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	w(elf.Header64{Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64),
		Version: 1, Shoff: shoff, Ehsize: hdr, Shentsize: 64, Shnum: 3, Shstrndx: 2})
	b.WriteString(modinfo + names)
	w(elf.Section64{})
	w(elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: off, Size: uint64(len(modinfo)), Addralign: 1})
	w(elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: off + uint64(len(modinfo)), Size: uint64(len(names)), Addralign: 1})
	return b.Bytes()
}

const sampleInfo = "firmware=bnx2/a.fw\x00firmware=bnx2/b-*.fw\x00license=GPL\x00depends=crc16,mb-cache\x00name=bnx2\x00" +
	"alias=pci:v1*\x00vermagic=6.1.0-x SMP preempt mod_unload \x00"

func pack(t testing.TB, ext string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch ext {
	case "":
		return b
	case ".gz":
		w = gzip.NewWriter(&out)
	case ".xz":
		w, err = xz.WriterConfig{CheckSum: xz.CRC32}.NewWriter(&out)
	case ".zst":
		w, err = zstd.NewWriter(&out)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestReadInfo(t *testing.T) {
	mod := makeModule(sampleInfo)
	for _, ext := range []string{"", ".gz", ".xz", ".zst"} {
		p := filepath.Join(t.TempDir(), "bnx2.ko"+ext)
		if err := os.WriteFile(p, pack(t, ext, mod), 0o644); err != nil {
			t.Fatal(err)
		}
		i, err := ReadInfo(p)
		if err != nil {
			t.Errorf("%s: %v", ext, err)
			continue
		}
		if i.Name != "bnx2" || i.Release() != "6.1.0-x" || !slices.Equal(i.Firmware, []string{"bnx2/a.fw", "bnx2/b-*.fw"}) ||
			!slices.Equal(i.Depends, []string{"crc16", "mb_cache"}) || !slices.Equal(i.Aliases, []string{"pci:v1*"}) {
			t.Errorf("%s: %+v", ext, i)
		}
		if b, err := ReadModule(p); err != nil || !bytes.Equal(b, mod) {
			t.Errorf("%s: unpacked module differs: %v", ext, err)
		}
	}
	for name, b := range map[string][]byte{
		"empty": nil, "text": []byte("#!/bin/sh\n"), "cut gzip": pack(t, ".gz", mod)[:40], "cut xz": pack(t, ".xz", mod)[:60],
		"cut zstd": pack(t, ".zst", mod)[:20], "cut elf": mod[:70], "no modinfo": bytes.Replace(mod, []byte(".modinfo"), []byte(".nothing"), 1),
	} {
		p := filepath.Join(t.TempDir(), "x.ko")
		if err := os.WriteFile(p, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadInfo(p); err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("%s: error %v does not name the file", name, err)
		}
	}
}

func FuzzParseInfo(f *testing.F) {
	f.Add(makeModule(sampleInfo))
	f.Add(makeModule(""))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = ParseInfo(b) })
}

func FuzzIndexes(f *testing.F) {
	var seed [5][]byte
	for i, n := range []string{"modules.dep", "modules.alias", "modules.softdep", "modules.builtin", "modules.builtin.modinfo"} {
		seed[i], _ = os.ReadFile(filepath.Join(recorded, n))
		seed[i] = seed[i][:min(len(seed[i]), 2000)]
	}
	f.Add(seed[0], seed[1], seed[2], seed[3], seed[4], "pci:v00008086d000010D3sv0sd0bc02sc00i00")
	f.Add([]byte("a.ko: b.ko\nb.ko: a.ko\n"), []byte("alias [a-z]* a\nalias \\ b"), []byte("softdep a pre:b post:"), []byte(".ko"), []byte("a.alias=*\x00"), "a")
	f.Fuzz(func(t *testing.T, dep, alias, soft, builtin, info []byte, name string) {
		s, err := New(Files{Dep: dep, Alias: alias, Softdep: soft, Builtin: builtin, BuiltinModinfo: info})
		if err != nil {
			return
		}
		l := Loader{Set: s, Kernel: &fakeKernel{}, DryRun: true}
		_ = l.Load(name)
		c, _ := s.Closure([]string{name}, nil, nil)
		s.Index(c.Modules, nil)
	})
}

func FuzzConf(f *testing.F) {
	f.Add("options a b=1 \\\n c\nblacklist x\ninstall y /bin/true\nalias z a", `a.b="x y" modprobe.blacklist=q -- x.y`)
	f.Fuzz(func(t *testing.T, text, cmdline string) {
		var c Conf
		c.Parse(text)
		c.Cmdline(cmdline)
	})
}

func FuzzUevent(f *testing.F) {
	f.Add([]byte("add@/devices/pci0000:00/0000:00:03.0\x00ACTION=add\x00MODALIAS=pci:v1\x00"))
	f.Add([]byte("libudev\x00\xfe\xed\xca\xfe"))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = ParseUevent(b) })
}

func TestParseUevent(t *testing.T) {
	u, err := ParseUevent([]byte("add@/devices/x\x00ACTION=add\x00MODALIAS=virtio:d00000002v00001AF4\x00EMPTY=\x00"))
	if err != nil || u.Action != "add" || u.Devpath != "/devices/x" || u.Env["MODALIAS"] != "virtio:d00000002v00001AF4" {
		t.Errorf("%+v, %v", u, err)
	}
	for _, bad := range []string{"", "libudev\x00\xfe", "add@x\x00", "@/x\x00", "add@/x"} {
		if _, err := ParseUevent([]byte(bad)); err == nil {
			t.Errorf("%q was taken for a uevent", bad)
		}
	}
}

func TestModaliases(t *testing.T) {
	sys := t.TempDir()
	for dir, text := range map[string]string{"devices/pci/0": "pci:v1\n", "devices/pci/1": "pci:v1\n", "devices/x": "acpi:Y:\n", "devices/z": "\n"} {
		d := filepath.Join(sys, dir)
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "modalias"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Modaliases(sys)
	if err != nil || !slices.Equal(got, []string{"acpi:Y:", "pci:v1"}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := Modaliases(filepath.Join(sys, "absent")); err == nil {
		t.Error("no sysfs is no error")
	}
}

func TestSweepLoadsOnce(t *testing.T) {
	sys := t.TempDir()
	for i, text := range []string{"pci:v00008086d000010D3sv0sd0bc02sc00i00", "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02", "usb:v13FDp3940d0112dc00dsc00dp00ic08isc06ip62in00"} {
		d := filepath.Join(sys, "devices", string(rune('a'+i)))
		os.MkdirAll(d, 0o755)
		if err := os.WriteFile(filepath.Join(d, "modalias"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	k := &fakeKernel{dir: recorded, fail: map[string]error{"nvme": os.ErrInvalid}}
	var failed []string
	a := Autoloader{Loader: &Loader{Set: openRecorded(t), Kernel: k}, Sys: sys,
		Skip: func(m string) bool { return m == "uas" }, Failed: func(m string, err error) { failed = append(failed, m) }}
	for range 2 {
		if err := a.Sweep(); err != nil {
			t.Fatal(err)
		}
	}
	if !k.loaded["e1000e"] || !k.loaded["usb_storage"] || k.loaded["uas"] || !slices.Equal(failed, []string{"nvme"}) {
		t.Errorf("loaded %v, failed %v", k.loaded, failed)
	}
}
