//go:build kernel

package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"lifeboat/builder/base"
	"lifeboat/internal/cpio"
	"lifeboat/internal/kmod"
	"lifeboat/internal/run"
)

// modules that guests can use, with all they need. The kernel asks for those
// that no device announces.
var modules = strings.Fields(`virtio_pci virtio_blk virtio_scsi virtio_net virtio_console virtio_rng nvme ahci sd_mod sr_mod
	xhci_pci usb_storage uas loop dm_mod dm_crypt dm_snapshot dm_thin_pool dm_cache dm_cache_smq dm_mirror dm_raid dm_integrity dm_writecache
	raid0 raid1 raid10 raid456 ext4 xfs vfat nls_ascii nls_cp437 nls_utf8 nls_iso8859_1 btrfs isofs overlay
	algif_skcipher algif_hash xts cbc essiv ecb sha256_generic sha512_generic aes_generic aesni_intel authenc efivarfs
	af_packet veth 8021q bonding ipv6`)

// tools of the host that guests get, by the Debian package that brings them.
var tools = map[string]string{
	"bash dash":     "bash dash",
	"coreutils":     "ls cat cp mv rm mkdir rmdir ln dd stat sync sha256sum md5sum head tail sort od truncate chmod chown readlink true false sleep seq touch mktemp df du env tr cut wc test [ uniq tee expr basename dirname id",
	"grep":          "grep",
	"sed":           "sed",
	"findutils":     "find xargs",
	"diffutils":     "cmp diff",
	"mawk":          "mawk",
	"procps":        "ps",
	"e2fsprogs":     "mke2fs mkfs.ext2 mkfs.ext3 mkfs.ext4 e2fsck fsck.ext4 tune2fs dumpe2fs debugfs resize2fs e2label e2image chattr lsattr",
	"xfsprogs":      "mkfs.xfs xfs_repair xfs_db xfs_admin xfs_info xfs_io xfs_growfs xfs_spaceman",
	"dosfstools":    "mkfs.vfat mkfs.fat fsck.vfat fsck.fat fatlabel",
	"lvm2":          "lvm pvs vgs lvs pvcreate vgcreate lvcreate pvremove vgremove lvremove vgchange lvchange pvck vgck vgcfgbackup vgcfgrestore pvscan vgscan lvscan pvdisplay vgdisplay lvdisplay vgrename lvmconfig pvchange lvconvert",
	"dmsetup":       "dmsetup",
	"mdadm":         "mdadm",
	"cryptsetup":    "cryptsetup",
	"fdisk":         "sfdisk fdisk",
	"gdisk":         "sgdisk",
	"util-linux":    "blkid wipefs lsblk blockdev losetup mount umount findmnt mkswap swapon swapoff swaplabel blkdiscard partx fsck mountpoint flock setsid dmesg",
	"tar gzip zstd": "tar gzip zstd",
	"attr acl":      "getfattr setfattr getfacl setfacl",
	"libcap2-bin":   "getcap setcap",
}

// opened are libraries that programs open by name while they run.
var opened = []string{"/usr/lib/x86_64-linux-gnu/libgcc_s.so.1", "/lib/x86_64-linux-gnu/libgcc_s.so.1"}

// kernelImage is the newest kernel of /boot whose modules include disk
// drivers.
func kernelImage(t testing.TB) (path string, set *kmod.Set) {
	t.Helper()
	found, _ := filepath.Glob("/boot/vmlinuz-*")
	for _, p := range slices.Backward(found) {
		dir, err := kmod.Folder("/", strings.TrimPrefix(filepath.Base(p), "vmlinuz-"))
		if err != nil {
			continue
		}
		s, err := kmod.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := s.Lookup("ahci"); ok || s.Builtin("ahci") {
			return p, s
		}
	}
	t.Fatalf("no kernel with its modules among %v: run tests/setup.sh", found)
	return "", nil
}

func host(t testing.TB, c run.Cmd) string {
	t.Helper()
	if c.Env == nil {
		c.Env = os.Environ()
	}
	r, err := run.Exec{}.Run(t.Context(), c)
	if err != nil {
		t.Fatalf("%v\n%s", err, r.Stderr)
	}
	return string(r.Stdout)
}

// parts are segments that are made once for all guests of a run.
var parts struct {
	sync.Mutex
	made map[string][]byte
}

// part returns a compressed segment, made by fill at the first call.
func part(t testing.TB, name string, fill func(w *cpio.Writer) error) []byte {
	t.Helper()
	parts.Lock()
	defer parts.Unlock()
	if b := parts.made[name]; b != nil {
		return b
	}
	b := makePart(t, fill)
	if parts.made == nil {
		parts.made = map[string][]byte{}
	}
	parts.made[name] = b
	return b
}

