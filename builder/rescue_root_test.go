//go:build root

package builder

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"lifeboat/internal/handoff"
	"lifeboat/manifest"
)

// hostKernel is an installed kernel with its modules.
func hostKernel(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/boot/vmlinuz-*")
	for _, p := range slices.Backward(found) {
		v := strings.TrimPrefix(filepath.Base(p), "vmlinuz-")
		if _, err := os.Stat("/usr/lib/modules/" + v + "/modules.dep"); err == nil {
			return v
		}
	}
	t.Fatal("no kernel with its modules in /boot: install linux-image-amd64")
	return ""
}

func rescue(t *testing.T, change func(*Options)) *Result {
	t.Helper()
	o := Options{Manifest: alpha(hostKernel(t)), Config: settings(t)}
	if change != nil {
		change(&o)
	}
	r, err := Rescue(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRescueIsReproducible(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	a, b := rescue(t, nil), rescue(t, nil)
	x, y := a.Media[0], b.Media[0]
	one, err := os.ReadFile(x.Path)
	if err != nil {
		t.Fatal(err)
	}
	two, err := os.ReadFile(y.Path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, two) || a.BuildID != b.BuildID {
		t.Errorf("equal input gave different images: %s, %s", a.BuildID, b.BuildID)
	}
	for _, c := range []func(*Options){
		func(o *Options) { o.Config.Recover.Then = "poweroff" },
		func(o *Options) { o.Config.Cmdline = "quiet" },
		func(o *Options) { o.Manifest.Host.Timezone = "UTC" },
		func(o *Options) { o.Config.Modules = "host" },
	} {
		if r := rescue(t, c); r.BuildID == a.BuildID {
			t.Errorf("another image has the same build id %s", r.BuildID)
		}
	}
	st, err := os.Stat(x.Path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the image is not private under umask 0: %v, %v", st.Mode(), err)
	}
	left, err := os.ReadDir(filepath.Dir(x.Path))
	if err != nil || len(left) != 1 {
		t.Errorf("left in the output folder: %v, %v", left, err)
	}
	if len(a.Problems) > 0 {
		for _, p := range a.Problems {
			if p.Severity != "info" {
				t.Errorf("problem: %s", p.Line())
			}
		}
	}
	for _, l := range a.Lines() {
		t.Log(l)
	}
}

// TestSizes holds the bars of the design.
func TestSizes(t *testing.T) {
	for choice, limit := range map[string]int64{"host": 40 << 20, "universal": 64 << 20} {
		r := rescue(t, func(o *Options) { o.Config.Modules = choice })
		if r.Initramfs > limit {
			t.Errorf("%s: the initramfs has %.1f MiB, more than %d", choice, mib(r.Initramfs), limit>>20)
		}
		t.Logf("%s: %.1f MiB in %d ms", choice, mib(r.Initramfs), r.Millis)
	}
}

// extract unpacks an image by GNU cpio and zstd, segment after segment.
func extract(t *testing.T, r *Result) string {
	t.Helper()
	i, err := OpenImage(r.Media[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	dir := t.TempDir()
	for n, s := range i.segs {
		c := exec.Command("sh", "-c", map[string]string{"zstd": "zstd -dc", "gzip": "gzip -dc", "none": "cat"}[string(s.Codec)]+" | cpio -idum --quiet")
		c.Dir, c.Stdin = dir, io.NewSectionReader(i.initrd, s.Offset, s.Stored)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("segment %d: %v\n%s", n, err, out)
		}
	}
	return dir
}

func run1(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

// TestImageJudged lets other tools look at what the kernel would unpack:
// GNU cpio and zstd unpack it, depmod judges the modules, programs are started
// in it by chroot.
func TestImageJudged(t *testing.T) {
	v := hostKernel(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := rescue(t, func(o *Options) { o.Config.Backup.TokenFile = token })
	dir := extract(t, r)
	for _, c := range [][]string{{"/bin/bash", "-c", "echo $BASH_VERSION"}, {"/sbin/mke2fs", "-V"}, {"/sbin/mkfs.xfs", "-V"}, {"/usr/bin/lsblk", "--version"}, {"/bin/sh", "-c", "true"}} {
		run1(t, append([]string{"chroot", dir}, c...)...)
	}
	for p, want := range map[string]string{"sbin/modprobe": "/init", "sbin/reboot": "/init", "bin": "usr/bin"} {
		if got, err := filepath.EvalSymlinks(filepath.Join(dir, p)); err != nil || got != filepath.Join(dir, want) {
			t.Errorf("%s leads to %s, %v", p, got, err)
		}
	}
	for _, p := range []string{"etc/lifeboat/order.json", "etc/lifeboat/manifest.json", "etc/lifeboat/backup-token"} {
		if st, err := os.Stat(filepath.Join(dir, p)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", p, st, err)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, "dev/console")); err != nil || st.Sys().(*syscall.Stat_t).Rdev != 0x501 {
		t.Errorf("dev/console: %v", err)
	}
	judgeOrder(t, dir, r)
	judgeModules(t, dir, v)
	if len(r.Secrets) != 1 || r.Secrets[0].Path != "/etc/lifeboat/backup-token" {
		t.Errorf("secrets: %v", r.Secrets)
	}
	// Nothing of the host that must stay there.
	for _, p := range []string{"etc/shadow", "etc/ssh", "etc/fstab.d", "etc/crypttab", "root/.ssh"} {
		if _, err := os.Lstat(filepath.Join(dir, p)); err == nil {
			t.Errorf("the image holds %s", p)
		}
	}
}

func judgeOrder(t *testing.T, dir string, r *Result) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, handoff.OrderInImage))
	if err != nil {
		t.Fatal(err)
	}
	o, err := handoff.Decode(b)
	if err != nil || o.BuildID != r.BuildID || o.ID != r.BuildID || o.Recover != "menu" || o.Reason != "" || o.Backup.TokenFile != backupTokenInImage {
		t.Errorf("order %+v, %v", o, err)
	}
	if b, err = os.ReadFile(filepath.Join(dir, handoff.ManifestPath)); err != nil || !json.Valid(b) {
		t.Fatal(err)
	}
	if m, err := manifest.Decode(b); err != nil || m.Host.Name != "alpha" {
		t.Errorf("manifest: %v", err)
	}
}

// judgeModules lets depmod make the indexes of the packed modules, and
// compares.
func judgeModules(t *testing.T, dir, v string) {
	t.Helper()
	mods := filepath.Join(dir, "usr/lib/modules", v)
	sorted := func(text string) string {
		l := strings.Split(strings.TrimSpace(text), "\n")
		slices.Sort(l)
		return strings.Join(slices.Compact(l), "\n")
	}
	ours, err := os.ReadFile(filepath.Join(mods, "modules.dep"))
	if err != nil {
		t.Fatal(err)
	}
	alias, err := os.ReadFile(filepath.Join(mods, "modules.alias"))
	if err != nil {
		t.Fatal(err)
	}
	// modules.order decides between equals; it is not packed.
	run1(t, "depmod", "-b", dir, v)
	theirs, err := os.ReadFile(filepath.Join(mods, "modules.dep"))
	if err != nil {
		t.Fatal(err)
	}
	depSet := func(text []byte) string {
		var out []string
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			slices.Sort(f[1:])
			out = append(out, strings.Join(f, " "))
		}
		return sorted(strings.Join(out, "\n"))
	}
	if a, b := depSet(ours), depSet(theirs); a != b {
		t.Errorf("modules.dep differs from depmod's:\n%s", firstDifference(a, b))
	}
	again, err := os.ReadFile(filepath.Join(mods, "modules.alias"))
	if err != nil {
		t.Fatal(err)
	}
	strip := func(b []byte) string {
		return sorted(strings.TrimPrefix(string(b), "# Aliases extracted from modules themselves.\n"))
	}
	if a, b := strip(alias), strip(again); a != b {
		t.Errorf("modules.alias differs from depmod's:\n%s", firstDifference(a, b))
	}
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("ours   %s\ntheirs %s", x[i], y[i])
		}
	}
	return fmt.Sprintf("%d and %d lines", len(x), len(y))
}

