//go:build kernel

package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/internal/probe"
	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
	"lifeboat/tests/kernel/inguest"
)

// everyByte digests a whole disk; blocks of zeros count by their absence.
func everyByte(t *testing.T, d inguest.Disk) string {
	t.Helper()
	sh(t, "sync; blockdev --flushbufs "+d.Path)
	f, err := os.Open(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	b, zero := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); ; at += int64(len(b)) {
		n, err := io.ReadFull(f, b)
		if !bytes.Equal(b[:n], zero[:n]) {
			fmt.Fprintln(h, at)
			h.Write(b[:n])
		}
		if err != nil {
			return hex.EncodeToString(h.Sum(nil))
		}
	}
}

// lived puts an old system on three disks: GPT with ext4 and LVM; MBR with
// logical partitions that hold LVM, LUKS and ext4; GPT of sectors of 4096
// bytes with half a mirror. A striped volume lies over the first two.
func lived(t *testing.T, d []inguest.Disk) {
	t.Helper()
	sh(t, fmt.Sprintf(`
		wipefs -qaf %[1]s %[2]s %[3]s
		printf 'label: gpt\nstart=3MiB,size=200MiB\nstart=300MiB,size=900MiB\n' | sfdisk -q --wipe always -W always %[1]s
		printf 'label: dos\nstart=1MiB,size=90MiB\nstart=100MiB,size=1700MiB,type=5\nstart=130MiB,size=900MiB,type=8e\nstart=1040MiB,size=100MiB\nstart=1300MiB,size=100MiB\n' | sfdisk -q --wipe always -W always %[2]s
		printf 'label: gpt\nstart=2MiB,size=400MiB\n' | sfdisk -q --wipe always -W always %[3]s
		part() { lsblk -nrpo NAME,TYPE $1 | awk -v n=$2 '$2 == "part" && ++i == n {print $1}'; }
		mke2fs -q -t ext4 $(part %[1]s 1); mke2fs -q -t ext4 $(part %[2]s 1); mke2fs -q -t ext4 $(part %[2]s 5)
		head -c 32 /dev/urandom > /tmp/key
		cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 $(part %[2]s 4) /tmp/key
		mdadm --create /dev/md6 --run --level=1 --raid-devices=2 --metadata=1.0 $(part %[3]s 1) missing
		mke2fs -q -t ext4 /dev/md6; mdadm --stop /dev/md6
		pvcreate -q $(part %[1]s 2) $(part %[2]s 3); vgcreate -q old $(part %[1]s 2) $(part %[2]s 3)
		lvcreate -qy -Wn -i 2 -I 64k -L 800M -n striped old; lvcreate -qy -Wn -L 60M -n line old
		mke2fs -q -t ext4 /dev/old/striped; mkfs.xfs -q -f /dev/old/line -d size=60m 2>/dev/null || mke2fs -q /dev/old/line
		mkdir -p /mnt/old; mount /dev/old/striped /mnt/old; head -c 100M /dev/urandom > /mnt/old/file; sha256sum /mnt/old/file > /mnt/old/sum; umount /mnt/old
		vgchange -qan old; sync`, d[0].Path, d[1].Path, d[2].Path))
}

// toolsSay is what the standard tools see of the old system.
func toolsSay(t *testing.T, d []inguest.Disk) string {
	t.Helper()
	return sh(t, fmt.Sprintf(`
		for x in %[1]s %[2]s %[3]s; do sfdisk -d $x | grep -v '^device:' | sed "s,^$x,," ; done
		for p in $(pvs --noheadings -o pv_name | sort); do pvck --dump headers $p; pvck --dump metadata $p; done
		vgs --noheadings -o vg_uuid,vg_name,vg_extent_count; lvs --noheadings -o lv_uuid,lv_name,lv_size,segtype | sort
		part() { lsblk -nrpo NAME,TYPE $1 | awk -v n=$2 '$2 == "part" && ++i == n {print $1}'; }
		cryptsetup luksUUID $(part %[2]s 4); cryptsetup luksDump $(part %[2]s 4) | head -20; mdadm --examine $(part %[3]s 1) | grep -v 'Update Time'
		for p in $(part %[1]s 1) $(part %[2]s 1) $(part %[2]s 5); do blkid -p -o value -s UUID $p; e2fsck -fn $p 2>&1 | tail -1; done`, d[0].Path, d[1].Path, d[2].Path))
}

