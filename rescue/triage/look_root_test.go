//go:build root

package triage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/run"
	"lifeboat/internal/tools/blkid"
	"lifeboat/manifest"
)

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// bench is an installed system on loop devices, made by the standard tools:
// ext4 as root and /boot, XFS with data, a disk with GRUB's boot code.
type bench struct {
	t     *testing.T
	m     *manifest.Manifest
	devs  map[manifest.ID]string // places → loop devices
	files map[manifest.ID]string // places → image files
	made  time.Time
}

const (
	rootUUID = "5c3c6b2e-7a52-4f0e-9b5c-0000000000a1"
	bootUUID = "5c3c6b2e-7a52-4f0e-9b5c-0000000000a2"
	dataUUID = "5c3c6b2e-7a52-4f0e-9b5c-0000000000a3"
)

func newBench(t *testing.T) *bench {
	b := &bench{t: t, devs: map[manifest.ID]string{}, files: map[manifest.ID]string{}}
	on := func(id manifest.ID) []manifest.Edge { return []manifest.Edge{{Node: id, Role: manifest.RoleMember}} }
	m := &manifest.Manifest{Host: manifest.Host{Name: "alpha", MachineID: "0123", OS: manifest.OSRelease{ID: "debian", Arch: "amd64"}}}
	m.Storage.Nodes = []manifest.Node{{ID: "disk:1", Kind: manifest.KindDisk, Disk: &manifest.Disk{Serial: "S1"}}}
	for i, x := range []struct{ name, uuid, typ, path string }{{"root", rootUUID, "ext4", "/"}, {"boot", bootUUID, "ext4", "/boot"}, {"data", dataUUID, "xfs", "/srv/da ta"}} {
		part, fs := manifest.ID("part:"+x.name), manifest.ID("fs:"+x.uuid)
		m.Storage.Nodes = append(m.Storage.Nodes,
			manifest.Node{ID: part, Kind: manifest.KindPartition, On: on("disk:1"), Partition: &manifest.Partition{Number: i + 1}},
			manifest.Node{ID: fs, Kind: manifest.KindFS, On: on(part), FS: &manifest.FS{Type: x.typ, UUID: x.uuid}})
		m.Storage.Mounts = append(m.Storage.Mounts, manifest.Mount{Path: manifest.Bytes(x.path), Node: fs, InFstab: true, Backup: manifest.ScopeFull, Spec: "UUID=" + x.uuid})
		b.loop(part, map[string]int64{"root": 48 << 20, "boot": 32 << 20, "data": 300 << 20}[x.name])
	}
	m.Boot = manifest.Boot{Firmware: "bios", Loader: "grub", RootFS: "fs:" + rootUUID, BootFS: "fs:" + bootUUID, MBRCode: []manifest.ID{"disk:1"},
		GRUB: &manifest.GRUB{Prefix: "grub", Dir: "/boot/grub", Config: "/boot/grub/grub.cfg", Platforms: []string{"i386-pc"}}}
	m.System = manifest.System{Initramfs: manifest.InitramfsTools, Kernels: []manifest.Kernel{{Version: "6.1", Image: "/boot/vmlinuz-6.1", Initramfs: "/boot/initrd.img-6.1", Default: true}}}
	b.m = m
	b.loop("disk:1", 8<<20)
	b.grub()
	tool(t, "mke2fs", "-q", "-t", "ext4", "-U", rootUUID, b.devs["part:root"])
	tool(t, "mke2fs", "-q", "-t", "ext4", "-U", bootUUID, b.devs["part:boot"])
	tool(t, "mkfs.xfs", "-q", "-m", "uuid="+dataUUID, b.devs["part:data"])
	b.fill()
	// Times of files are cut to the kernel's tick: what follows is later.
	b.made = time.Now().Add(time.Second)
	return b
}

