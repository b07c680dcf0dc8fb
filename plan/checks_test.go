package plan

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"lifeboat/manifest"
	"lifeboat/report"
)

// onOwn plans a host onto its own hardware.
func onOwn(h *host) *Plan {
	return Make(Input{Manifest: h.m, Machine: &h.m.Machine, Policy: Policy{OwnHardware: true}})
}

func find(h *host, kind manifest.Kind) *manifest.Node { return h.m.Storage.OfKind(kind)[0] }

// TestUnsupported: each thing that is not rebuilt is named at capture, with
// exit code 3 and the mounts that it takes along.
func TestUnsupported(t *testing.T) {
	cases := []struct {
		name   string
		break_ func(h *host)
		paths  []string
		why    string
	}{
		{"thin volume", func(h *host) { h.m.Storage.OfKind(manifest.KindLV)[2].LV.Type = "thin" }, []string{"/srv/data"}, `type "thin"`},
		{"raid1 segment", func(h *host) { find(h, manifest.KindLV).LV.Segments[0].Type = "raid1" }, []string{"/"}, `type "raid1"`},
		{"missing PV", func(h *host) { find(h, manifest.KindPV).PV.Missing = true }, []string{"/", "/srv/data", "swap on logical volume vg-a/swap"}, "was missing"},
		{"lock manager", func(h *host) { find(h, manifest.KindVG).VG.LockType = "sanlock" }, []string{"/", "/srv/data", "swap on logical volume vg-a/swap"}, "sanlock"},
		{"unknown table", func(h *host) { find(h, manifest.KindTable).Table.Type = "sun" }, []string{"/", "/boot", "/srv/data", "swap on logical volume vg-a/swap", "partition 1 of the captured disk (OLDDISK, serial OLD-1, 10.0 GiB)"}, `type "sun"`},
		{"ext feature", func(h *host) {
			find(h, manifest.KindFS).FS.Ext.Features = []string{"extent", "FEATURE_I31"}
		}, []string{"/boot"}, "FEATURE_I31"},
		{"external journal", func(h *host) { find(h, manifest.KindFS).FS.Ext.JournalUUID = "u" }, []string{"/boot"}, "external journal"},
		{"xfs realtime", func(h *host) { h.m.Storage.OfKind(manifest.KindFS)[2].FS.XFS.Realtime = true }, []string{"/srv/data"}, "realtime"},
		{"no parameters", func(h *host) { h.m.Storage.OfKind(manifest.KindFS)[2].FS.XFS = nil }, []string{"/srv/data"}, "not captured"},
		{"xfs zones", func(h *host) {
			h.m.Storage.OfKind(manifest.KindFS)[2].FS.XFS.Features = map[string]bool{"zoned": true, "crc": true, "rmapbt": false}
		}, []string{"/srv/data"}, "zoned"},
		{"PARTUUID twice", func(h *host) {
			p := h.m.Storage.OfKind(manifest.KindPartition)
			p[1].Partition.UUID = p[0].Partition.UUID
		}, []string{"/", "/boot", "/srv/data", "swap on logical volume vg-a/swap", "partition 1 of the captured disk (OLDDISK, serial OLD-1, 10.0 GiB)"}, "same PARTUUID"},
		{"btrfs", func(h *host) { h.m.Storage.OfKind(manifest.KindFS)[2].FS.Type = "btrfs" }, []string{"/srv/data"}, "type btrfs"},
		{"systemd-boot", func(h *host) { h.m.Boot.Loader = "systemd-boot" }, []string{"boot loader"}, "systemd-boot"},
		{"no GRUB modules", func(h *host) { h.m.Boot.GRUB.Platforms = nil }, []string{"boot loader"}, "i386-pc"},
		{"no boot code", func(h *host) { h.m.Boot.MBRCode, h.m.Boot.BIOSBoot = nil, nil }, []string{"boot loader"}, "boot code"},
		{"not even in the graph", func(h *host) {
			h.m.Uncovered = []manifest.Uncovered{{Path: "/odd", Reason: "its device vanished"}}
		}, []string{"/odd"}, "vanished"},
		{"root accepted", func(h *host) {
			find(h, manifest.KindLV).LV.Type = "thin"
			h.m.Uncovered = []manifest.Uncovered{{Path: "/", Accepted: true}}
		}, []string{"/"}, "thin"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := biosHost()
			c.break_(h)
			p := onOwn(h)
			var got []string
			for _, u := range p.Uncovered {
				got = append(got, string(u.Path))
				if !strings.Contains(u.Reason, c.why) || u.Accepted {
					t.Errorf("%s: reason %q (accepted %v), want %q", u.Path, u.Reason, u.Accepted, c.why)
				}
			}
			slices.Sort(got)
			slices.Sort(c.paths)
			if !slices.Equal(got, c.paths) {
				t.Errorf("uncovered %q, want %q", got, c.paths)
			}
			if len(p.Refusals) != len(c.paths) || p.Exit() != report.ExitUncovered || report.ExitOf(p.Err()) != report.ExitUncovered {
				t.Errorf("exit %d, refusals %v", p.Exit(), p.Refusals)
			}
		})
	}
}

