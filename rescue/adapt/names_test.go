package adapt

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/internal/chroot"
	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

const (
	rootUUID = "0a3407de-014b-458b-b5c1-848e92a327a3"
	swapUUID = "11111111-2222-4333-8444-555555555555"
	dataUUID = "22222222-2222-4333-8444-555555555555"
	espUUID  = "ABCD-1234"
)

// byNumber is a host whose files name devices as the kernel numbered them.
func byNumber() *manifest.Manifest {
	m := &manifest.Manifest{}
	on := func(id string) []manifest.Edge {
		return []manifest.Edge{{Node: manifest.ID(id), Role: manifest.RoleMember}}
	}
	node := func(n manifest.Node) { m.Storage.Nodes = append(m.Storage.Nodes, n) }
	node(manifest.Node{ID: "disk:1", Kind: manifest.KindDisk, Disk: &manifest.Disk{}, Seen: manifest.Seen{Device: "sda"}})
	node(manifest.Node{ID: "table:1", Kind: manifest.KindTable, On: on("disk:1"), Table: &manifest.Table{Type: "gpt"}})
	part := func(id, dev, guid string) {
		node(manifest.Node{ID: manifest.ID("part:" + id), Kind: manifest.KindPartition, On: on("table:1"), Partition: &manifest.Partition{UUID: guid}, Seen: manifest.Seen{Device: dev}})
	}
	fs := func(part, dev, typ, uuid, path, spec string) {
		node(manifest.Node{ID: manifest.ID("fs:" + uuid), Kind: manifest.KindFS, On: on("part:" + part), FS: &manifest.FS{Type: typ, UUID: uuid}, Seen: manifest.Seen{Device: dev}})
		m.Storage.Mounts = append(m.Storage.Mounts, manifest.Mount{Path: manifest.Bytes(path), Node: manifest.ID("fs:" + uuid), Spec: spec, InFstab: true, Live: true})
	}
	part("1", "sda1", "A0000000-0000-4000-8000-000000000001")
	part("2", "sda2", "A0000000-0000-4000-8000-000000000002")
	part("3", "sda3", "A0000000-0000-4000-8000-000000000003")
	part("4", "sda4", "A0000000-0000-4000-8000-000000000004")
	part("5", "sda5", "A0000000-0000-4000-8000-000000000005")
	fs("1", "sda1", "ext4", rootUUID, "/", "/dev/sda1")
	fs("3", "sda3", "vfat", espUUID, "/boot/efi", "/dev/sda3")
	// The names had changed since the boot: the mount table knows better.
	fs("4", "sda4", "xfs", dataUUID, "/srv", "/dev/sdb1")
	node(manifest.Node{ID: "swap:" + swapUUID, Kind: manifest.KindSwap, On: on("part:2"), Swap: &manifest.Swap{UUID: swapUUID}, Seen: manifest.Seen{Device: "sda2"}})
	m.Boot.RootFS = "fs:" + rootUUID
	m.System.Kernels = []manifest.Kernel{{Version: "6.1", Initramfs: "/boot/initrd.img-6.1"}}
	return m
}

// inTree adapts a tree of files and returns them as they are then.
func inTree(t *testing.T, m *manifest.Manifest, renames []plan.Rename, files map[string]string) (map[string]string, []report.Problem, *Adapter) {
	t.Helper()
	dir := t.TempDir()
	for f, text := range files {
		p := filepath.Join(dir, f)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "boot"), 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := chroot.At(dir, &run.Fake{})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var problems []report.Problem
	a := &Adapter{Root: root, Manifest: m, Plan: &plan.Plan{}, Renames: renames, Sink: report.SinkFunc(func(e report.Event) {
		if e.Problem != nil {
			problems = append(problems, *e.Problem)
		}
	})}
	if err := a.IDs(context.Background(), plan.Step{}); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		out[f] = string(b)
	}
	return out, problems, a
}

