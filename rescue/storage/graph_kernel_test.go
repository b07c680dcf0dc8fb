//go:build kernel

package storage

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"lifeboat/internal/probe"
	"lifeboat/internal/run"
	"lifeboat/internal/tools/ext"
	"lifeboat/internal/tools/vfat"
	"lifeboat/internal/tools/xfs"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
	"lifeboat/tests/kernel/inguest"
)

const mib = 1 << 20

// sh runs a script of standard tools; anything but status 0 is fatal.
func sh(t *testing.T, script string) string {
	t.Helper()
	c := exec.Command("bash", "-euo", "pipefail", "-c", script)
	c.Env = append(os.Environ(), "LC_ALL=C")
	var fault strings.Builder
	c.Stderr = &fault
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s\n%v:\n%s\n%s", script, err, out, &fault)
	}
	return string(out)
}

// original makes a filesystem by a standard tool on a partition of a spare
// disk and reads its parameters.
func original(t *testing.T, spare inguest.Disk, bytes int64, mkfs string, read func(context.Context, run.Runner, string) (*manifest.FS, error)) *manifest.FS {
	t.Helper()
	sh(t, fmt.Sprintf(`wipefs -qaf %s; echo "start=1MiB, size=%dMiB" | sfdisk -q --wipe always -X gpt %s
		p=$(lsblk -nrpo NAME,TYPE %s | awk '$2 == "part" {print $1}'); wipefs -qa $p; %s $p`, spare.Path, bytes/mib, spare.Path, spare.Path, mkfs))
	part := strings.TrimSpace(sh(t, fmt.Sprintf(`lsblk -nrpo NAME,TYPE %s | awk '$2 == "part" {print $1}'`, spare.Path)))
	fs, err := read(context.Background(), run.Exec{}, part)
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

// builder collects nodes.
type builder struct {
	t     *testing.T
	g     manifest.Storage
	disks map[manifest.ID]inguest.Disk
}

func (b *builder) add(n manifest.Node) manifest.ID {
	b.g.Nodes = append(b.g.Nodes, n)
	return n.ID
}

func (b *builder) disk(d inguest.Disk) manifest.ID {
	id := manifest.ID("disk:" + d.Serial)
	b.disks[id] = d
	return b.add(manifest.Node{ID: id, Kind: manifest.KindDisk, Bytes: d.Bytes, Disk: &manifest.Disk{Serial: d.Serial, Bytes: d.Bytes, Logical: d.Sector, Physical: d.Sector}})
}

func (b *builder) table(disk manifest.ID, kind, uuid string) manifest.ID {
	return b.add(manifest.Node{ID: manifest.ID("table:" + uuid), Kind: manifest.KindTable, On: on(disk), Bytes: b.disks[disk].Bytes, Table: &manifest.Table{Type: kind, UUID: uuid}})
}

func (b *builder) part(table manifest.ID, p manifest.Partition) manifest.ID {
	if p.Number < 5 && p.UUID == "" && len(p.Type) > 2 {
		b.t.Fatalf("partition %d has no PARTUUID", p.Number)
	}
	return b.add(manifest.Node{ID: manifest.ID(fmt.Sprintf("part:%s-%d", table, p.Number)), Kind: manifest.KindPartition, On: on(table), Bytes: p.Size, Partition: &p})
}

func (b *builder) fs(on_ manifest.ID, bytes int64, fs *manifest.FS, at string) manifest.ID {
	id := b.add(manifest.Node{ID: manifest.ID("fs:" + fs.UUID), Kind: manifest.KindFS, On: on(on_), Bytes: bytes, FS: fs})
	b.g.Mounts = append(b.g.Mounts, manifest.Mount{Path: manifest.Bytes(at), Node: id, Type: fs.Type, Backup: manifest.ScopeFull})
	return id
}

func partUUID(n int) string { return fmt.Sprintf("11111111-2222-4333-8444-5555555555%02d", n) }

// fullGraph stands on three disks: a GPT with a BIOS-boot partition, ESP, /boot and a
// physical volume; an MBR with a physical volume in a logical partition and
// an ext4; a GPT of sectors of 4096 bytes. The group on two of them has a
// volume over both, a striped one and one for swap.
func fullGraph(t *testing.T, disks []inguest.Disk, spare inguest.Disk) *builder {
	b := &builder{t: t, disks: map[manifest.ID]inguest.Disk{}}
	a, m, n := b.disk(disks[0]), b.disk(disks[1]), b.disk(disks[2])

	ta := b.table(a, "gpt", "3F0B5C1D-9A3E-4C5B-8F6A-112233445566")
	b.part(ta, manifest.Partition{Number: 14, Start: 1 * mib, Size: 1 * mib, Type: manifest.TypeBIOSBoot, UUID: partUUID(14), Attrs: 1 << 2})
	esp := b.part(ta, manifest.Partition{Number: 1, Start: 66 * mib, Size: 64 * mib, Type: manifest.TypeESP, UUID: partUUID(1), Name: "EFI Größe", Attrs: 1})
	boot := b.part(ta, manifest.Partition{Number: 3, Start: 130 * mib, Size: 200 * mib, Type: manifest.TypeLinux, UUID: partUUID(3), Name: "a b"})
	p1 := b.part(ta, manifest.Partition{Number: 4, Start: 330 * mib, Size: 1024 * mib, Type: manifest.TypeLVM, UUID: partUUID(4)})
	tm := b.table(m, "dos", "0xdeadbeef")
	b.part(tm, manifest.Partition{Number: 2, Start: 1 * mib, Size: 1500 * mib, Type: "05"})
	home := b.part(tm, manifest.Partition{Number: 5, Start: 2 * mib, Size: 100 * mib, Type: "83"})
	p2 := b.part(tm, manifest.Partition{Number: 6, Start: 110 * mib, Size: 1024 * mib, Type: "8e"})
	tn := b.table(n, "gpt", "3F0B5C1D-9A3E-4C5B-8F6A-112233445577")
	srv := b.part(tn, manifest.Partition{Number: 7, Start: 4 * mib, Size: 800 * mib, Type: manifest.TypeLinux, UUID: partUUID(7)})

	pv := func(uuid string, part manifest.ID) manifest.ID {
		return b.add(manifest.Node{ID: manifest.ID("pv:" + uuid), Kind: manifest.KindPV, On: on(part), Bytes: 1020 * mib,
			PV: &manifest.PV{UUID: uuid, VG: "vg-a--b", PEStart: mib, Extents: 255, DevSize: 1024 * mib, MDACopies: 1}})
	}
	pvB := "IcIOKD-45At-wmOJ-UAov-PacT-tfRU-emYgTZ"
	vg := b.add(manifest.Node{ID: "vg:" + vgA, Kind: manifest.KindVG, On: on(pv(pvA, p1), pv(pvB, p2)), Bytes: 2040 * mib,
		VG: &manifest.VG{Name: "vg-a--b", UUID: vgA, ExtentSize: 4 * mib, Extents: 510, Tags: []string{"t"}}})
	lv := func(name, uuid string, segs ...manifest.Segment) manifest.ID {
		v := &manifest.LV{Name: name, UUID: uuid, Type: segs[len(segs)-1].Type, Segments: segs}
		bytes := int64(0)
		for _, s := range segs {
			bytes += s.Extents * 4 * mib
		}
		return b.add(manifest.Node{ID: manifest.ID("lv:" + uuid), Kind: manifest.KindLV, On: on(vg), Bytes: bytes, LV: v})
	}
	area := func(pv string, start int64) manifest.Area {
		return manifest.Area{PV: manifest.ID("pv:" + pv), Start: start}
	}
	root := lv("root", lvA, manifest.Segment{Type: "linear", Extents: 100, Stripes: 1, Areas: []manifest.Area{area(pvA, 50)}},
		manifest.Segment{Type: "linear", Start: 100, Extents: 60, Stripes: 1, Areas: []manifest.Area{area(pvB, 7)}})
	data := lv("data-x", "K5ElC0-fnIj-WcUT-kVWz-JCHe-ELDy-WHfxuj", manifest.Segment{Type: "striped", Extents: 64, Stripes: 2, StripeSize: 64 << 10,
		Areas: []manifest.Area{area(pvA, 0), area(pvB, 100)}})
	swp := lv("swap", "Rqjvim-QsZu-LJpQ-N9gF-nqm6-Vnao-UKN13P", manifest.Segment{Type: "linear", Extents: 16, Stripes: 1, Areas: []manifest.Area{area(pvB, 200)}})

	rootFS := b.fs(root, 640*mib, original(t, spare, 640*mib, "mkfs.xfs -q -L root -m bigtime=0,inobtcount=0", xfs.Read), "/")
	b.fs(boot, 200*mib, original(t, spare, 200*mib, "mke2fs -q -t ext4 -b 1024 -O ^metadata_csum,^64bit -L boot", ext.Read), "/boot")
	b.fs(esp, 64*mib, original(t, spare, 64*mib, "mkfs.vfat -F 32 -s 1 -n ESP", vfat.Read), "/boot/efi")
	b.fs(home, 100*mib, original(t, spare, 100*mib, "mke2fs -q -t ext3", ext.Read), "/home")
	b.fs(srv, 800*mib, original(t, spare, 800*mib, "mkfs.xfs -q -s size=4096", xfs.Read), "/srv")
	b.fs(data, 256*mib, original(t, spare, 256*mib, "mke2fs -q -t ext4 -N 3000 -E stride=16,stripe_width=32", ext.Read), "/srv/data dir")
	b.add(manifest.Node{ID: "swap:1", Kind: manifest.KindSwap, On: on(swp), Bytes: 64 * mib, Swap: &manifest.Swap{UUID: "5c3c6b2e-7a52-4f0e-9b5c-000000000002", Label: "SWAP", PageSize: 4096}})
	b.add(manifest.Node{ID: "swapfile:1", Kind: manifest.KindSwapFile, On: on(rootFS), Bytes: 4 * mib,
		SwapFile: &manifest.SwapFile{Path: "/swapfile", Inode: manifest.Inode{Mode: "0600"}, Swap: manifest.Swap{UUID: "5c3c6b2e-7a52-4f0e-9b5c-000000000004", PageSize: 4096}}})
	if f := b.g.Check(); len(f) > 0 {
		t.Fatalf("the graph is not valid: %v", f)
	}
	return b
}

// storage makes a Storage for the graph on the disks as they are now.
func (b *builder) storage(claimed bool) *Storage {
	b.t.Helper()
	p := b.plan(claimed)
	s, err := New(Options{Run: run.Exec{Log: b.t.Logf}, Plan: p, Root: "/mnt/target", Claim: manifest.Claim{Order: "order-1", Manifest: "m", Host: "host", Time: "2026-01-01T00:00:00Z"},
		Sink: report.SinkFunc(func(e report.Event) { b.t.Log("event: ", e.Text) })})
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// plan assigns the disks by what a probe says of them now.
func (b *builder) plan(claimed bool) *plan.Plan {
	b.t.Helper()
	m, err := probe.Machine(context.Background(), probe.Options{Run: run.Exec{}})
	if err != nil {
		b.t.Fatal(err)
	}
	p := planOf(b.g)
	// Steps in the planner's order: releases, wipes, then the graph.
	var rel, wipe, rest []plan.Step
	for _, st := range p.Steps {
		if st.Verb != plan.VerbRelease && st.Verb != plan.VerbWipe {
			rest = append(rest, st)
		}
	}
	for _, n := range b.g.OfKind(manifest.KindDisk) {
		rel = append(rel, plan.Step{ID: "release/" + string(n.ID), Verb: plan.VerbRelease, Stage: plan.StageRelease, Node: n.ID})
		wipe = append(wipe, plan.Step{ID: "wipe/" + string(n.ID), Verb: plan.VerbWipe, Stage: plan.StageStorage, Node: n.ID})
	}
	p.Steps = append(append(rel, wipe...), rest...)
	for _, d := range m.Disks {
		ref := plan.DiskRef{Name: d.Name, DevNo: d.DevNo, WWN: d.Disk.WWN, Serial: d.Disk.Serial, Model: d.Disk.Model, Bytes: d.Disk.Bytes,
			Signatures: d.Signatures, Table: d.Table, TableID: d.TableID}
		node := manifest.ID("disk:" + d.Disk.Serial)
		if _, ours := b.disks[node]; !ours {
			p.Untouched = append(p.Untouched, ref)
			continue
		}
		p.Erased = append(p.Erased, ref)
		p.Assignments = append(p.Assignments, plan.Assignment{Node: node, Disk: ref, Claimed: claimed, ClaimAt: mib - manifest.ClaimSize})
	}
	if len(p.Assignments) != len(b.disks) {
		b.t.Fatalf("%d of %d disks were found: %+v", len(p.Assignments), len(b.disks), m.Disks)
	}
	return p
}

// run carries the steps of some stages out.
func (s *Storage) run(t *testing.T, stages ...plan.Stage) {
	t.Helper()
	if err := s.try(stages...); err != nil {
		t.Fatal(err)
	}
}

func (s *Storage) try(stages ...plan.Stage) error {
	acts := s.Acts()
	for _, st := range s.Plan.Steps {
		for _, g := range stages {
			if st.Stage != g {
				continue
			}
			if err := acts[st.Verb](context.Background(), st, none); err != nil {
				return fmt.Errorf("%s: %w", st.ID, err)
			}
		}
	}
	return nil
}
