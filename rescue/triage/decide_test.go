package triage

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"lifeboat/manifest"
)

// healthy are the facts of a whole BIOS server with /boot of its own.
func healthy() *Facts {
	return &Facts{Format: FormatFacts, Host: "alpha", Made: "2026-11-01T00:00:00Z", FromBackup: true, BackupBytes: 80 << 30,
		Firmware: Firmware{Host: "bios", Machine: "bios"},
		Layers: []Layer{{ID: "disk:1", Kind: manifest.KindDisk, Name: "disk QEMU 1", State: Same}, {ID: "table:1", Kind: manifest.KindTable, Name: "GPT", State: Same},
			{ID: "vg:1", Kind: manifest.KindVG, Name: "volume group vg", State: Same}},
		Filesystems: []Filesystem{
			{ID: "fs:root", Kind: manifest.KindFS, Type: "ext4", Mounts: []string{"/"}, Data: true, Device: "dm-0", State: Same, Readable: true, WasUUID: "r", IsUUID: "r", Free: 1 << 30, Bytes: 4 << 30},
			{ID: "fs:boot", Kind: manifest.KindFS, Type: "ext4", Mounts: []string{"/boot"}, Data: true, Device: "sda5", State: Same, Readable: true, WasUUID: "b", IsUUID: "b", Free: 100 << 20, Bytes: 200 << 20},
			{ID: "swap:1", Kind: manifest.KindSwap, Type: "swap", Device: "dm-1", State: Same, WasUUID: "s", IsUUID: "s"},
		},
		Root: Root{Looked: true, System: "Debian GNU/Linux 12", MachineID: "m", HostName: "alpha"},
		Boot: Boot{Loader: "grub", ConfigPath: "/boot/grub/grub.cfg", Sectors: []Sector{{Disk: "disk:1", Name: "disk sda", State: Same}},
			Kernels: []Kernel{{Version: "6.1", Image: "/boot/vmlinuz-6.1", Initramfs: "/boot/initrd.img-6.1", Default: true, InitBytes: 40 << 20}}}}
}

// uefi makes the healthy server one that starts by UEFI.
func uefi(f *Facts) {
	f.Firmware = Firmware{"uefi", "uefi"}
	f.Boot.Sectors = nil
	f.Filesystems = append(f.Filesystems, Filesystem{ID: "fs:esp", Kind: manifest.KindFS, Type: "vfat", Mounts: []string{"/boot/efi"}, ESP: true, Data: true, Device: "sda1",
		State: Same, Readable: true, WasUUID: "AB-CD", IsUUID: "AB-CD"})
	f.Boot.ESPs = []ESP{{ID: "fs:esp", Name: "ESP", State: Same, Default: true, Loader: "/EFI/debian/shimx64.efi"}}
	f.Boot.NVRAM = NVRAM{Looked: true, Entry: "debian"}
}

