//go:build kernel

package kernel

import (
	"io"
	"strings"
	"testing"
	"time"

	"lifeboat/builder"
	"lifeboat/images/iso"
	"lifeboat/internal/config"
	"lifeboat/internal/loaders"
	"lifeboat/manifest"
)

// packedSegment is the initramfs of a medium that the builder made of this
// host.
func packedSegment(t *testing.T, kernel string) []byte {
	t.Helper()
	return packedWith(t, kernel, "universal")
}

// packedWith is the same with a choice of modules.
func packedWith(t *testing.T, kernel, modules string) []byte {
	t.Helper()
	c := config.Default()
	c.OutputDir, c.Modules = t.TempDir(), modules
	m := &manifest.Manifest{Format: manifest.Format, Made: time.Date(2026, 5, 1, 3, 0, 0, 0, time.UTC), Host: manifest.Host{Name: "packed"}}
	r, err := builder.Rescue(t.Context(), builder.Options{Manifest: m, Config: c, Kernel: kernel})
	if err != nil {
		t.Fatal(err)
	}
	img, err := iso.Open(r.Media[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	f, err := img.File(loaders.InitrdPath)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// packedWork is what the packed tools must do where no udev answers and only
// the kernel's own requests load modules. Vda and vdb are blank.
var packedWork = []struct{ name, script string }{
	{"modprobe is ours", `[ "$(readlink -f /sbin/modprobe)" = /init ]`},
	{"drivers of other machines are there", `for m in ahci nvme e1000e megaraid_sas mpt3sas vmw_pvscsi xhci_pci uas usbhid; do modprobe $m; done; grep -q "/hv_storvsc.ko:" /lib/modules/$(uname -r)/modules.dep`},
	{"partition table", `printf 'label: gpt\nsize=200M\nsize=300M\nsize=64M\nsize=64M\nsize=150M\n' | sfdisk -q /dev/vda; until [ -b /dev/vda5 ]; do sleep 0.1; done; sgdisk -v /dev/vda; parted -s /dev/vda print`},
	{"ext4 with attributes", `mke2fs -q -t ext4 /dev/vda1; mkdir -p /mnt/x; mount /dev/vda1 /mnt/x; echo hi >/mnt/x/f; setfattr -n user.a -v b /mnt/x/f; setfacl -m u:5:r /mnt/x/f
		setcap cap_net_raw+ep /mnt/x/f; getcap /mnt/x/f | grep -q cap_net_raw; umount /mnt/x; e2fsck -fn /dev/vda1; tune2fs -l /dev/vda1 >/dev/null; dumpe2fs -h /dev/vda1`},
	{"xfs", `mkfs.xfs -q -f /dev/vdb; mount /dev/vdb /mnt/x; touch /mnt/x/f; umount /mnt/x; xfs_repair -n /dev/vdb; xfs_admin -l -u /dev/vdb; wipefs -a /dev/vdb`},
	{"vfat with a name outside of ASCII", `mkfs.vfat -n RESCUE /dev/vda3; mount -t vfat /dev/vda3 /mnt/x; touch /mnt/x/Größe; ls /mnt/x; umount /mnt/x; fsck.vfat -n /dev/vda3`},
	{"swap", `mkswap /dev/vda4; swapon /dev/vda4; swapoff /dev/vda4`},
	{"LVM, nodes without udev", `pvcreate -y /dev/vda2; vgcreate my-vg /dev/vda2; lvcreate -y -n root -L 100M my-vg; test -b /dev/mapper/my--vg-root; test -b /dev/my-vg/root
		mke2fs -q -t ext4 /dev/my-vg/root; lvcreate -y --type thin-pool -L 40M -n pool my-vg; vgchange -an my-vg; test ! -e /dev/my-vg/root; ls /etc/lvm; test ! -e /etc/lvm/backup/my-vg`},
	{"LUKS with argon2", `echo -n pw | cryptsetup -q luksFormat --pbkdf argon2id --pbkdf-memory 65536 --pbkdf-force-iterations 4 /dev/vda5 -; echo -n pw | cryptsetup luksOpen /dev/vda5 c -; mke2fs -q -t ext4 /dev/mapper/c; cryptsetup close c`},
	{"RAID", `mdadm --create /dev/md0 --run --level=1 --raid-devices=2 missing /dev/vdb; mke2fs -q -t ext4 /dev/md0; mdadm --detail /dev/md0; mdadm --stop /dev/md0; wipefs -a /dev/vdb`},
	{"GNU tar and zstd", `tar --xattrs --acls -cf /run/t.tar /etc; zstd -q /run/t.tar; zstd -dc /run/t.tar.zst | tar t >/dev/null; rm /run/t.tar*`},
	{"looking around", `lsblk; blkid; lsblk --version; ip -br link; ps ax >/dev/null; free; awk 'BEGIN{print 1}'; vi --version >/dev/null; less --version >/dev/null; strace -o /dev/null true; [ "$(id -un)" = root ]; dmsetup ls`},
	{"nothing was lost while unpacking", `! dmesg | grep -i 'unpacking failed\|write error'`},
	{"secrets of this host stayed there", `test ! -e /etc/shadow; test ! -e /etc/ssh/ssh_host_rsa_key; [ "$(stat -c %a /etc/lifeboat/order.json)" = 600 ]`},
}

// TestPackedSystem boots what the builder packs of this host and lets its
// storage tools do real work.
func TestPackedSystem(t *testing.T) {
	image, _ := kernelImage(t)
	m := boot(t, setup{name: "packed", segments: [][]byte{packedSegment(t, strings.TrimPrefix(image, "/boot/vmlinuz-")), guestPart(t)}, disks: 2})
	m.Hello()
	m.Sh("until [ -b /dev/vda ] && [ -b /dev/vdb ]; do modprobe virtio_blk; sleep 0.1; done")
	for _, w := range packedWork {
		t.Run(w.name, func(t *testing.T) {
			if out, code := m.Run(patience, "bash", "-euxc", w.script); code != 0 {
				t.Errorf("exit status %d:\n%s", code, out)
			}
		})
	}
}
