//go:build kernel

package storage

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/internal/probe"
	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/tests/kernel/inguest"
)

// oldServer is made by the standard tools: an MBR with its id, gaps, a root
// that may be started, and logical partitions up to the disk's last MiB: ext3,
// ext2, a physical volume, swap; a second disk with GPT; over both of them a
// striped volume, and one that takes the rest.
func oldServer(t *testing.T, a, b inguest.Disk) {
	t.Helper()
	sh(t, fmt.Sprintf(`
		sfdisk -q --wipe always -W always %[1]s <<'END'
label: dos
label-id: 0x1badb002
unit: sectors
1 : start=2048, size=409600, type=83, bootable
2 : start=442368, size=3751936, type=5
5 : start=444416, size=307200, type=83
6 : start=819200, size=307200, type=83
7 : start=1146880, size=1843200, type=8e
8 : start=3031040, size=1161216, type=82
END
		sfdisk -q --wipe always -W always %[2]s <<'END'
label: gpt
label-id: 5E1F0B7C-2B44-4A6E-9D1B-0C5A7F3E9A10
3 : start=4096, size=1843200, type=E6D6D379-F507-44C2-A23C-238F2A3DF928, uuid=AAAAAAAA-0000-4000-8000-000000000003, name="more room"
END
		mke2fs -q -t ext4 -b 4096 -L root %[1]s1
		mke2fs -q -t ext3 -b 1024 -I 256 -L home -m 2 -J size=4 %[1]s5
		mke2fs -q -t ext2 -b 2048 -I 128 -L srv -N 4000 %[1]s6
		mkswap -q -L SWAP -U 5c3c6b2e-7a52-4f0e-9b5c-000000000008 %[1]s8
		pvcreate -q %[1]s7 %[2]s3; vgcreate -q -s 4m vg-old %[1]s7 %[2]s3
		lvcreate -qy -Wn -i 2 -I 64k -l 200 -n fast vg-old
		lvcreate -qy -Wn -l 100%%FREE -n rest vg-old
		mke2fs -q -t ext4 -L fast -E stride=16,stripe_width=32 /dev/vg-old/fast
		mke2fs -q -t ext3 -L rest /dev/vg-old/rest
		mkdir -p /mnt/old
		for x in %[1]s1 %[1]s5 %[1]s6 /dev/vg-old/fast /dev/vg-old/rest; do mount $x /mnt/old; echo old > /mnt/old/f; umount /mnt/old; done
		sync`, a.Path, b.Path))
}

// seenBy is what the standard tools say of oldServer, wherever it lies.
func seenBy(t *testing.T, a, b inguest.Disk) string {
	t.Helper()
	out := sh(t, fmt.Sprintf(`
		for x in %[1]s %[2]s; do sfdisk -d $x; done
		vgchange -qay vg-old
		pvs --noheadings --units b -o pv_uuid,vg_name,pe_start,pv_pe_count | sort
		vgs --noheadings -o vg_uuid,vg_extent_size,vg_extent_count,vg_free_count vg-old
		lvs --noheadings -o lv_uuid,lv_name,lv_size,segtype,stripes,stripe_size,seg_start_pe,seg_size_pe,seg_pe_ranges vg-old | sort
		swaplabel %[1]s8
		for x in %[1]s1 %[1]s5 %[1]s6 /dev/vg-old/fast /dev/vg-old/rest; do
			dumpe2fs -h $x 2>/dev/null; e2fsck -fn $x >/dev/null
		done
		vgchange -qan vg-old`, a.Path, b.Path))
	// What a filesystem counts while it is used, and when it was made.
	count := regexp.MustCompile(`(?m)^(Last |Mount count|Filesystem created|Lifetime|Free |Checksum:|Next check|Overhead|Journal (checksum|sequence|start)|Directories|device:).*\n`)
	out = count.ReplaceAllString(out, "")
	out = strings.NewReplacer(a.Path, "DISK-A", b.Path, "DISK-B").Replace(out)
	return regexp.MustCompile(`[ \t]+`).ReplaceAllString(out, " ")
}