func (b *bench) loop(id manifest.ID, bytes int64) {
	b.t.Helper()
	file := filepath.Join(b.t.TempDir(), "image")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Truncate(file, bytes); err != nil {
		b.t.Fatal(err)
	}
	dev := strings.TrimSpace(tool(b.t, "losetup", "--find", "--show", file))
	b.t.Cleanup(func() { tool(b.t, "losetup", "-d", dev) })
	b.devs[id], b.files[id] = dev, file
}

// grub puts GRUB's own boot code and image on the disk, as grub-install
// places them behind an MBR.
func (b *bench) grub() {
	b.t.Helper()
	img := filepath.Join(b.t.TempDir(), "core")
	tool(b.t, "grub-mkimage", "-O", "i386-pc", "-p", "/boot/grub", "-o", img, "biosdisk", "ext2", "part_msdos", "normal", "linux")
	core, err := os.ReadFile(img)
	if err != nil {
		b.t.Fatal(err)
	}
	boot, err := os.ReadFile("/usr/lib/grub/i386-pc/boot.img")
	if err != nil {
		b.t.Fatal(err)
	}
	binary.LittleEndian.PutUint64(boot[0x5c:], 1)
	b.write("disk:1", 0, append(boot[:512:512], core...))
}

func (b *bench) write(id manifest.ID, off int64, data []byte) {
	b.t.Helper()
	f, err := os.OpenFile(b.devs[id], os.O_RDWR, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, off); err != nil {
		b.t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.t.Fatal(err)
	}
}

