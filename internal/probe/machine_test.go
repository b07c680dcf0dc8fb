package probe

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"lifeboat/manifest"
)

func disk(t *testing.T, m *manifest.Machine, name string) manifest.MachineDisk {
	t.Helper()
	for _, d := range m.Disks {
		if d.Name == name {
			return d
		}
	}
	t.Fatalf("no disk %s", name)
	return manifest.MachineDisk{}
}

// TestMachine reads the disks of the recorded machine as the planner sees
// them (C12, C13).
func TestMachine(t *testing.T) {
	b := newBench(t, "")
	b.opt.Rescue, b.opt.Backup, b.opt.Medium = true, []string{"/mnt/backup/x.lba"}, []string{"/dev/sde"}
	b.opt.Root = t.TempDir() // no programs, no modules
	b.do("nvme0n1", gptN, "sfdisk", "-q")
	b.do("nvme0n1p4", "", "mke2fs", "-q", "-t", "ext4", "-U", fsUUID(1))
	b.do("sda", "label: dos\nlabel-id: 0x0abc1234\n1: size=16M\n", "sfdisk", "-q")
	b.do("sdb", "", "mke2fs", "-q", "-t", "ext4", "-U", fsUUID(2))
	claim := manifest.Claim{Order: "o", PlanID: "p", Manifest: "m", Node: "disk:x", Host: "h", Bytes: 256 * mib}
	block, err := claim.Encode()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(b.dev, "vdc"), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(block, manifest.ClaimPlaces(256 * mib)[0])
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.Remove(filepath.Join(b.dev, "sdc")); err != nil { // cannot be opened
		t.Fatal(err)
	}
	m, err := Machine(context.Background(), b.opt)
	if err != nil {
		t.Fatal(err)
	}
	n := disk(t, m, "nvme0n1")
	if n.Table != "gpt" || n.TableID != "11111111-0000-4000-8000-000000000001" || n.Blank() || n.DevNo != "259:1" || n.Disk.Serial != "S1-SYSTEM" {
		t.Errorf("%+v", n)
	}
	if !slices.ContainsFunc(n.Signatures, func(s manifest.Signature) bool {
		return s.Device == "nvme0n1p4" && s.Type == "ext4" && s.UUID == fsUUID(1)
	}) {
		t.Errorf("signatures %+v", n.Signatures)
	}
	if d := disk(t, m, "sda"); d.Table != "dos" || d.TableID != "0x0abc1234" {
		t.Errorf("%+v", d)
	}
	if d := disk(t, m, "sdb"); d.Table != "" || d.Blank() || len(d.Signatures) != 1 || d.Signatures[0].Offset != 0x438 {
		t.Errorf("%+v", d)
	}
	if d := disk(t, m, "sdc"); d.Unread == "" || d.Blank() {
		t.Errorf("a disk that cannot be read is not blank: %+v", d)
	}
	if d := disk(t, m, "vdc"); !d.Blank() || d.Claim == nil || d.Claim.Node != "disk:x" || len(d.Protection) != 0 {
		t.Errorf("%+v", d)
	}
	why := func(name string) string {
		var s []string
		for _, p := range disk(t, m, name).Protection {
			s = append(s, p.Why)
		}
		slices.Sort(s)
		return strings.Join(slices.Compact(s), " ")
	}
	if got := why("vda") + "; " + why("sde") + "; " + why("sdd") + "; " + why("nvme0n1"); got != "backup mounted; medium; readonly; active" {
		t.Error(got)
	}
	if len(m.Tools) != 0 || m.Memory != 1<<30 || m.Firmware.Mode != manifest.FirmwareBIOS {
		t.Errorf("%+v", m)
	}
}

func u16(s string) []byte {
	var b []byte
	for _, c := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return b
}