// TestAccepted: what is accepted by name is left out, its disk is not
// touched, its mount is not made, and the rest is planned.
func TestAccepted(t *testing.T) {
	p := onOwn(withZFS(true)())
	if p.Refused() || len(p.Warnings) != 1 || !p.Uncovered[0].Accepted {
		t.Fatalf("%v %v", p.Refusals, p.Warnings)
	}
	for _, mt := range p.Target.Mounts {
		if mt.Path == "/tank" {
			t.Error("/tank is in the target")
		}
	}
	if p.Target.Node("disk:ZFS-1") != nil || len(p.Erased) != 1 {
		t.Errorf("the disk of /tank is erased: %v", p.Erased)
	}
}

// TestExtents: a layout that LVM could not make is refused by name.
func TestExtents(t *testing.T) {
	lv := func(h *host, i int) *manifest.Node { return h.m.Storage.OfKind(manifest.KindLV)[i] }
	cases := map[string]func(h *host) manifest.ID{
		"past the PV":     func(h *host) manifest.ID { lv(h, 0).LV.Segments[0].Areas[0].Start = 5000; return lv(h, 0).ID },
		"twice":           func(h *host) manifest.ID { lv(h, 1).LV.Segments[0].Areas[0].Start = 10; return lv(h, 1).ID },
		"size":            func(h *host) manifest.ID { lv(h, 0).Bytes += extent; return lv(h, 0).ID },
		"foreign PV":      func(h *host) manifest.ID { lv(h, 0).LV.Segments[0].Areas[0].PV = "pv:x"; return lv(h, 0).ID },
		"gap":             func(h *host) manifest.ID { lv(h, 0).LV.Segments[0].Start = 1; return lv(h, 0).ID },
		"PV too large":    func(h *host) manifest.ID { n := find(h, manifest.KindPV); n.PV.PEStart += mib * 64; return n.ID },
		"PV overflows":    func(h *host) manifest.ID { n := find(h, manifest.KindPV); n.PV.Extents = 1 << 62; return n.ID },
		"sum of VG":       func(h *host) manifest.ID { n := find(h, manifest.KindVG); n.VG.Extents++; return n.ID },
		"filesystem size": func(h *host) manifest.ID { n := find(h, manifest.KindFS); n.Bytes++; return n.ID },
		"uneven stripes": func(h *host) manifest.ID {
			s := &lv(h, 0).LV.Segments[0]
			s.Areas = append(s.Areas, s.Areas[0], s.Areas[0])
			return lv(h, 0).ID
		},
	}
	for name, break_ := range cases {
		t.Run(name, func(t *testing.T) {
			h := biosHost()
			id := break_(h)
			p := onOwn(h)
			if !slices.ContainsFunc(p.Refusals, func(r report.Problem) bool { return r.Object == string(id) && r.Code == report.CodeManifest }) {
				t.Errorf("not refused: %v", p.Refusals)
			}
		})
	}
}

// TestStriped: a striped volume over two disks is laid out as captured.
func TestStriped(t *testing.T) {
	h := twoHost()
	n := find(h, manifest.KindLV)
	pvs := h.m.Storage.OfKind(manifest.KindPV)
	n.LV.Type, n.Bytes = "striped", 200*extent
	n.LV.Segments = []manifest.Segment{{Type: "striped", Extents: 200, Stripes: 2, StripeSize: 64 * kib, Areas: []manifest.Area{{PV: pvs[0].ID, Start: 10}, {PV: pvs[1].ID, Start: 20}}}}
	h.m.Storage.OfKind(manifest.KindFS)[1].Bytes = n.Bytes
	if p := onOwn(h); p.Refused() {
		t.Errorf("refused: %v", p.Refusals)
	}
	n.LV.Segments[0].StripeSize = 0
	if p := onOwn(h); !p.Refused() {
		t.Error("stripes of no size were planned")
	}
}