// captured is the manifest of a server that has only these two disks.
func captured(t *testing.T, a, b inguest.Disk) *manifest.Manifest {
	t.Helper()
	ctx := context.Background()
	sh(t, "vgchange -qay vg-old")
	r, err := probe.Read(ctx, probe.Options{Run: run.Exec{}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := r.Graph(ctx)
	if err != nil {
		t.Fatal(err)
	}
	g.Storage.Nodes = slices.DeleteFunc(g.Storage.Nodes, func(n manifest.Node) bool {
		return n.Disk != nil && n.Disk.Serial != a.Serial && n.Disk.Serial != b.Serial
	})
	m := &manifest.Manifest{Format: manifest.Format, Made: time.Now().UTC().Truncate(time.Second), By: "test",
		Host: manifest.Host{Name: "old", MachineID: "0123456789abcdef0123456789abcdef", OS: manifest.OSRelease{ID: "debian", Arch: "amd64"}},
		Boot: manifest.Boot{Firmware: manifest.FirmwareBIOS, Loader: "none"}, System: manifest.System{Kernel: "1"}, Storage: g.Storage}
	m.Machine.Firmware.Mode = manifest.FirmwareBIOS
	for _, x := range []struct{ label, path string }{{"root", "/"}, {"home", "/home"}, {"srv", "/srv"}, {"fast", "/srv/fast"}, {"rest", "/srv/rest"}} {
		for _, n := range g.Storage.OfKind(manifest.KindFS) {
			if n.FS.Label != x.label {
				continue
			}
			m.Storage.Mounts = append(m.Storage.Mounts, manifest.Mount{Path: manifest.Bytes(x.path), Node: n.ID, Type: n.FS.Type, InFstab: true, Live: true, Backup: manifest.ScopeFull})
			if x.path == "/" {
				m.Boot.RootFS, m.Boot.BootFS = n.ID, n.ID
			}
		}
	}
	if len(m.Storage.Mounts) != 5 {
		t.Fatalf("the graph holds %d of the 5 filesystems: %+v", len(m.Storage.Mounts), g.Storage.OfKind(manifest.KindFS))
	}
	sh(t, "vgchange -qan vg-old")
	return m
}

// rebuild plans and builds on the machine as it is.
func rebuild(t *testing.T, m *manifest.Manifest, mapping *plan.Mapping) *plan.Plan {
	t.Helper()
	ctx := context.Background()
	machine, err := probe.Machine(ctx, probe.Options{Run: run.Exec{}, Rescue: true})
	if err != nil {
		t.Fatal(err)
	}
	machine.Firmware.Mode = manifest.FirmwareBIOS
	p := plan.Make(plan.Input{Manifest: m, Machine: machine, Mapping: mapping, Policy: plan.Policy{Order: "order-1", Method: "archive", Unattended: true}})
	if p.Refused() {
		t.Fatalf("refused:\n%s", p.Text())
	}
	s, err := New(Options{Run: run.Exec{Log: t.Logf}, Plan: p, Root: "/mnt/target",
		Claim: manifest.Claim{Order: "order-1", Manifest: m.Digest(), Host: "old", Time: "2026-01-01T00:00:00Z"}})
	if err != nil {
		t.Fatal(err)
	}
	acts := s.Acts()
	carry := func(stages ...plan.Stage) {
		for _, st := range p.Steps {
			for _, g := range stages {
				if act := acts[st.Verb]; act != nil && st.Stage == g {
					if err := act(ctx, st, none); err != nil {
						t.Fatalf("%s: %v", st.ID, err)
					}
				}
			}
		}
	}
	carry(plan.StageRelease, plan.StageStorage, plan.StageMount)
	files(t, s, true)
	files(t, s, false)
	carry(plan.StageFinish)
	return p
}

// A layout of older days comes back to the sector, and on a disk that is
// smaller by 48 MiB with less swap and all else the same.
func TestOldLayoutComesBack(t *testing.T) {
	d := inguest.Disks(t, 6)
	a, b, small := d[0], d[1], d[3]
	oldServer(t, a, b)
	m, before := captured(t, a, b), seenBy(t, a, b)
	if !strings.Contains(before, "label-id: 0x1badb002") || strings.Count(before, "start=") != 7 {
		t.Fatalf("the source is not as it was meant:\n%s", before)
	}
	inguest.Disks(t, 6)
	rebuild(t, m, nil)
	if after := seenBy(t, a, b); after != before {
		t.Errorf("it was:\n%s\nand is:\n%s", before, after)
	}

	inguest.Disks(t, 6)
	p := rebuild(t, m, &plan.Mapping{Disks: []plan.DiskMapping{{From: a.Serial, To: small.Serial}}})
	if !strings.Contains(p.Text(), "shrinks from 567.0 MiB to 520.0 MiB") {
		t.Errorf("the plan does not say what shrinks:\n%s", p.Text())
	}
	// 1 MiB behind the last logical partition was free, swap gave the rest.
	want := before
	for was, is := range map[string]string{"size= 3751936,": "size= 3653632,", "size= 1161216,": "size= 1064960,"} {
		if strings.Count(want, was) != 1 {
			t.Fatalf("%q is not in it once:\n%s", was, want)
		}
		want = strings.Replace(want, was, is, 1)
	}
	if after := seenBy(t, small, b); after != want {
		t.Errorf("on the smaller disk it is to be:\n%s\nand is:\n%s", want, after)
	}
}
