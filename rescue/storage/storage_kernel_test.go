//go:build kernel

package storage

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat/internal/tools/ext"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
	"lifeboat/tests/kernel/inguest"
)

// wanted is the order of disks here: two of 512-byte sectors, one of 4096,
// and a spare.
func wanted(t *testing.T, all []inguest.Disk) (targets []inguest.Disk, spare, other inguest.Disk) {
	t.Helper()
	var plain, large []inguest.Disk
	for _, d := range all {
		if d.Sector == 4096 {
			large = append(large, d)
		} else {
			plain = append(plain, d)
		}
	}
	if len(plain) < 4 || len(large) < 1 {
		t.Fatalf("the machine has %d disks of 512 and %d of 4096 bytes a sector", len(plain), len(large))
	}
	return []inguest.Disk{plain[0], plain[len(plain)-1], large[0]}, plain[1], plain[2]
}

// judge has the standard tools say what lies on the disks.
func judge(t *testing.T, disks []inguest.Disk) {
	t.Helper()
	for _, d := range []inguest.Disk{disks[0], disks[2]} {
		if out := sh(t, "sgdisk -v "+d.Path); !strings.Contains(out, "No problems found") {
			t.Errorf("sgdisk -v: %s", out)
		}
	}
	dump := func(d inguest.Disk) string {
		return sh(t, "sfdisk -d "+d.Path+" | sed 's,^"+d.Path+"p\\?,,; /^device:/d; s/  */ /g'")
	}
	if got, want := dump(disks[0]), `label: gpt
label-id: 3F0B5C1D-9A3E-4C5B-8F6A-112233445566
unit: sectors
first-lba: 34
last-lba: 4194270
sector-size: 512

1 : start= 135168, size= 131072, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=11111111-2222-4333-8444-555555555501, name="EFI Gr\xc3\xb6\xc3\x9fe", attrs="RequiredPartition"
3 : start= 266240, size= 409600, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=11111111-2222-4333-8444-555555555503, name="a b"
4 : start= 675840, size= 2097152, type=E6D6D379-F507-44C2-A23C-238F2A3DF928, uuid=11111111-2222-4333-8444-555555555504
14 : start= 2048, size= 2048, type=21686148-6449-6E6F-744E-656564454649, uuid=11111111-2222-4333-8444-555555555514, attrs="LegacyBIOSBootable"
`; got != want {
		t.Errorf("GPT:\n%s\nnot\n%s", got, want)
	}
	if got, want := dump(disks[1]), `label: dos
label-id: 0xdeadbeef
unit: sectors
sector-size: 512

2 : start= 2048, size= 3072000, type=5
5 : start= 4096, size= 204800, type=83
6 : start= 225280, size= 2097152, type=8e
`; got != want {
		t.Errorf("MBR:\n%s\nnot\n%s", got, want)
	}
	if got := dump(disks[2]); !strings.Contains(got, "7 : start= 1024, size= 204800,") || !strings.Contains(got, "sector-size: 4096") {
		t.Errorf("GPT of 4096:\n%s", got)
	}
	// LVM by its own standard configuration, which sees everything.
	if got, want := sh(t, `lvs --noheadings -o vg_name,vg_uuid,lv_name,lv_uuid,lv_size,segtype,seg_start_pe,seg_size_pe --units m vg-a--b | sed 's/^ *//; s/  */ /g' | sort`),
		`vg-a--b kdW6tw-UXOg-VntI-f8f0-jNDL-wdDX-cvIiPN data-x K5ElC0-fnIj-WcUT-kVWz-JCHe-ELDy-WHfxuj 256.00m striped 0 64
vg-a--b kdW6tw-UXOg-VntI-f8f0-jNDL-wdDX-cvIiPN root Rqjvim-QsZu-LJpQ-N9gF-nqm6-Vnao-UKN13O 640.00m linear 0 100
vg-a--b kdW6tw-UXOg-VntI-f8f0-jNDL-wdDX-cvIiPN root Rqjvim-QsZu-LJpQ-N9gF-nqm6-Vnao-UKN13O 640.00m linear 100 60
vg-a--b kdW6tw-UXOg-VntI-f8f0-jNDL-wdDX-cvIiPN swap Rqjvim-QsZu-LJpQ-N9gF-nqm6-Vnao-UKN13P 64.00m linear 0 16
`; got != want {
		t.Errorf("lvs:\n%s\nnot\n%s", got, want)
	}
	if out := sh(t, "vgck vg-a--b; pvck --dump headers $(pvs --noheadings -o pv_name | head -1) >/dev/null; pvs --noheadings -o pv_uuid,vg_name,pe_start,pv_pe_count --units b | sort"); !strings.Contains(out, pvA) ||
		strings.Count(out, " vg-a--b ") != 2 || strings.Count(out, "1048576B 255") != 2 {
		t.Errorf("pvs: %s", out)
	}
}