// TestBothWays: a UEFI host that could start by BIOS too gets both loaders,
// and only UEFI's must succeed.
func TestBothWays(t *testing.T) {
	h := uefiHost()
	d, tab := find(h, manifest.KindDisk), find(h, manifest.KindTable)
	h.m.Boot.BIOSBoot = []manifest.ID{h.part(tab.ID, 14, 18*gib, mib, manifest.TypeBIOSBoot)}
	h.m.Boot.MBRCode = []manifest.ID{d.ID}
	h.m.Boot.GRUB.Platforms = append(h.m.Boot.GRUB.Platforms, "i386-pc")
	p := onOwn(h)
	fatal := map[Verb]bool{}
	for _, s := range p.Steps {
		if s.Stage == StageBootloader {
			fatal[s.Verb] = s.Fatal
		}
	}
	want := map[Verb]bool{VerbGRUBEFI: true, VerbNVRAM: false, VerbGRUB: false, VerbBootCheck: true}
	for v, f := range want {
		if got, ok := fatal[v]; !ok || got != f {
			t.Errorf("%s: there %v, fatal %v", v, ok, got)
		}
	}
}

// TestSwapFile: a swap file is made once the files are there.
func TestSwapFile(t *testing.T) {
	h := uefiHost()
	root := h.m.Boot.RootFS
	id := h.node(manifest.Node{ID: "swapfile:1", Kind: manifest.KindSwapFile, On: on(root), Bytes: gib, SwapFile: &manifest.SwapFile{Path: "/swapfile", Swap: manifest.Swap{UUID: "u"}}})
	h.mount("none", id, "swap", manifest.ScopeNone)
	p := onOwn(h)
	i := slices.IndexFunc(p.Steps, func(s Step) bool { return s.ID == "swapfile/swapfile:1" })
	if p.Refused() || i < 0 || p.Steps[i].Stage != StageRestore || p.Steps[i-1].Verb != VerbRestore {
		t.Errorf("%v\n%s", p.Refusals, p.Text())
	}
}

// TestFirmwareBits: GRUB's platform follows the firmware's bits, not the
// kernel's.
func TestFirmwareBits(t *testing.T) {
	h := uefiHost()
	h.m.Machine.Firmware.Bits = 32
	h.m.Boot.GRUB.Platforms = []string{"i386-efi"}
	m := machine("uefi", blank("", 20*gib))
	m.Firmware.Bits = 64
	if p := Make(Input{Manifest: h.m, Machine: m, Policy: auto}); !slices.Equal(codes(p.Refusals), []string{report.CodeFirmwareMode}) {
		t.Errorf("64 bits: %v", p.Refusals)
	}
	m.Firmware.Bits = 32
	if p := Make(Input{Manifest: h.m, Machine: m, Policy: auto}); p.Refused() || p.Needs.Loaders[0] != "/usr/lib/grub/i386-efi/modinfo.sh" {
		t.Errorf("32 bits: %v %v", p.Refusals, p.Needs.Loaders)
	}
}

// TestID: what decides what is built changes the id.
func TestID(t *testing.T) {
	base := scenario{host: biosHost, disks: disks(blank("NEW-1", 10*gib))}
	changes := map[string]func(*Input){
		"":          func(*Input) {},
		"manifest":  func(in *Input) { in.Manifest.Storage.Mounts[0].Options = []string{"noatime"} },
		"backup":    func(in *Input) { in.Policy.Backup = "b" },
		"order":     func(in *Input) { in.Policy.Order = "o" },
		"method":    func(in *Input) { in.Policy.Method = "tar" },
		"unprotect": func(in *Input) { in.Policy.Unprotect = []string{"x"} },
		"mapping":   func(in *Input) { in.Mapping = &Mapping{Disks: []DiskMapping{{From: "OLD-1", To: "NEW-1"}}} },
		"disk":      func(in *Input) { in.Machine.Disks[0].Disk.Serial = "NEW-2" },
		"size":      func(in *Input) { in.Machine.Disks[0].Disk.Bytes += 512 },
		"machine":   func(in *Input) { in.Machine.DMI.UUID = "u" },
	}
	seen := map[string]string{}
	for name, change := range changes {
		s := base
		s.change = change
		p := Make(s.input())
		if p.Refused() {
			t.Errorf("%s: %v", name, p.Refusals)
		}
		if other, twice := seen[p.ID]; twice {
			t.Errorf("%q and %q have the same id", name, other)
		}
		seen[p.ID] = name
	}
}