func makePart(t testing.TB, fill func(w *cpio.Writer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	img := cpio.NewImage(&b, 0)
	if _, err := img.Segment(cpio.Zstd, cpio.Fast, fill); err != nil {
		t.Fatal(err)
	}
	if err := img.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func basePart(t testing.TB) []byte {
	t.Helper()
	b, err := base.Segment()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func modulesPart(t testing.TB, set *kmod.Set) []byte {
	return part(t, "modules", func(w *cpio.Writer) error {
		c, err := set.Closure(nil, modules, nil)
		if err != nil {
			return err
		}
		dir := "usr/lib/modules/" + filepath.Base(set.Dir) + "/"
		for _, m := range c.Modules {
			b, err := set.ReadFile(m)
			if err == nil {
				err = w.File(dir+plain(m.Path), 0o644, b)
			}
			if err != nil {
				return err
			}
		}
		for n, b := range set.Index(c.Modules, plain) {
			if err := w.File(dir+n, 0o644, b); err != nil {
				return err
			}
		}
		return nil
	})
}

// plain is the name of a module without its compression.
func plain(p string) string { return regexp.MustCompile(`\.(gz|xz|zst)$`).ReplaceAllString(p, "") }

// guestPart is the program that stands in for the lifeboat command.
func guestPart(t testing.TB) []byte {
	return part(t, "guest", func(w *cpio.Writer) error {
		bin := filepath.Join(t.TempDir(), "guest")
		host(t, run.Cmd{Path: "go", Args: []string{"build", "-trimpath", "-ldflags", "-s -w", "-o", bin, "./guest"}})
		return w.Copy("usr/bin/lifeboat", bin)
	})
}

var lddLine = regexp.MustCompile(`(?m)^\s+(?:\S+ => )?(/\S+) \(0x`)

// toolsPart packs the tools with their libraries as the loader names them.
func toolsPart(t testing.TB) []byte {
	return part(t, "tools", func(w *cpio.Writer) error {
		missing := []string{}
		files := map[string]string{} // in the image → here
		for pkg, list := range tools {
			for name := range strings.FieldsSeq(list) {
				p, err := run.LookPath(name)
				if err != nil {
					missing = append(missing, name+" ("+pkg+")")
					continue
				}
				files[p] = p
			}
		}
		if len(missing) > 0 {
			slices.Sort(missing)
			return fmt.Errorf("programs are missing: %s: run tests/setup.sh", strings.Join(missing, ", "))
		}
		for _, p := range slices.Collect(keysOf(files)) {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			if !bytes.HasPrefix(b, []byte("\x7fELF")) {
				continue // a script: xfs_info
			}
			for _, m := range lddLine.FindAllStringSubmatch(host(t, run.Cmd{Path: "ldd", Args: []string{p}, OK: []int{0, 1}}), -1) {
				files[m[1]] = m[1]
			}
		}
		// The C.UTF-8 locale of run.DefaultEnv is a folder of files.
		locale, _ := filepath.Glob("/usr/lib/locale/C.utf8/*")
		messages, _ := filepath.Glob("/usr/lib/locale/C.utf8/*/*")
		for _, p := range slices.Concat(opened, locale, messages) {
			if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
				files[p] = p
			}
		}
		return errors.Join(addFiles(w, files), w.Symlink("usr/bin/awk", "mawk"), w.Symlink("usr/bin/sh", "dash"))
	})
}

func keysOf(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// addFiles copies files under their names, /bin and /lib going below /usr.
// Several names of one file are links, so that lvm is packed once.
func addFiles(w *cpio.Writer, files map[string]string) error {
	names := slices.Sorted(keysOf(files))
	packed := map[string]string{} // real file → first name
	seen := map[string]bool{}
	for _, n := range names {
		in := n
		if !strings.HasPrefix(in, "/usr/") {
			in = "/usr" + in
		}
		if seen[in] {
			continue
		}
		seen[in] = true
		real, err := filepath.EvalSymlinks(files[n])
		if err != nil {
			return err
		}
		if first, ok := packed[real]; ok {
			if err := w.Symlink(in, first); err != nil {
				return err
			}
			continue
		}
		packed[real] = in
		if err := w.Copy(in, real); err != nil {
			return err
		}
	}
	return nil
}

// image joins segments into a file.
func image(t testing.TB, segments ...[]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "initrd.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	img := cpio.NewImage(f, 0)
	for _, s := range segments {
		if _, err := img.Raw(bytes.NewReader(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(img.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}