// TestKernelNames: what the manifest knows is rewritten, by the mount table
// before the numbers; what it does not know is told.
func TestKernelNames(t *testing.T) {
	files := map[string]string{
		"etc/fstab": "# / was on /dev/sda1 during installation\n/dev/sda1 / ext4 defaults 0 1\n/dev/sda2\tnone swap sw 0 0\n/dev/sda3 /boot/efi vfat umask=0077 0 1\n" +
			"/dev/sdb1 /srv xfs logdev=/dev/sdc1 0 2\n/dev/sdz1 /lost ext4 defaults 0 2\n/dev/sda1 /mnt auto noauto,user 0 0\n/dev/sdy1 /usb auto nofail 0 0\n/dev/sr0 /cd udf noauto 0 0\n",
		"etc/crypttab":                           "cryptswap /dev/sda5 /dev/urandom swap\nold UUID=" + rootUUID + " none\n",
		"etc/default/grub":                       "# root=/dev/sda1\nGRUB_CMDLINE_LINUX=\"root=/dev/sda1 resume=/dev/sda2 splash=/dev/sdx\"\n",
		"boot/grub/grub.cfg":                     "linux /vmlinuz root=/dev/sda1 ro\n",
		"etc/initramfs-tools/conf.d/resume":      "RESUME=/dev/sda2\n",
		"etc/smartd.conf":                        "# /dev/sdq\n/dev/sda -a\n/dev/sdq -a\n",
		"boot/loader/entries/debian.conf":        "options root=UUID=" + rootUUID + "\n",
		"boot/grub/device.map":                   "(hd0) /dev/sda\n",
		"etc/initramfs-tools/conf.d/keep-me.not": "x\n",
	}
	want := map[string]string{
		"etc/fstab": "# / was on /dev/sda1 during installation\nUUID=" + rootUUID + " / ext4 defaults 0 1\nUUID=" + swapUUID + "\tnone swap sw 0 0\nUUID=EEEE-9999 /boot/efi vfat umask=0077 0 1\n" +
			"UUID=" + dataUUID + " /srv xfs logdev=/dev/sdc1 0 2\n/dev/sdz1 /lost ext4 defaults 0 2\n/dev/sda1 /mnt auto noauto,user 0 0\n/dev/sdy1 /usb auto nofail 0 0\n/dev/sr0 /cd udf noauto 0 0\n",
		"etc/crypttab":                      "cryptswap PARTUUID=a0000000-0000-4000-8000-000000000005 /dev/urandom swap\nold UUID=" + rootUUID + " none\n",
		"etc/default/grub":                  "# root=/dev/sda1\nGRUB_CMDLINE_LINUX=\"root=UUID=" + rootUUID + " resume=UUID=" + swapUUID + " splash=/dev/sdx\"\n",
		"boot/grub/grub.cfg":                "linux /vmlinuz root=UUID=" + rootUUID + " ro\n",
		"etc/initramfs-tools/conf.d/resume": "RESUME=UUID=" + swapUUID + "\n",
	}
	got, problems, a := inTree(t, byNumber(), []plan.Rename{{Old: espUUID, New: "EEEE-9999"}}, files)
	for f, text := range files {
		if w := want[f]; w != "" {
			text = w
		}
		if got[f] != text {
			t.Errorf("/%s:\n%s\nwant:\n%s", f, got[f], text)
		}
	}
	if !a.stale {
		t.Error("the initramfs holds a copy of fstab and resume, and is not told to be old")
	}
	var told []string
	for _, p := range problems {
		if p.Code != report.CodeLeftover {
			t.Errorf("%+v", p)
		}
		told = append(told, p.Text+" "+strings.Join(p.Details, ", "))
	}
	all := strings.Join(told, "\n")
	for _, s := range []string{"/etc/fstab names /dev/sdc1, /dev/sdz1:", "/etc/default/grub names /dev/sdx:", "/etc/smartd.conf (/dev/sda)"} {
		if !strings.Contains(all, s) {
			t.Errorf("%q is not told:\n%s", s, all)
		}
	}
	if len(problems) != 3 {
		t.Errorf("%d problems:\n%s", len(problems), all)
	}
}

// TestKernelNamesWithoutInitramfs: such a kernel finds its root by PARTUUID=
// only; fstab is read later, and takes either.
func TestKernelNamesWithoutInitramfs(t *testing.T) {
	m := byNumber()
	m.System.Kernels[0].Initramfs = ""
	got, _, _ := inTree(t, m, nil, map[string]string{"etc/default/grub": "GRUB_CMDLINE_LINUX=\"root=/dev/sda1\"\n", "etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n"})
	if want := "GRUB_CMDLINE_LINUX=\"root=PARTUUID=a0000000-0000-4000-8000-000000000001\"\n"; got["etc/default/grub"] != want {
		t.Errorf("%q", got["etc/default/grub"])
	}
	if want := "UUID=" + rootUUID + " / ext4 defaults 0 1\n"; got["etc/fstab"] != want {
		t.Errorf("%q", got["etc/fstab"])
	}
}