// TestResumable: only a claim of this very plan on every target allows the
// layers to be opened.
func TestResumable(t *testing.T) {
	in := scenario{host: biosHost, disks: disks(blank("OLD-1", 10*gib))}.input()
	p := Make(in)
	if p.Resumable() || p.Assignments[0].ClaimAt != 1044480 {
		t.Errorf("nothing is claimed yet: %+v", p.Assignments[0])
	}
	c := claimed(&in, 0, "disk:OLD-1")
	if Make(in).Resumable() {
		t.Error("a claim of another plan was taken")
	}
	c.PlanID = p.ID
	if q := Make(in); !q.Resumable() || q.ID != p.ID {
		t.Error("the plan's own claim was not taken")
	}
}

// TestMatching compares the unique assignment with brute force.
func TestMatching(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		n, m := 1+r.IntN(4), 1+r.IntN(5)
		ok := make([]bool, n*m)
		for i := range ok {
			ok[i] = r.IntN(100) < 45
		}
		fits := func(i, j int) bool { return ok[i*m+j] }
		ways, used := 0, make([]bool, m)
		var walk func(i int)
		walk = func(i int) {
			if i == n {
				ways++
				return
			}
			for j := range m {
				if !used[j] && fits(i, j) {
					used[j] = true
					walk(i + 1)
					used[j] = false
				}
			}
		}
		walk(0)
		first, got := onlyMatching(n, m, fits)
		if got != min(ways, 2) || (got == 0) != (first == nil) {
			t.Fatalf("%d ways, found %d: %v", ways, got, ok)
		}
	}
}

func TestDecode(t *testing.T) {
	p := Make(scenarios[0].input())
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(data)
	if err != nil || back.Text() != p.Text() {
		t.Fatalf("%v", err)
	}
	for _, bad := range []string{"", "{}", `{"format":"lifeboat.plan/9"}`, strings.Replace(string(data), `"kind": "vg"`, `"kind": "lv"`, 1), strings.Replace(string(data), `"assignments"`, `"x"`, 1)} {
		if _, err := Decode([]byte(bad)); err == nil {
			t.Errorf("%.60q was read", bad)
		}
	}
}

// TestMayNeed: whatever a plan needs is among what every image gets, and each
// kind of filesystem that can be rebuilt says what it needs.
func TestMayNeed(t *testing.T) {
	tools, modules := MayNeed()
	for _, s := range slices.Concat(scenarios, layouts) {
		in := s.input()
		n := Make(in).Needs
		for _, x := range n.Tools {
			if !slices.Contains(tools, x.Name) && !slices.Contains(in.Policy.BackupNeeds, x.Name) {
				t.Errorf("%s needs %s, which is not packed for newer backups", s.name, x.Name)
			}
		}
		for _, m := range n.Modules {
			if !slices.Contains(modules, m) && m != "efivarfs" && !forNetwork(m) {
				t.Errorf("%s needs the module %s, which is not packed for newer backups", s.name, m)
			}
		}
	}
	g := newHost("bios")
	d := g.disk(manifest.Disk{Bytes: gib})
	for _, typ := range []string{"ext2", "ext3", "ext4", "xfs", "vfat", "btrfs", "f2fs", "jfs"} {
		n := manifest.Node{ID: "fs:x", Kind: manifest.KindFS, On: on(d), FS: &manifest.FS{Type: typ, UUID: "ABCD-0001", Ext: &manifest.Ext{},
			XFS: &manifest.XFS{BlockSize: 4096}, VFAT: &manifest.VFAT{SectorSize: 512}}}
		if ok, need := reason(&g.m.Storage, &n) == "", len(fsNeeds[typ].tools) > 0; ok != need {
			t.Errorf("%s can be rebuilt: %v; its tools are known: %v", typ, ok, need)
		}
	}
}