// fill writes a file into every mount, verify reads them.
func files(t *testing.T, s *Storage, write bool) {
	t.Helper()
	for _, m := range s.Plan.Target.Mounts {
		name := s.Root + string(m.Path) + "/file"
		if write {
			if err := os.WriteFile(name, []byte("of "+m.Path), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if b, err := os.ReadFile(name); err != nil || string(b) != "of "+string(m.Path) {
			t.Errorf("%s holds %q, %v", name, b, err)
		}
	}
}

// check has each filesystem's own checker look at it, unmounted.
func check(t *testing.T, s *Storage) {
	t.Helper()
	sh(t, "vgchange -qay vg-a--b")
	for _, n := range s.Plan.Target.OfKind(manifest.KindFS) {
		dev, err := s.Device(context.Background(), n.ID)
		if err != nil {
			t.Fatal(err)
		}
		sh(t, map[string]string{"xfs": "xfs_repair -n ", "vfat": "fsck.vfat -n ", "ext3": "e2fsck -fn ", "ext4": "e2fsck -fn "}[n.FS.Type]+dev)
		if out := sh(t, "blkid -p -o export "+dev); !strings.Contains(out, "\nUUID="+n.FS.UUID+"\n") || n.FS.Label != "" && !strings.Contains(out, "LABEL="+n.FS.Label+"\n") {
			t.Errorf("%s: %s", n.ID, out)
		}
	}
	if out := sh(t, "swaplabel /dev/vg-a--b/swap"); !strings.Contains(out, "000000000002") || !strings.Contains(out, "SWAP") {
		t.Errorf("swaplabel: %s", out)
	}
	sh(t, "vgchange -qan vg-a--b")
}

func build(t *testing.T, b *builder) *Storage {
	t.Helper()
	s := b.storage(false)
	s.run(t, plan.StageRelease, plan.StageStorage, plan.StageMount)
	files(t, s, true)
	if len(s.Renames()) > 0 {
		t.Errorf("renames %+v", s.Renames())
	}
	return s
}

// Everything is built on blank disks, over its own leftovers while they are
// mounted, and over a foreign stack while it is active: MD on the partitions,
// LUKS on MD, LVM with a thin pool on LUKS, XFS on the thin volume.
func TestBuildOverAnything(t *testing.T) {
	targets, spare, _ := wanted(t, inguest.Disks(t, 6))
	b := fullGraph(t, targets, spare)
	s := build(t, b)
	judge(t, targets)
	files(t, s, false)

	s = build(t, b) // all of it still mounted
	judge(t, targets)
	s.run(t, plan.StageRestore)
	s.run(t, plan.StageFinish)
	files2 := sh(t, "findmnt -rn -R "+s.Root+" || true; dmsetup ls; ls /dev/mapper")
	if strings.TrimSpace(files2) != "No devices found\ncontrol" {
		t.Errorf("left after the end:\n%s", files2)
	}
	check(t, s)

	foreignStack(t, targets)
	s = build(t, b)
	judge(t, targets)
	files(t, s, false)
	s.run(t, plan.StageFinish)
	check(t, s)
	if out := sh(t, "mdadm --examine --scan; lsblk -rno NAME,TYPE,FSTYPE | grep -E 'crypto|raid|md' || true"); strings.TrimSpace(out) != "" {
		t.Errorf("leftovers are seen:\n%s", out)
	}
}

// foreignStack puts md, LUKS and thin LVM onto partitions at the very places
// where the plan's partitions begin, and leaves them running.
func foreignStack(t *testing.T, d []inguest.Disk) {
	t.Helper()
	sh(t, fmt.Sprintf(`
		wipefs -qaf %[1]s %[2]s %[3]s
		printf 'label: gpt\nstart=66MiB,size=264MiB\nstart=330MiB,size=1024MiB\n' | sfdisk -q --wipe always -W always %[1]s
		printf 'label: gpt\nstart=2MiB,size=1200MiB\n' | sfdisk -q --wipe always -W always %[2]s
		part() { lsblk -nrpo NAME,TYPE $1 | awk -v n=$2 '$2 == "part" && ++i == n {print $1}'; }
		mdadm --create /dev/md7 --run --level=1 --raid-devices=2 --metadata=1.2 --assume-clean $(part %[1]s 2) $(part %[2]s 1)
		head -c 32 /dev/urandom > /tmp/key
		cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/md7 /tmp/key
		cryptsetup open --key-file /tmp/key /dev/md7 secret
		pvcreate -qy /dev/mapper/secret; vgcreate -q thinvg /dev/mapper/secret
		lvcreate -qy -Zn --type thin-pool -L 600M --poolmetadatasize 8M -n pool thinvg
		lvcreate -qy -V 2G --thinpool pool -n thin thinvg
		mkfs.xfs -q /dev/thinvg/thin
		mke2fs -q $(part %[1]s 1)
		mkswap -q $(part %[1]s 1) -f; swapon $(part %[1]s 1)
		sync`, d[0].Path, d[1].Path, d[2].Path))
}

func readClaim(t *testing.T, d inguest.Disk) *manifest.Claim {
	t.Helper()
	f, err := os.Open(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, manifest.ClaimSize)
	if _, err := f.ReadAt(block, mib-manifest.ClaimSize); err != nil {
		t.Fatal(err)
	}
	return manifest.DecodeClaim(block)
}

// simple is a plan of one disk with one ext4.
func simple(t *testing.T, d, spare inguest.Disk) *builder {
	b := &builder{t: t, disks: map[manifest.ID]inguest.Disk{}}
	tb := b.table(b.disk(d), "gpt", "3F0B5C1D-9A3E-4C5B-8F6A-112233445566")
	p := b.part(tb, manifest.Partition{Number: 1, Start: mib, Size: 100 * mib, Type: manifest.TypeLinux, UUID: partUUID(1)})
	b.fs(p, 100*mib, original(t, spare, 100*mib, "mke2fs -q -t ext4", ext.Read), "/")
	return b
}

// digest of both ends of a disk, where all that is written here would lie.
func digest(t *testing.T, d inguest.Disk) string {
	return sh(t, fmt.Sprintf("sync; (head -c 8M %[1]s; dd if=%[1]s bs=1M skip=%[2]d status=none) | sha256sum", d.Path, d.Bytes/mib-2))
}

// refused runs release and wipe, which must fail by a code, name a thing, and
// leave the disk as it is.
func refused(t *testing.T, s *Storage, d inguest.Disk, code, name string) {
	t.Helper()
	before := digest(t, d)
	err := s.try(plan.StageRelease, plan.StageStorage)
	if p := report.ProblemOf(err); err == nil || p.Code != code || !strings.Contains(err.Error(), name) {
		t.Errorf("%v (code %s), not %s naming %q", err, p.Code, code, name)
	}
	if digest(t, d) != before {
		t.Error("the disk was written")
	}
}

// What must stop a recovery before the first byte is written.
func TestStops(t *testing.T) {
	all := inguest.Disks(t, 6)
	targets, spare, other := wanted(t, all)
	d := targets[0]
	b := simple(t, d, spare)

	t.Run("a volume group on another disk too", func(t *testing.T) {
		sh(t, fmt.Sprintf("pvcreate -qy %[1]s %[2]s; vgcreate -q both %[1]s %[2]s; lvcreate -qy -Wn -l 10 -n x both; vgchange -qan both", d.Path, other.Path))
		refused(t, b.storage(false), d, report.CodeDiskProtected, "volume group both")
		sh(t, "vgchange -qay both")
		refused(t, b.storage(false), d, report.CodeDiskProtected, "volume group both")
		sh(t, fmt.Sprintf("vgchange -qan both; wipefs -qaf %s %s", d.Path, other.Path))
	})
	t.Run("half of a mirror on another disk", func(t *testing.T) {
		sh(t, fmt.Sprintf("mdadm --create /dev/md5 --run --level=1 --raid-devices=2 --assume-clean %[1]s %[2]s; mdadm --stop /dev/md5", d.Path, other.Path))
		refused(t, b.storage(false), d, report.CodeDiskProtected, "linux_raid_member")
		sh(t, fmt.Sprintf("mdadm --assemble /dev/md5 %[1]s %[2]s", d.Path, other.Path))
		refused(t, b.storage(false), d, report.CodeDiskProtected, "md5")
		sh(t, fmt.Sprintf("mdadm --stop /dev/md5; mdadm --zero-superblock %[1]s %[2]s", d.Path, other.Path))
	})
	t.Run("mounted by somebody else", func(t *testing.T) {
		sh(t, fmt.Sprintf("mke2fs -qF %[1]s; mkdir -p /mnt/else; mount -o ro %[1]s /mnt/else", d.Path))
		refused(t, b.storage(false), d, report.CodeDiskProtected, "/mnt/else")
		sh(t, fmt.Sprintf("umount /mnt/else; wipefs -qa %s", d.Path))
	})
	t.Run("another signature than planned", func(t *testing.T) {
		s := b.storage(false)
		sh(t, "mkswap -q "+d.Path)
		refused(t, s, d, report.CodeDiskChanged, "swap")
		sh(t, "wipefs -qa "+d.Path)
	})
	t.Run("another disk than planned", func(t *testing.T) {
		s := b.storage(false)
		s.Plan.Assignments[0].Disk.Serial = "gone"
		refused(t, s, d, report.CodeDiskChanged, "gone")
	})
	t.Run("the medium", func(t *testing.T) {
		s := b.storage(false)
		s.Medium = []string{d.Path}
		refused(t, s, d, report.CodeDiskProtected, d.Name)
	})
	t.Run("held by a program", func(t *testing.T) {
		s := b.storage(false)
		fd, err := unix.Open(d.Path, unix.O_RDONLY|unix.O_EXCL, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		refused(t, s, d, report.CodeDiskBusy, d.Path)
	})
	t.Run("a partition too far", func(t *testing.T) {
		s := b.storage(false)
		for i := range s.Plan.Target.Nodes {
			if p := s.Plan.Target.Nodes[i].Partition; p != nil {
				c := *p
				c.Size = d.Bytes
				s.Plan.Target.Nodes[i].Partition = &c
			}
		}
		if err := s.try(plan.StageRelease, plan.StageStorage); err == nil || !strings.Contains(err.Error(), "does not lie on the disk") {
			t.Errorf("%v", err)
		}
	})
}

// What a worker that died left open is closed; what a mount or the backup
// stands on is not.
func TestClose(t *testing.T) {
	targets, spare, other := wanted(t, inguest.Disks(t, 6))
	b := fullGraph(t, targets, spare)
	s := build(t, b)
	sh(t, fmt.Sprintf(`wipefs -qaf %[2]s; pvcreate -qy %[1]s %[2]s; vgcreate -q used %[1]s; lvcreate -qy -Wn -L 100M -n a used; lvcreate -qy -Wn -L 100M -n b used
		mke2fs -q /dev/used/a; mkdir -p /mnt/else; mount /dev/used/a /mnt/else; truncate -s 64M /mnt/else/img; modprobe loop; losetup /dev/loop5 /mnt/else/img
		vgcreate -q kept %[2]s; lvcreate -qy -Wn -L 100M -n backup kept`, other.Path, spare.Path))
	if err := Close(context.Background(), s.Root, []string{"/dev/kept/backup"}, nil); err != nil {
		t.Fatal(err)
	}
	if out := sh(t, "findmnt -rn -R "+s.Root+" || true; dmsetup ls | cut -f1 | sort; losetup -a"); out != "kept-backup\nused-a\n" {
		t.Errorf("open is:\n%s", out)
	}
	sh(t, "ls /mnt/else/img; umount /mnt/else")
	build(t, b)
}

// A loop device on a file of the target, swap on a target, and read-only
// volumes at the end.
func TestLoopSwapReadOnly(t *testing.T) {
	targets, spare, _ := wanted(t, inguest.Disks(t, 6))
	b := simple(t, targets[0], spare)
	s := b.storage(false)
	s.run(t, plan.StageRelease, plan.StageStorage, plan.StageMount)
	sh(t, "truncate -s 64M "+s.Root+"/img; mke2fs -qF "+s.Root+"/img; mkdir "+s.Root+"/in; modprobe loop; losetup /dev/loop3 "+s.Root+"/img; mount /dev/loop3 "+s.Root+"/in")
	s = b.storage(false)
	s.run(t, plan.StageRelease)
	if out, _ := exec.Command("findmnt", "-rn", "-R", s.Root).Output(); len(out) > 0 {
		t.Errorf("still mounted: %s", out)
	}
	if out := sh(t, "losetup -a"); out != "" {
		t.Errorf("still a loop device: %s", out)
	}

	b = fullGraph(t, targets, spare)
	b.g.Node("lv:" + lvA).LV.ReadOnly = true
	s = build(t, b)
	s.run(t, plan.StageFinish)
	if out := sh(t, "lvs --noheadings -o lv_attr vg-a--b/root"); !strings.HasPrefix(strings.TrimSpace(out), "-ri-") {
		t.Errorf("lvs: %s", out)
	}
	sh(t, "lvchange -qprw vg-a--b/root")
	check(t, s)
}

// A machine that is reset in the middle: the layers are opened by the claim,
// not made, and what was restored is still there.
func TestOpenAfterReset_Boot1(t *testing.T) {
	targets, spare, _ := wanted(t, inguest.Disks(t, 6))
	b := fullGraph(t, targets, spare)
	s := build(t, b)
	for _, m := range s.Plan.Target.Mounts {
		sh(t, "sync -f '"+s.Root+string(m.Path)+"'")
	}
	// The graph for the next boot: parameters of the originals are gone then.
	keepGraph(t, b)
}

func TestOpenAfterReset_Boot2(t *testing.T) {
	targets, _, _ := wanted(t, inguest.Find(t))
	b := keptGraph(t, targets)
	for id, d := range b.disks {
		c := readClaim(t, d)
		if c == nil || c.PlanID != "plan-1" || c.Node != id || c.Serial != d.Serial || c.Bytes != d.Bytes || c.Order != "order-1" {
			t.Fatalf("the claim on %s is %+v", d.Path, c)
		}
	}
	s := b.storage(true)
	if err := s.Open(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.run(t, plan.StageMount)
	files(t, s, false)
	s.run(t, plan.StageMount) // as after a restart of the worker
	s.run(t, plan.StageFinish)
	for _, d := range b.disks {
		if c := readClaim(t, d); c != nil {
			t.Errorf("the claim on %s stays: %+v", d.Path, c)
		}
	}
	check(t, s)
	judge(t, targets)

	// Without a claim, and with another filesystem than the plan has, nothing
	// is opened.
	if err := b.storage(false).Open(context.Background()); err == nil {
		t.Error("opened without a claim")
	}
	sh(t, "vgchange -qay vg-a--b; e2label /dev/vg-a--b/data-x other; vgchange -qan vg-a--b")
	if err := b.storage(true).Open(context.Background()); err == nil || !strings.Contains(err.Error(), `fs-label is "other"`) {
		t.Errorf("another filesystem: %v", err)
	}
}
