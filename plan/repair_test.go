package plan

import (
	"slices"
	"strings"
	"testing"

	"lifeboat/manifest"
	"lifeboat/report"
)

// repairOf plans a repair of a host whose own disks are in the machine.
func repairOf(h *host, firmware string, change func(*Mend, *manifest.Machine)) *Plan {
	m := Mend{Disks: map[manifest.ID]string{}}
	var list []manifest.MachineDisk
	for _, d := range h.m.Storage.OfKind(manifest.KindDisk) {
		list = append(list, full(manifest.MachineDisk{Disk: *d.Disk}))
	}
	mach := machine(firmware, list...)
	for i, d := range h.m.Storage.OfKind(manifest.KindDisk) {
		m.Disks[d.ID] = mach.Disks[i].DevNo
	}
	if change != nil {
		change(&m, mach)
	}
	return Repair(Input{Manifest: h.m, Machine: mach, Policy: Policy{Method: "none"}}, m)
}

func ids(p *Plan, verbs ...Verb) []string {
	var out []string
	for _, s := range p.Steps {
		if len(verbs) == 0 || slices.Contains(verbs, s.Verb) {
			out = append(out, string(s.Verb)+" "+s.Arg)
		}
	}
	return out
}

func expectSteps(t *testing.T, p *Plan, want ...string) {
	t.Helper()
	if p.Refused() {
		t.Fatalf("refused: %v", p.Err())
	}
	got := ids(p)
	for i := range got {
		got[i] = strings.TrimSpace(got[i])
	}
	if !slices.Equal(got, want) {
		t.Errorf("steps:\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	seen := map[string]bool{}
	for _, s := range p.Steps {
		for _, a := range s.After {
			if !seen[a] {
				t.Errorf("%s comes after %s, which is not before it", s.ID, a)
			}
		}
		if seen[s.ID] {
			t.Errorf("%s is there twice", s.ID)
		}
		seen[s.ID] = true
		if s.Text(&p.Target, p) == s.ID {
			t.Errorf("%s has no text", s.ID)
		}
	}
	if len(p.Erased) > 0 {
		t.Errorf("erased: %+v", p.Erased)
	}
}

// TestRepairBoot: GRUB on the disk is written again. The root is opened for
// writing only where /boot lies on it; data is not opened at all.
func TestRepairBoot(t *testing.T) {
	h := biosHost()
	p := repairOf(h, "bios", func(m *Mend, _ *manifest.Machine) { m.Sectors = h.m.Boot.MBRCode })
	for _, s := range p.Steps {
		if s.Verb == VerbMount {
			t.Errorf("%s is mounted for writing", s.Arg)
		}
		if slices.Contains([]Verb{VerbWipe, VerbTable, VerbMkfs, VerbMkswap, VerbPV, VerbVG, VerbLV, VerbRestore}, s.Verb) {
			t.Errorf("a repair has the step %s", s.ID)
		}
		if (s.Verb == VerbMount || s.Verb == VerbMountRO) && !slices.Contains([]string{"/", "/boot", "/usr", "/var"}, s.Arg) {
			t.Errorf("%s is opened", s.Arg)
		}
	}
	if got := ids(p, VerbGRUB); len(got) != 1 {
		t.Errorf("%v", got)
	}
	if text := p.Text(); !strings.Contains(text, "Repair plan for alpha") || strings.Contains(text, "be erased") || !strings.Contains(text, "boot code of sda") {
		t.Errorf("%s", text)
	}
}

// TestRepairModules: where files below /boot are missing, it is written to.
func TestRepairModules(t *testing.T) {
	h := biosHost()
	p := repairOf(h, "bios", func(m *Mend, _ *manifest.Machine) { m.Sectors, m.Modules = h.m.Boot.MBRCode, true })
	expectSteps(t, p, "open", "activate ro", "mount-ro /", "mount /boot", "grub i386-pc", "boot-check", "report", "unmount")
}

func TestRepairESP(t *testing.T) {
	h := uefiHost()
	esp := h.m.Boot.ESPs[0]
	p := repairOf(h, "uefi", func(m *Mend, _ *manifest.Machine) {
		m.ESPs, m.MakeESPs, m.NVRAM = h.m.Boot.ESPs, h.m.Boot.ESPs, h.m.Boot.ESPs
	})
	expectSteps(t, p, "open", "mkfs", "mount-ro /", "mount /boot/efi", "grub-efi x86_64-efi", "nvram", "boot-check", "report", "unmount")
	for _, s := range p.Steps {
		if s.Verb == VerbMkfs && (s.Node != esp || !slices.Equal(s.Erases, []manifest.ID{esp})) {
			t.Errorf("%+v", s)
		}
	}
	if !slices.Contains(p.Needs.Kernel, "vfat") || !slices.ContainsFunc(p.Needs.Tools, func(n ToolNeed) bool { return n.Name == "mkfs.vfat" }) {
		t.Errorf("needs %+v", p.Needs)
	}
}

// TestRepairFstab: only the root is written to.
func TestRepairFstab(t *testing.T) {
	h := uefiHost()
	p := repairOf(h, "uefi", func(m *Mend, _ *manifest.Machine) { m.Fstab = true })
	expectSteps(t, p, "open", "mount /", "mount-ro /boot/efi", "fstab", "boot-check", "report", "unmount")
	p = repairOf(h, "uefi", func(m *Mend, _ *manifest.Machine) { m.NVRAM = h.m.Boot.ESPs })
	expectSteps(t, p, "open", "mount-ro /", "mount-ro /boot/efi", "nvram", "boot-check", "report", "unmount")
}

// TestRepairRenames: the target has the ids that were found.
func TestRepairRenames(t *testing.T) {
	h := uefiHost()
	root := h.m.Boot.RootFS
	p := repairOf(h, "uefi", func(m *Mend, _ *manifest.Machine) {
		m.Renames = []Rename{{Kind: "fs-uuid", Old: h.m.Storage.Node(root).FS.UUID, New: "new", Node: root}}
	})
	expectSteps(t, p, "open", "mount /", "mount /boot/efi", "ids", "boot-check", "report", "unmount")
	if p.Target.Node(root).FS.UUID != "new" || h.m.Storage.Node(root).FS.UUID == "new" || len(p.Renames) != 1 {
		t.Errorf("%+v", p.Target.Node(root).FS)
	}
}

func TestRepairRefused(t *testing.T) {
	for name, c := range map[string]struct {
		firmware string
		change   func(*Mend, *manifest.Machine)
		code     string
	}{
		"the disk is gone": {"uefi", func(m *Mend, _ *manifest.Machine) { clear(m.Disks) }, report.CodeDiskMissing},
		"other firmware":   {"bios", nil, report.CodeFirmwareMode},
		"the disk is in use": {"uefi", func(_ *Mend, m *manifest.Machine) {
			m.Disks[0] = protected(m.Disks[0], manifest.ProtectMounted, "/x", "/x", "sda")
		}, report.CodeDiskProtected},
		"no ESP": {"uefi", func(m *Mend, _ *manifest.Machine) { m.MakeESPs = []manifest.ID{"fs:none"} }, report.CodeManifest},
	} {
		p := repairOf(uefiHost(), c.firmware, c.change)
		if !p.Refused() || p.Refusals[0].Code != c.code {
			t.Errorf("%s: %v", name, p.Refusals)
		}
	}
	p := repairOf(onMD(), "bios", func(m *Mend, _ *manifest.Machine) {})
	if !p.Refused() || p.Refusals[0].Code != report.CodeUnsupported {
		t.Errorf("on RAID: %v", p.Refusals)
	}
}

// TestRepairID: a repair is never taken for a recovery, nor one repair for
// another.
func TestRepairID(t *testing.T) {
	h := uefiHost()
	a := repairOf(h, "uefi", func(m *Mend, _ *manifest.Machine) { m.Fstab = true })
	b := repairOf(h, "uefi", func(m *Mend, _ *manifest.Machine) { m.Config = true })
	if a.ID == b.ID || a.ID != repairOf(h, "uefi", func(m *Mend, _ *manifest.Machine) { m.Fstab = true }).ID || a.Kind != KindRepair {
		t.Errorf("%s %s", a.ID, b.ID)
	}
}