// A recovery that stops before its first filesystem is undone: not a byte of
// the old system is missing, and the standard tools see it again.
func TestUndo(t *testing.T) {
	all := inguest.Disks(t, 6)
	targets, spare, _ := wanted(t, all)
	b := fullGraph(t, targets, spare)
	lived(t, targets)
	var before []string
	for _, d := range targets {
		before = append(before, everyByte(t, d))
	}
	said := toolsSay(t, targets)
	ctx := context.Background()

	s := b.storage(false)
	s.Plan.ID = "plan-1"
	name := filepath.Join(t.TempDir(), "data")
	data, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	kept, err := s.Keep(ctx, data, 512<<20)
	if err != nil || !kept.Whole {
		t.Fatalf("%v, %+v", err, kept)
	}
	t.Logf("kept %d KiB", kept.Bytes>>10)
	var ends []string
	for _, d := range targets {
		ends = append(ends, digest(t, d))
	}
	acts := s.Acts()
	for _, st := range s.Plan.Steps {
		if st.Verb == plan.VerbMkfs {
			continue
		}
		if st.Stage != plan.StageRelease && st.Stage != plan.StageStorage {
			continue
		}
		if err := acts[st.Verb](ctx, st, none); err != nil {
			t.Fatalf("%s: %v", st.ID, err)
		}
	}
	for i, d := range targets {
		if digest(t, d) == ends[i] {
			t.Errorf("building left %s as it was: this proves nothing", d.Path)
		}
	}

	undo := func() *Storage {
		t.Helper()
		m, err := probe.Machine(ctx, probe.Options{Run: run.Exec{}, Rescue: true})
		if err != nil {
			t.Fatal(err)
		}
		p, err := UndoPlan(kept, m)
		if err != nil {
			t.Fatal(err)
		}
		u, err := New(Options{Run: run.Exec{Log: t.Logf}, Plan: p, Root: "/mnt/target"})
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	// Damaged data is refused before the first write.
	half := digest(t, targets[0])
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := undo().Undo(ctx, kept, bytes.NewReader(raw)); report.ExitOf(err) != report.ExitRefused {
		t.Errorf("damaged: %v", err)
	}
	sh(t, "vgchange -qan 2>/dev/null || true")
	if digest(t, targets[0]) != half {
		t.Error("damaged data was written")
	}
	if err := undo().Undo(ctx, kept, data); err != nil {
		t.Fatal(err)
	}
	for i, d := range targets {
		if everyByte(t, d) != before[i] {
			t.Errorf("%s is not as it was", d.Path)
		}
	}
	if now := toolsSay(t, targets); now != said {
		t.Errorf("the tools see\n%s\nnot\n%s", now, said)
	}
	sh(t, "vgchange -qay old; mount -o ro /dev/old/striped /mnt/old; sha256sum -c /mnt/old/sum; umount /mnt/old; vgchange -qan old")
	// Nothing is left to be undone.
	m, err := probe.Machine(ctx, probe.Options{Run: run.Exec{}, Rescue: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := UndoPlan(kept, m); report.ExitOf(err) != report.ExitRefused || !strings.Contains(err.Error(), "0 disks") {
		t.Errorf("a second undo: %v", err)
	}
	// Without room for all, headers are kept by themselves.
	s = b.storage(false)
	s.Plan.ID = "plan-1"
	few, err := s.Keep(ctx, io.Discard, 40<<20)
	if err != nil || few.Whole && few.Bytes > 40<<20 || len(few.Disks) != 3 {
		t.Errorf("%v %+v", err, few)
	}
}

// installed is a server on LVM as a planner's manifest has it: GPT with a
// BIOS-boot partition, an ESP and /boot, and a group with root and data.
func installed(t *testing.T, d inguest.Disk) *manifest.Manifest {
	t.Helper()
	sh(t, fmt.Sprintf(`
		wipefs -qaf %[1]s
		printf 'label: gpt\nstart=1MiB,size=1MiB,type=21686148-6449-6E6F-744E-656564454649\nstart=66MiB,size=64MiB,type=U\nstart=130MiB,size=100MiB\nstart=300MiB,size=900MiB,type=E6D6D379-F507-44C2-A23C-238F2A3DF928\n' | sfdisk -q --wipe always -W always %[1]s
		part() { lsblk -nrpo NAME,TYPE $1 | awk -v n=$2 '$2 == "part" && ++i == n {print $1}'; }
		mkfs.vfat -F 32 -s 1 -n ESP $(part %[1]s 2) >/dev/null; mke2fs -q -t ext4 $(part %[1]s 3)
		pvcreate -q $(part %[1]s 4); vgcreate -q vg-s $(part %[1]s 4); lvcreate -qy -Wn -L 200M -n root vg-s; lvcreate -qy -Wn -L 400M -n data vg-s
		mke2fs -q -t ext4 /dev/vg-s/root; mkfs.xfs -q /dev/vg-s/data
		mkdir -p /mnt/i; mount /dev/vg-s/root /mnt/i; mkdir -p /mnt/i/boot /mnt/i/srv /mnt/i/etc; mount $(part %[1]s 3) /mnt/i/boot; mkdir /mnt/i/boot/efi
		mount /dev/vg-s/data /mnt/i/srv; echo precious > /mnt/i/srv/file; echo alpha > /mnt/i/etc/hostname; umount -R /mnt/i; sync`, d.Path))
	ctx := context.Background()
	r, err := probe.Read(ctx, probe.Options{Run: run.Exec{}, Rescue: true})
	if err != nil {
		t.Fatal(err)
	}
	g, err := r.Graph(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sh(t, "vgchange -qan vg-s")
	m := &manifest.Manifest{Host: manifest.Host{Name: "alpha", OS: manifest.OSRelease{ID: "debian", Arch: "amd64"}}, Storage: g.Storage}
	own := map[manifest.ID]bool{}
	for _, n := range m.Storage.Nodes {
		if n.Disk != nil && n.Disk.Serial == d.Serial {
			for _, a := range m.Storage.Above(n.ID) {
				own[a.ID] = true
			}
		}
	}
	for _, n := range m.Storage.OfKind(manifest.KindFS) {
		if !own[n.ID] {
			continue
		}
		at := map[string]string{"vfat": "/boot/efi", "xfs": "/srv"}[n.FS.Type]
		if n.FS.Type == "ext4" {
			at = "/boot"
			if m.Storage.Node(n.On[0].Node).LV != nil {
				at = "/"
			}
		}
		switch at {
		case "/":
			m.Boot.RootFS = n.ID
		case "/boot":
			m.Boot.BootFS = n.ID
		case "/boot/efi":
			m.Boot.ESPs = []manifest.ID{n.ID}
		}
		m.Storage.Mounts = append(m.Storage.Mounts, manifest.Mount{Path: manifest.Bytes(at), Node: n.ID, Type: n.FS.Type, InFstab: true, Backup: manifest.ScopeFull})
	}
	m.Boot.Firmware, m.Boot.Loader = "uefi", "grub"
	m.Boot.GRUB = &manifest.GRUB{Prefix: "grub", Platforms: []string{"x86_64-efi"}, Dir: "/boot/grub", Config: "/boot/grub/grub.cfg"}
	return m
}

// A repair that makes a lost ESP again opens /boot and the ESP for writing,
// the root as a device that cannot be written, and data not at all.
func TestRepairOpens(t *testing.T) {
	d := inguest.Disks(t, 6)[0]
	m := installed(t, d)
	ctx := context.Background()
	part := func(n int) string {
		return strings.TrimSpace(sh(t, fmt.Sprintf(`lsblk -nrpo NAME,TYPE %s | awk -v n=%d '$2 == "part" && ++i == n {print $1}'`, d.Path, n)))
	}
	sum := func() string {
		return sh(t, fmt.Sprintf("sync; blockdev --flushbufs %[1]s; dd if=%[1]s bs=1M skip=300 count=900 status=none | sha256sum", d.Path))
	}
	before := sum()
	sh(t, "dd if=/dev/zero bs=1M count=64 of="+part(2)+" status=none conv=fsync; sgdisk -Z x 2>/dev/null || true")
	mach, err := probe.Machine(ctx, probe.Options{Run: run.Exec{}, Rescue: true})
	if err != nil {
		t.Fatal(err)
	}
	mend := plan.Mend{Disks: map[manifest.ID]string{}, ESPs: m.Boot.ESPs, MakeESPs: m.Boot.ESPs, Modules: true}
	for _, x := range m.Storage.OfKind(manifest.KindDisk) {
		for _, y := range mach.Disks {
			if y.Disk.Serial == x.Disk.Serial {
				mend.Disks[x.ID] = y.DevNo
			}
		}
	}
	m.Format, m.System.Init = manifest.Format, "systemd"
	p := plan.Repair(plan.Input{Manifest: m, Machine: mach}, mend)
	for _, r := range p.Refusals {
		if r.Code != report.CodeFirmwareMode && r.Code != report.CodeKernelFeature && r.Code != report.CodeModuleMissing {
			t.Fatalf("refused: %s", r.Line())
		}
	}
	p.Refusals = nil // this machine was started by BIOS
	s, err := New(Options{Run: run.Exec{Log: t.Logf}, Plan: p, Root: "/mnt/target"})
	if err != nil {
		t.Fatal(err)
	}
	acts := s.RepairActs()
	for _, st := range p.Steps {
		if st.Stage == plan.StageOpen || st.Stage == plan.StageMount {
			if err := acts[st.Verb](ctx, st, none); err != nil {
				t.Fatalf("%s: %v", st.ID, err)
			}
		}
	}
	out := sh(t, "findmnt -rn -R -o TARGET,FSTYPE,OPTIONS /mnt/target; blockdev --getro /dev/mapper/vg--s-root; ls /dev/mapper")
	t.Log(out)
	for _, want := range []string{"/mnt/target ext4 ro,", "/mnt/target/boot ext4 rw,", "/mnt/target/boot/efi vfat rw,", "\n1\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if strings.Contains(out, "srv") || strings.Contains(out, "vg--s-data") {
		t.Errorf("data is opened:\n%s", out)
	}
	if out := sh(t, "blkid -p -o export "+part(2)); !strings.Contains(out, "UUID="+m.Storage.Node(m.Boot.ESPs[0]).FS.UUID+"\n") {
		t.Errorf("the ESP is not the captured one: %s", out)
	}
	sh(t, "fsck.vfat -n "+part(2)+" || true; echo x > /mnt/target/boot/efi/x; echo x > /mnt/target/boot/x")
	if err := acts[plan.VerbUnmount](ctx, plan.Step{}, none); err != nil {
		t.Fatal(err)
	}
	if out := sh(t, "findmnt -rn -R /mnt/target || true; dmsetup ls"); strings.TrimSpace(out) != "No devices found" {
		t.Errorf("left open: %s", out)
	}
	if sum() != before {
		t.Error("the volume group was written to")
	}
	// Whatever else lies where the ESP was is left alone.
	sh(t, "mke2fs -qF -t ext4 "+part(2))
	s.claimed = true
	err = acts[plan.VerbMkfs](ctx, plan.Step{Node: m.Boot.ESPs[0]}, none)
	if report.ProblemOf(err).Code != report.CodeDiskNotBlank {
		t.Errorf("an ext4 in its place: %v", err)
	}
	// A table whose first copy is damaged is written again as captured.
	was := sh(t, "sfdisk -d "+d.Path)
	sh(t, "dd if=/dev/zero of="+d.Path+" bs=512 seek=1 count=33 conv=notrunc,fsync status=none")
	if err := acts[plan.VerbMendTable](ctx, plan.Step{Node: m.Storage.Node(m.Storage.Node(m.Boot.ESPs[0]).On[0].Node).On[0].Node}, none); err != nil {
		t.Fatal(err)
	}
	if now := sh(t, "sfdisk -d "+d.Path+"; sgdisk -v "+d.Path); !strings.HasPrefix(now, was) || !strings.Contains(now, "No problems found") {
		t.Errorf("the table is\n%s\nnot\n%s", now, was)
	}
	if sum() != before {
		t.Error("writing the table touched the volume group")
	}
}