// TestKernelWithoutZstd: the whole image, base and all, is packed with what
// the kernel says it unpacks.
func TestKernelWithoutZstd(t *testing.T) {
	v := hostKernel(t)
	root := t.TempDir()
	upper, work, merged := filepath.Join(root, "upper"), filepath.Join(root, "work"), filepath.Join(root, "merged")
	// The upper folder of an overlay may not lie on an overlay.
	if err := syscall.Mount("upper", root, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(root, syscall.MNT_DETACH) })
	for _, d := range []string{filepath.Join(upper, "boot"), work, merged} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(upper, "boot/config-"+v), []byte("CONFIG_RD_GZIP=y\n# CONFIG_RD_ZSTD is not set\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("overlay", merged, "overlay", 0, "lowerdir=/,upperdir="+upper+",workdir="+work); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(merged, syscall.MNT_DETACH) })
	r := rescue(t, func(o *Options) { o.Root, o.Config.Modules = merged, "host" })
	if r.Codec != "gzip" {
		t.Fatalf("packed with %s", r.Codec)
	}
	i, err := OpenImage(r.Media[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	for _, s := range i.segs {
		if s.Codec != "gzip" {
			t.Errorf("a segment is packed with %s", s.Codec)
		}
	}
	dir := extract(t, r)
	run1(t, "chroot", dir, "/bin/bash", "-c", "test -x /init && test -x /usr/bin/lifeboat && test -e /sbin/modprobe")
}

func TestInspectMedium(t *testing.T) {
	r := rescue(t, func(o *Options) { o.Config.Modules = "host" })
	i, err := OpenImage(r.Media[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if err := i.Verify(context.Background()); err != nil {
		t.Error(err)
	}
	s, err := i.Summary()
	if err != nil || s.Kind != "iso" || s.BuildID != r.BuildID || s.Kernel != r.Kernel || s.Host != "alpha" {
		t.Errorf("summary %+v, %v", s, err)
	}
	if b, err := i.Cat("medium:/lifeboat/build-id"); err != nil || strings.TrimSpace(string(b)) != r.BuildID {
		t.Errorf("build id %q, %v", b, err)
	}
	f, err := os.OpenFile(r.Media[0].Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("damage"), r.Media[0].Bytes/2); err != nil {
		t.Fatal(err)
	}
	bad, err := OpenImage(r.Media[0].Path)
	if err == nil {
		defer bad.Close()
		err = bad.Verify(context.Background())
	}
	if err == nil {
		t.Error("a damaged image was found whole")
	}
}