// loadOption makes a boot entry as the firmware stores it.
func loadOption(label string, path ...[]byte) []byte {
	var all []byte
	for _, p := range path {
		all = append(all, p...)
	}
	b := binary.LittleEndian.AppendUint32(nil, 1)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(all)))
	return append(append(b, u16(label)...), all...)
}

func pathPart(kind, sub byte, body []byte) []byte {
	return append(binary.LittleEndian.AppendUint16([]byte{kind, sub}, uint16(4+len(body))), body...)
}

var (
	hardDrive = pathPart(4, 1, append(append(append(make([]byte, 0), 1, 0, 0, 0), make([]byte, 16)...),
		0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b, 2, 2))
	loader = pathPart(4, 4, u16(`\EFI\debian\shimx64.efi`))
	end    = pathPart(0x7f, 0xff, nil)
)

func TestLoadOption(t *testing.T) {
	e, err := ParseLoadOption(loadOption("debian", hardDrive, loader, end))
	if err != nil || e.Label != "debian" || !e.Active || e.PartUUID != "C12A7328-F81F-11D2-BA4B-00A0C93EC93B" || e.Loader != `\EFI\debian\shimx64.efi` {
		t.Errorf("%+v, %v", e, err)
	}
	for _, bad := range [][]byte{nil, {1, 0, 0, 0, 9}, loadOption("x", []byte{4, 4, 200, 0}), {1, 0, 0, 0, 0, 0, 'a', 0}} {
		if _, err := ParseLoadOption(bad); err == nil {
			t.Errorf("% x was taken", bad)
		}
	}
}

func FuzzLoadOption(f *testing.F) {
	f.Add(loadOption("debian", hardDrive, loader, end))
	f.Add(loadOption("", pathPart(4, 1, make([]byte, 10)), pathPart(4, 4, []byte{1})))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = ParseLoadOption(b) })
}

// TestFirmware reads a laid out efivarfs.
func TestFirmware(t *testing.T) {
	b := newBench(t, "", "f firmware/efi/fw_platform_size 32", "p self/mountinfo 60 22 0:60 / /sys/firmware/efi/efivars rw - efivarfs efivarfs rw")
	vars := filepath.Join(b.opt.System.Sys, "firmware/efi/efivars")
	if err := os.MkdirAll(vars, 0o755); err != nil {
		t.Fatal(err)
	}
	attrs := []byte{7, 0, 0, 0}
	for name, v := range map[string][]byte{
		"Boot0001" + efiGlobal: loadOption("debian", hardDrive, loader, end), "Boot000a" + efiGlobal: []byte("odd"),
		"BootOrder" + efiGlobal: {1, 0, 0xa, 0}, "BootCurrent" + efiGlobal: {1, 0}, "SecureBoot" + efiGlobal: {1},
		"BootNext-other": {1}, "Boot0002-12345678-0000-0000-0000-000000000000": {1},
	} {
		if err := os.WriteFile(filepath.Join(vars, name), append(slices.Clone(attrs), v...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Read(context.Background(), b.opt)
	if err != nil {
		t.Fatal(err)
	}
	f := r.firmware()
	if f.Mode != manifest.FirmwareUEFI || f.Bits != 32 || !f.SecureBoot || f.NVRAM != "rw" || f.Current != "0001" || strings.Join(f.Order, " ") != "0001 000A" {
		t.Errorf("%+v", f)
	}
	if len(f.Entries) != 2 || f.Entries[0].Label != "debian" || f.Entries[1].Num != "000A" || string(f.Entries[1].Raw) != "odd" {
		t.Errorf("%+v", f.Entries)
	}
}

// TestThisMachine reads the machine that the test runs on, whatever it is.
func TestThisMachine(t *testing.T) {
	r, err := Read(context.Background(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Machine(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if m.Memory <= 0 || m.CPU.Threads <= 0 || m.Kernel.Release == "" || !slices.Contains(m.Kernel.Filesystems, "proc") {
		t.Errorf("memory %d, CPU %+v, kernel %+v", m.Memory, m.CPU, m.Kernel)
	}
}