func espGone(f *Facts) {
	uefi(f)
	e := &f.Filesystems[3]
	e.State, e.Readable, e.Vacant = Missing, false, true
	f.Boot.ESPs[0].State = Missing
}

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Facts)
		kind   Kind
		line   string // how the verdict begins
		repair Repair
	}{
		{"whole", func(*Facts) {}, Healthy, "healthy: ", Repair{}},
		{"whole by UEFI", uefi, Healthy, "healthy: ", Repair{}},
		{"boot sector zeroed", func(f *Facts) { f.Boot.Sectors[0].State = Missing }, Intact, "intact, boot loader gone: repair, about 2 min", Repair{Sectors: []manifest.ID{"disk:1"}}},
		{"one half of a mirror", func(f *Facts) {
			f.Boot.Sectors = append(f.Boot.Sectors, Sector{Disk: "disk:2", Name: "disk sdb", State: Damaged})
		}, Intact, "intact, boot loader gone", Repair{Sectors: []manifest.ID{"disk:2"}}},
		{"ESP zeroed", espGone, Intact, "intact, boot loader gone", Repair{ESPs: []manifest.ID{"fs:esp"}, MakeESPs: []manifest.ID{"fs:esp"}}},
		{"ESP zeroed, NVRAM empty", func(f *Facts) { espGone(f); f.Boot.NVRAM = NVRAM{Looked: true, Gone: true} }, Intact, "intact, boot loader gone",
			Repair{ESPs: []manifest.ID{"fs:esp"}, MakeESPs: []manifest.ID{"fs:esp"}, NVRAM: []manifest.ID{"fs:esp"}}},
		{"NVRAM empty", func(f *Facts) { uefi(f); f.Boot.NVRAM = NVRAM{Looked: true, Gone: true} }, Intact, "intact, firmware entry gone", Repair{NVRAM: []manifest.ID{"fs:esp"}}},
		{"ESP's partition holds something else", func(f *Facts) {
			espGone(f)
			f.Filesystems[3].Vacant, f.Filesystems[3].Detail = false, "its device holds ext4"
		}, Readable, "readable", Repair{}},
		{"initramfs cut", func(f *Facts) { f.Boot.Kernels[0].InitBad = "unexpected EOF" }, Intact, "intact, initramfs broken: repair, about 4 min", Repair{Initramfs: []string{"6.1"}}},
		{"kernel cut", func(f *Facts) { f.Boot.Kernels[0].ImageBad = "it is cut short" }, Readable, "readable, and no file newer than the backup", Repair{}},
		{"configuration empty", func(f *Facts) { f.Boot.Config = "it is empty" }, Intact, "intact, boot menu broken", Repair{Config: true}},
		{"fstab with a wrong id", func(f *Facts) {
			f.Boot.Fstab = []Spec{{Spec: "UUID=x", Path: "/srv", Should: "UUID=y"}}
		}, Intact, "intact, ids in fstab wrong", Repair{Fstab: true}},
		{"fstab with a share that is gone", func(f *Facts) { f.Boot.Fstab = []Spec{{Spec: "UUID=x", Path: "/usb", Soft: true}} }, Healthy, "healthy", Repair{}},
		{"fstab with an id that nobody knows", func(f *Facts) { f.Boot.Fstab = []Spec{{Spec: "UUID=x", Path: "/new"}} }, Readable, "readable", Repair{}},
		{"root under another id", func(f *Facts) { f.Filesystems[0].State, f.Filesystems[0].IsUUID = Changed, "q" }, Intact, "intact, ids in fstab wrong",
			Repair{Renamed: []Renamed{{"fs:root", "r", "q"}}}},
		{"table damaged", func(f *Facts) { f.Layers[1].State, f.Layers[1].Detail = Damaged, "the first copy is gone" }, Intact, "intact, partition table damaged", Repair{Tables: []manifest.ID{"table:1"}, Sectors: []manifest.ID{"disk:1"}}},
		{"root gone, /srv there", func(f *Facts) {
			f.Filesystems[0].State, f.Filesystems[0].Readable, f.Root = Missing, false, Root{}
			f.Filesystems = append(f.Filesystems, Filesystem{ID: "fs:srv", Kind: manifest.KindFS, Type: "xfs", Mounts: []string{"/srv"}, Data: true, Device: "sdb1", State: Same, Readable: true, Newer: 7})
		}, Readable, "readable, 7 files newer than the backup: save them first, then recover, about ", Repair{}},
		{"all gone", func(f *Facts) {
			for i := range f.Layers {
				f.Layers[i].State = Missing
			}
			for i := range f.Filesystems {
				f.Filesystems[i].State, f.Filesystems[i].Readable = Missing, false
			}
			f.Root = Root{}
		}, Gone, "gone: recover, about 37 min", Repair{}},
		{"a layer that cannot be opened", func(f *Facts) {
			f.Filesystems[0].State, f.Filesystems[0].Readable, f.Filesystems[0].Detail, f.Root = Unseen, false, "it lies on LUKS", Root{}
		}, Unclear, "unclear", Repair{}},
		{"another host", func(f *Facts) { f.Root.OtherHost = true }, Unclear, "unclear", Repair{}},
		{"a copy of the disk", func(f *Facts) { f.Filesystems[0].Twins = []string{"sdb2"} }, Readable, "readable", Repair{}},
		{"cut off recovery", func(f *Facts) { f.Root.Unfinished = true }, Gone, "gone", Repair{}},
		{"no grub-install", func(f *Facts) {
			f.Boot.Sectors[0].State = Missing
			f.Boot.NoTools = []Tool{{"grub-install", ToolGRUB}}
		}, Readable, "readable", Repair{Sectors: []manifest.ID{"disk:1"}}},
		{"no initramfs tool, none needed", func(f *Facts) { f.Boot.NoTools = []Tool{{"update-initramfs", ToolInitramfs}} }, Healthy, "healthy", Repair{}},
	} {
		f := healthy()
		c.change(f)
		// Facts may have been saved and read again.
		data, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		back := new(Facts)
		if err := json.Unmarshal(data, back); err != nil {
			t.Fatal(err)
		}
		v := Decide(back)
		if v.Kind != c.kind || !strings.HasPrefix(v.Line, c.line) {
			t.Errorf("%s: %s, %q\n%s", c.name, v.Kind, v.Line, strings.Join(v.Lines(), "\n"))
		}
		if c.kind != Readable && !reflect.DeepEqual(v.Repair, c.repair) {
			t.Errorf("%s: repair %+v, not %+v", c.name, v.Repair, c.repair)
		}
	}
}

// TestBlocked: what stands in the way of a repair is said before it begins.
func TestBlocked(t *testing.T) {
	f := healthy()
	f.Boot.Kernels[0].InitBad, f.Boot.Kernels[0].InitBytes, f.Filesystems[1].Free = "cut", 1<<20, 0
	f.Boot.Kernels = append(f.Boot.Kernels, Kernel{Version: "5.10", Image: "/boot/vmlinuz-5.10", InitBytes: 40 << 20})
	if v := Decide(f); v.Kind != Intact || !strings.Contains(v.Blocked, "/boot has 0 KiB free") || !strings.Contains(v.Next, "remove old kernels") {
		t.Errorf("%+v", v)
	}
	f = healthy()
	f.Firmware.Machine = "uefi"
	f.Boot.Sectors[0].State = Missing
	if v := Decide(f); v.Kind != Intact || !strings.Contains(v.Blocked, "starts by BIOS") {
		t.Errorf("%+v", v)
	}
}

// TestNewerIsSaid: files in no backup are named whatever the verdict.
func TestNewerIsSaid(t *testing.T) {
	f := healthy()
	f.Filesystems[0].Newer, f.Filesystems[0].AtLeast, f.Filesystems[0].NewerIn = 12, true, []string{"/var/lib: 9"}
	v := Decide(f)
	if v.Kind != Healthy || v.Newer != 12 || !v.AtLeast || !strings.Contains(strings.Join(v.Lines(), "\n"), "at least 12 files changed after 2026-11-01T00:00:00Z (most in /var/lib: 9)") {
		t.Errorf("%+v\n%s", v, strings.Join(v.Lines(), "\n"))
	}
}
