//go:build machines

package machines

import (
	"context"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/drill/qemu"
	"lifeboat/tests/lab"
)

// phases logs how long each part of a test took.
func phases(t *testing.T) func(name string) {
	last := time.Now()
	return func(name string) {
		t.Logf("%6.1f s  %s", time.Since(last).Seconds(), name)
		last = time.Now()
	}
}

// source makes the laboratory's first system, or finds it made.
func source(ctx context.Context, t *testing.T) (*lab.Lab, *lab.Source) {
	t.Helper()
	return sourceOf(ctx, t, lab.BIOSLayout())
}

func sourceOf(ctx context.Context, t *testing.T, layout lab.Layout) (*lab.Lab, *lab.Source) {
	t.Helper()
	l, err := lab.Open(ctx, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.MakeSource(ctx, layout)
	if err != nil {
		t.Fatal(err)
	}
	return l, s
}

// The laboratory proves itself before anything is proven by it: its source is
// a living Debian, and its referee sees what is different and nothing else.
func TestLab(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	phase := phases(t)
	l, s := source(ctx, t)
	phase("the source system")
	booted := filepath.Join(t.TempDir(), "disk.raw")
	if err := s.Copy(ctx, booted); err != nil {
		t.Fatal(err)
	}
	if err := s.AddReporter(ctx, l, booted); err != nil {
		t.Fatal(err)
	}
	phase("a copy with the reporter")
	bootSource(ctx, t, booted, phase)

	other := filepath.Join(t.TempDir(), "disk.raw")
	if err := s.Copy(ctx, other); err != nil {
		t.Fatal(err)
	}
	ds, err := l.Compare(ctx, s.Disk, other)
	if err != nil {
		t.Fatal(err)
	}
	if len(ds) != 0 {
		t.Errorf("a disk and its copy differ:\n%v", ds)
	}
	phase("comparing the source with its copy")
	change(ctx, t, l, other)
	phase("changing three things in the copy")
	if ds, err = l.Compare(ctx, s.Disk, other); err != nil {
		t.Fatal(err)
	}
	phase("comparing again")
	var got []string
	for _, d := range ds {
		got = append(got, d.Where+" "+d.Path+": "+d.What)
	}
	want := []string{
		"part 5 : blkid PART_ENTRY_UUID", "part 5 : uuid",
		"vg-data-a/data links/deep/three: sha256", "vg-data-a/data links/one: sha256", "vg-data-a/data links/two: sha256",
		"vg-data-a/root var/lib/kinds/attributes/xattr: xattr user.text",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the referee found\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// change changes a file's content (size and times stay), one attribute and
// one partition's UUID, by the appliance.
func change(ctx context.Context, t *testing.T, l *lab.Lab, disk string) {
	t.Helper()
	inAppliance(ctx, t, l, disk, `
		sfdisk --quiet --part-uuid /dev/vda 5 5F00BA11-0000-4000-8000-00000000B008
		vgchange -q -ay vg-data-a >/dev/null
		mount /dev/vg-data-a/data /mnt
		touch -r /mnt/links/one /lab/time
		printf x | dd of=/mnt/links/one bs=1 seek=4000 conv=notrunc status=none
		touch -r /lab/time /mnt/links/one
		umount /mnt
		mount /dev/vg-data-a/root /mnt
		setfattr -n user.text -v 'A value' /mnt/var/lib/kinds/attributes/xattr
		umount /mnt
		vgchange -q -an vg-data-a >/dev/null`)
}

// bootSource boots the disk under SeaBIOS and believes the system's own report.
func bootSource(ctx context.Context, t *testing.T, disk string, phase func(string)) {
	t.Helper()
	m, err := lab.Start(ctx, qemu.Config{
		Name: "source", Firmware: qemu.BIOS, Drives: []qemu.Drive{{File: disk, Interface: qemu.Virtio}},
		NICs: []qemu.NIC{{}}, Ports: []qemu.Port{{Name: lab.ReportPort}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	bootCtx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	r, err := lab.WaitReport(bootCtx, m.VM)
	if err != nil {
		t.Fatal(err)
	}
	phase("power-on to the system's report")
	checkReport(t, r)
	if err := m.Agent(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Run(ctx, "systemctl is-active --quiet getty@tty1 && ! test -e /usr/local/sbin/lab-report && ! systemctl cat lab-report"); err != nil {
		t.Errorf("the console waits for a login and the reporter is gone: %v", err)
	}
	checkLogin(ctx, t, m)
	if err := m.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	phase("screenshot and shutdown")
}

func checkReport(t *testing.T, r *lab.Report) {
	t.Helper()
	if r.State != "running" || len(r.Failed) != 0 || r.Hostname != "harbour-7" || len(r.Swaps) != 1 {
		t.Errorf("the system reports state %s, failed units %v, name %s, swap on %v", r.State, r.Failed, r.Hostname, r.Swaps)
	}
	for _, v := range lab.BIOSLayout().Volumes {
		if fs, uuid := r.Mounted(v.Path); v.Path != "none" && (fs != v.Type || uuid != v.UUID) {
			t.Errorf("on %s lies %s %s, want %s %s", v.Path, fs, uuid, v.Type, v.UUID)
		}
	}
	if !strings.Contains(r.Cmdline, "console=tty0 console=ttyS0,115200") {
		t.Errorf("the kernel was started with %q", r.Cmdline)
	}
	found := false
	for _, a := range r.Addresses {
		for _, i := range a.AddrInfo {
			found = found || i.Family == "inet" && i.Scope == "global"
		}
	}
	if !found {
		t.Errorf("no address by DHCP: %+v", r.Addresses)
	}
}

// checkLogin waits until the screen shows text and keeps it as a picture.
func checkLogin(ctx context.Context, t *testing.T, m *lab.Machine) {
	t.Helper()
	if err := m.WaitSerial(ctx, "harbour-7 login:"); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join("..", "..", "build", "machines")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "lab-login.png")
	if err := m.Screenshot(ctx, path); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	light := 0
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			if r, _, _, _ := img.At(x, y).RGBA(); r > 0x8000 {
				light++
			}
		}
	}
	// Two lines of text, and nothing else.
	if light < 200 || light > 20000 {
		t.Errorf("%s has %d light dots: no login prompt", path, light)
	}
	t.Logf("the login prompt: %s", path)
}

// What this machine may not be able to mount (vfat, a volume in two pieces)
// is listed in the appliance.
func TestLabInGuest(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	l, err := lab.Open(ctx, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := qemu.CreateRaw(a, 256<<20); err != nil {
		t.Fatal(err)
	}
	inAppliance(ctx, t, l, a, `
		printf 'label: gpt\nsize=64MiB,type=U\ntype=V\n' | sfdisk --quiet /dev/vda
		mkfs.vfat -n ESP /dev/vda1 >/dev/null
		vgcreate -q v /dev/vda2; lvcreate -q -n x -L 24m v; lvcreate -q -n y -L 16m v; lvm lvextend -q -L 64m v/x
		mke2fs -q -t ext4 /dev/v/x
		mount /dev/v/x /mnt; head -c 30000000 /dev/urandom >/mnt/file; setfattr -n user.a -v 1 /mnt/file; umount /mnt
		mount -t vfat /dev/vda1 /mnt; mkdir -p /mnt/EFI/BOOT; echo shim >/mnt/EFI/BOOT/BOOTX64.EFI; umount /mnt
		vgchange -q -an v`)
	if err := lab.CopySparse(ctx, a, b); err != nil {
		t.Fatal(err)
	}
	inAppliance(ctx, t, l, b, `
		mount -t vfat /dev/vda1 /mnt; echo SHIM >/mnt/EFI/BOOT/BOOTX64.EFI; umount /mnt
		vgchange -q -ay v; mount /dev/v/x /mnt; setfattr -n user.a -v 2 /mnt/file; umount /mnt; vgchange -q -an v`)
	ds, err := l.Compare(ctx, a, b)
	if err != nil {
		t.Fatal(err)
	}
	ds, unused := ds.Except(lab.Allow{Path: "EFI/BOOT/BOOTX64.EFI", What: "mtime", Why: "it was written again"})
	if len(unused) != 0 || len(ds) != 2 ||
		ds[0].Path != "EFI/BOOT/BOOTX64.EFI" || ds[0].What != "sha256" || ds[1].Path != "file" || ds[1].What != "xattr user.a" {
		t.Errorf("the referee found\n%v", ds)
	}
}

// inAppliance runs a script with the disk as /dev/vda.
func inAppliance(ctx context.Context, t *testing.T, l *lab.Lab, disk, script string) {
	t.Helper()
	m, err := l.Appliance(ctx, qemu.Drive{File: disk, Interface: qemu.Virtio})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	if _, err := m.Run(ctx, "set -e\n"+script); err != nil {
		t.Fatal(err)
	}
	if err := m.Off(ctx); err != nil {
		t.Fatal(err)
	}
}