// inside mounts the system as it would run and runs a script in its root.
func (b *bench) inside(script string) {
	b.t.Helper()
	dir := b.t.TempDir()
	tool(b.t, "mount", b.devs["part:root"], dir)
	defer b.free()
	defer tool(b.t, "umount", "-R", dir)
	tool(b.t, "mkdir", "-p", dir+"/boot", dir+"/srv/da ta")
	tool(b.t, "mount", b.devs["part:boot"], dir+"/boot")
	tool(b.t, "mount", b.devs["part:data"], dir+"/srv/da ta")
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// free waits until nothing holds the devices: another process's view of the
// mounts may be a moment behind.
func (b *bench) free() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, dev := range b.devs {
		err := blockdev.WaitFor(ctx, dev+" to be free", func() (bool, error) {
			f, err := os.OpenFile(dev, os.O_RDONLY|unix.O_EXCL, 0)
			if err == nil {
				f.Close()
			}
			return err == nil, err
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bench) fill() {
	kernel := make([]byte, 100<<10)
	copy(kernel[hdrMagic:], "HdrS")
	kernel[setupSects] = 3
	binary.LittleEndian.PutUint32(kernel[sysSize:], uint32(len(kernel)-4*512)/16)
	k := filepath.Join(b.t.TempDir(), "kernel")
	if err := os.WriteFile(k, kernel, 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.inside(`
mkdir -p etc/lifeboat usr/sbin sbin lib/modules usr/lib/systemd boot/grub/i386-pc
for x in normal linux ext2 part_gpt part_msdos; do echo x >boot/grub/i386-pc/$x.mod; done; for x in boot core; do echo x >boot/grub/i386-pc/$x.img; done
printf 'ID=debian\nPRETTY_NAME="Debian of a test"\n' >etc/os-release; echo 0123 >etc/machine-id; echo alpha >etc/hostname
touch usr/lib/systemd/systemd; ln -s ../usr/lib/systemd/systemd sbin/init
for x in grub-install grub-mkconfig update-initramfs; do touch usr/sbin/$x; done
printf 'UUID=` + rootUUID + ` / ext4 defaults 0 1\nUUID=` + bootUUID + ` /boot ext4 defaults 0 2\nUUID=` + dataUUID + ` /srv/da\\040ta xfs defaults 0 2\n' >etc/fstab
cp ` + k + ` boot/vmlinuz-6.1
printf 'menuentry a {\n linux /vmlinuz-6.1 root=UUID=` + rootUUID + `\n initrd /initrd.img-6.1\n}\n' >boot/grub/grub.cfg
mkdir i; cd i; for n in init a b c d e f g h j k; do head -c 20000 /dev/urandom >$n; done
find . | cpio -o -H newc --quiet | zstd -q >../boot/initrd.img-6.1; cd ..; rm -r i
echo precious >srv/da\ ta/file`)
}

// found says by blkid what lies in each place now.
func (b *bench) found() *manifest.Storage {
	b.t.Helper()
	g := &manifest.Storage{}
	for _, n := range b.m.Storage.Nodes {
		if n.Kind == manifest.KindFS {
			continue
		}
		n.Seen.Device = filepath.Base(b.devs[n.ID])
		g.Nodes = append(g.Nodes, n)
		if n.Kind == manifest.KindDisk {
			continue
		}
		f, err := blkid.Probe(context.Background(), run.Exec{}, b.devs[n.ID])
		if err != nil {
			continue
		}
		g.Nodes = append(g.Nodes, manifest.Node{ID: manifest.ID("fs:" + f.UUID), Kind: manifest.KindFS, On: []manifest.Edge{{Node: n.ID}},
			FS: &manifest.FS{Type: f.Type, UUID: f.UUID, Label: f.Label}, Seen: manifest.Seen{Device: n.Seen.Device}})
	}
	return g
}

func (b *bench) sums() string {
	b.t.Helper()
	unix.Sync()
	h := sha256.New()
	for _, id := range []manifest.ID{"disk:1", "part:root", "part:boot", "part:data"} {
		f, err := os.Open(b.files[id])
		if err != nil {
			b.t.Fatal(err)
		}
		// Blocks of zeros count by their absence: what is a hole may change.
		block, zero := make([]byte, 64<<10), make([]byte, 64<<10)
		for at := int64(0); ; at += int64(len(block)) {
			data, err := f.Seek(at, unix.SEEK_DATA)
			if err != nil {
				break
			}
			at = data - data%int64(len(block))
			n, err := f.ReadAt(block, at)
			if err != nil && err != io.EOF {
				b.t.Fatal(err)
			}
			if !bytes.Equal(block[:n], zero[:n]) {
				fmt.Fprintln(h, at)
				h.Write(block[:n])
			}
		}
		f.Close()
	}
	return hex.EncodeToString(h.Sum(nil))
}

// look judges, and proves that no byte was written and nothing stays open.
func (b *bench) look() Verdict {
	b.t.Helper()
	s := &scene{opt: Options{Manifest: b.m, Made: b.made}, m: b.m, found: b.found(), names: map[string]bool{}, firmware: manifest.Firmware{Mode: "bios"},
		node: func(name string) string { return "/dev/" + name }, devNo: func(name string) string { return name }}
	before := b.sums()
	f, err := s.examine(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	if b.sums() != before {
		b.t.Error("looking wrote to the disks")
	}
	if out := tool(b.t, "findmnt", "-rn", "-o", "TARGET"); strings.Contains(out, s.dir) {
		b.t.Errorf("looking left mounts:\n%s", out)
	}
	return Decide(f)
}

func (b *bench) expect(kind Kind, texts ...string) {
	b.t.Helper()
	v := b.look()
	all := strings.Join(v.Lines(), "\n")
	if v.Kind != kind {
		b.t.Errorf("%s, not %s\n%s", v.Kind, kind, all)
	}
	for _, x := range texts {
		if !strings.Contains(all, x) {
			b.t.Errorf("%q is not said:\n%s", x, all)
		}
	}
}

func TestLook(t *testing.T) {
	b := newBench(t)
	b.expect(Healthy, "ext4 of / on loop", "xfs of /srv/da ta", "boot code of disk loop", "holds Debian of a test of alpha", "kernel 6.1 and its initramfs are whole")

	// Later files, one of them with an old time, are counted.
	for time.Now().Before(b.made.Add(50 * time.Millisecond)) {
		time.Sleep(10 * time.Millisecond)
	}
	b.inside(`echo new >srv/da\ ta/new; cp -p etc/machine-id srv/da\ ta/old-time; touch -d 2001-01-01 srv/da\ ta/old-time`)
	b.expect(Healthy, "2 files changed after")

	for _, c := range []struct {
		name, damage, mend string
		kind               Kind
		texts              []string
	}{
		{"truncated initramfs", "cp boot/initrd.img-6.1 srv/keep; truncate -s 60000 boot/initrd.img-6.1", "mv srv/keep boot/initrd.img-6.1", Intact, []string{"initramfs /boot/initrd.img-6.1: ", "initramfs broken"}},
		{"no initramfs", "mv boot/initrd.img-6.1 srv/keep", "mv srv/keep boot/initrd.img-6.1", Intact, []string{"it is not there"}},
		{"truncated kernel", "cp boot/vmlinuz-6.1 srv/keep; truncate -s 9000 boot/vmlinuz-6.1", "mv srv/keep boot/vmlinuz-6.1", Readable, []string{"it is cut short (9000 of 102400 bytes)", "save them first"}},
		{"empty grub.cfg", "mv boot/grub/grub.cfg srv/keep; touch boot/grub/grub.cfg", "mv srv/keep boot/grub/grub.cfg", Intact, []string{"boot menu broken"}},
		{"a module gone", "rm boot/grub/i386-pc/normal.mod", "echo x >boot/grub/i386-pc/normal.mod", Intact, []string{"normal.mod is missing", "boot loader gone"}},
		{"fstab of another disk", "cp etc/fstab srv/keep; sed -i s/0000a3/0000ff/ etc/fstab", "mv srv/keep etc/fstab", Intact, []string{"for /srv/da ta, which is not on this machine; it is UUID=" + dataUUID}},
		{"no fstab", "mv etc/fstab srv/keep", "mv srv/keep etc/fstab", Intact, []string{"/etc/fstab is gone"}},
		{"full /boot", "head -c 500M /dev/zero >boot/zero || true", "rm boot/zero", Healthy, []string{"/boot is full: 0 KiB free"}},
		{"no init", "mv sbin/init srv/keep", "mv srv/keep sbin/init", Readable, []string{"no program /sbin/init"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.t = t
			b.inside(c.damage)
			b.expect(c.kind, c.texts...)
			b.inside(c.mend)
		})
	}
	b.t = t
	b.expect(Healthy)

	// A filesystem that was not unmounted is left as it is: its journal waits.
	b.crash()
	b.expect(Healthy, "not unmounted when the machine stopped")

	tool(t, "xfs_admin", "-U", "5c3c6b2e-7a52-4f0e-9b5c-0000000000b3", b.devs["part:data"])
	b.expect(Intact, "has the id 5c3c6b2e-7a52-4f0e-9b5c-0000000000b3", "ids in fstab wrong")
	tool(t, "xfs_admin", "-U", dataUUID, b.devs["part:data"])

	b.write("disk:1", 0, make([]byte, 440))
	b.expect(Intact, "the first sector holds no boot code", "boot loader gone: repair, about 2 min")
	b.grub()
	b.write("disk:1", 512, make([]byte, 64<<10))
	b.expect(Intact, "behind the boot code is overwritten")
	b.grub()

	b.write("part:boot", 0, make([]byte, 8<<20))
	b.expect(Readable, "ext4 of /boot is not there")
	b.write("part:root", 0, make([]byte, 8<<20))
	b.expect(Readable, "2 files newer than the backup: save them first")
	b.write("part:data", 0, make([]byte, 8<<20))
	b.expect(Gone, "gone: recover")
}

// crash makes the root filesystem one whose journal was not written back: a
// copy is taken while it is mounted.
func (b *bench) crash() {
	b.t.Helper()
	dir := b.t.TempDir()
	tool(b.t, "mount", b.devs["part:root"], dir)
	tool(b.t, "touch", dir+"/later")
	tool(b.t, "sync", "-f", dir)
	copied, err := os.ReadFile(b.files["part:root"])
	if err != nil {
		b.t.Fatal(err)
	}
	tool(b.t, "umount", dir)
	b.free()
	if !bytes.Contains(copied[1024:2048], []byte{0x53, 0xef}) {
		b.t.Fatal("the copy is no ext4")
	}
	b.write("part:root", 0, copied)
}
