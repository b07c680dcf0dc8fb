package probe

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/blockdev/recorded"
	"lifeboat/internal/disklabel"
	"lifeboat/internal/hostconf/fstab"
	"lifeboat/internal/run"
	"lifeboat/manifest"
)

const mib = 1 << 20

// bench is a recorded machine whose device nodes are image files, filled by
// the standard tools.
type bench struct {
	t    *testing.T
	opt  Options
	root string
	dev  string
}

func newBench(t *testing.T, table string, more ...string) *bench {
	t.Helper()
	dir := recorded.Lay(t, "../blockdev/testdata/mixed.sysfs", more...)
	b := &bench{t: t, root: filepath.Join(dir, "host"), dev: filepath.Join(dir, "dev")}
	b.opt = Options{Root: b.root, Run: run.Exec{}, System: blockdev.System{Sys: filepath.Join(dir, "sys"), Proc: filepath.Join(dir, "proc"), Dev: b.dev}}
	v, err := b.opt.System.Scan()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range v.Devices {
		b.image(d.Name, d.Bytes)
	}
	b.file("etc/fstab", table)
	old := readTable
	t.Cleanup(func() { readTable = old })
	readTable = func(node string) (*disklabel.Label, error) {
		f, err := os.Open(node)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		d := v.Device(filepath.Base(node))
		return disklabel.Read(f, d.Bytes, d.Logical)
	}
	return b
}

func (b *bench) image(name string, size int64) {
	b.t.Helper()
	f, err := os.Create(filepath.Join(b.dev, name))
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) file(name, text string) {
	b.t.Helper()
	at := filepath.Join(b.root, name)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// do runs a tool on a device's image.
func (b *bench) do(name, stdin string, argv ...string) {
	b.t.Helper()
	cmd := exec.Command(argv[0], append(argv[1:], filepath.Join(b.dev, name))...)
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL=C.UTF-8")
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("%v on %s: %v: %s", argv, name, err, out)
	}
}

func (b *bench) graph() *Graph {
	b.t.Helper()
	r, err := Read(context.Background(), b.opt)
	if err != nil {
		b.t.Fatal(err)
	}
	g, err := r.Graph(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	m := &mounter{r: r, g: g, fstab: fstab.Parse(read(b.t, b.root+"/etc/fstab")).Entries(), pseudo: r.pseudoTypes()}
	if err := m.all(context.Background()); err != nil {
		b.t.Fatal(err)
	}
	if faults := g.Storage.Check(); len(faults) > 0 {
		b.t.Errorf("the graph is not valid: %s", strings.Join(faults, "; "))
	}
	return g
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// lines is a graph for comparing: one line a node.
func lines(g *Graph) string {
	var out []string
	for _, n := range g.Storage.Nodes {
		var on []string
		for _, e := range n.On {
			on = append(on, string(e.Node))
		}
		l := fmt.Sprintf("%s %s %d [%s]", n.Kind, n.ID, n.Bytes/mib, strings.Join(on, " "))
		if n.Unknown != nil {
			l += " " + n.Unknown.What + ": " + n.Unknown.Reason
		}
		out = append(out, l)
	}
	for _, m := range g.Storage.Mounts {
		out = append(out, fmt.Sprintf("mount %s %s %s %s fstab=%v live=%v bind=%q", m.Path, m.Node, m.Type, m.Backup, m.InFstab, m.Live, m.Bind))
	}
	for _, l := range g.LeftOut {
		out = append(out, fmt.Sprintf("left out %s %s %s", l.Path, l.Type, l.Reason))
	}
	for _, u := range g.Uncovered {
		out = append(out, fmt.Sprintf("uncovered %s %s: %s", u.Path, u.Node, u.Reason))
	}
	return strings.Join(out, "\n")
}

const (
	gptN = "label: gpt\nlabel-id: 11111111-0000-4000-8000-000000000001\n" +
		"1: start=2048,size=8192,type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B,uuid=11111111-0000-4000-8000-000000000011,name=\"EFI System Partition\"\n" +
		"3: start=20480,size=40960,uuid=11111111-0000-4000-8000-000000000013\n4: start=10240,size=8192,uuid=11111111-0000-4000-8000-000000000014\n" +
		"6: start=65536,size=20480,uuid=11111111-0000-4000-8000-000000000016\n"
	gptVda = "label: gpt\nlabel-id: 22222222-0000-4000-8000-000000000001\n1: size=16M,uuid=22222222-0000-4000-8000-000000000011\n" +
		"2: size=40M,uuid=22222222-0000-4000-8000-000000000012\n3: size=+,uuid=22222222-0000-4000-8000-000000000013\n"
)

// Labels of the two physical volumes of the recorded machine.
const (
	pvLabel2 = "4c4142454c4f4e45010000000000000014aa8a51200000004c564d322030303136554a4f43514c58717a723159314c39553332667947455862564c48684c4c3500008002000000000000100000000000000000000000000000000000000000000000000000000000001000000000000000f00f0000000000000000000000000000000000000000000200000001"
	pvLabel3 = "4c4142454c4f4e450100000000000000b6d9d466200000004c564d322030303157744f3348775335714b6e72336b42724f434d42436f436558517566654475730000600c000000000000100000000000000000000000000000000000000000000000000000000000001000000000000000f00f0000000000000000000000000000000000000000000200000001"
)

func fsUUID(n int) string { return fmt.Sprintf("aaaaaaaa-0000-4000-8000-%012d", n) }

// TestGraph reads a machine with holes in its table, a member of an array, an
// encrypted disk, a btrfs over two disks, a disk whose signatures contradict
// each other, and a blank nameless disk (C03, C07, C13, C50, C51).
func TestGraph(t *testing.T) {
	b := newBench(t, "UUID="+fsUUID(1)+" / xfs defaults 0 1\n"+
		"PARTUUID=11111111-0000-4000-8000-000000000011 /boot/efi vfat umask=0077 0 1\n"+
		"UUID="+fsUUID(2)+" none swap sw 0 0\n"+
		"/srv/a /b none bind 0 0\nLABEL=nowhere /gone ext4 nofail 0 0\n//nas/x /nas cifs ro 0 0\n/dev/sr0 /cd iso9660 noauto 0 0\n"+
		"/dev/disk/by-uuid/"+fsUUID(3)+" /arch ext4 noauto 0 0\n",
		"p self/mountinfo 40 1 259:4 / / rw,relatime - xfs /dev/nvme0n1p4 rw",
		"p self/mountinfo 41 40 0:19 / /proc rw - proc proc rw",
		"p self/mountinfo 42 40 259:4 /srv/a /b rw - xfs /dev/nvme0n1p4 rw",
		"p self/mountinfo 43 40 259:4 /var/tmp /run/private rw - xfs /dev/nvme0n1p4 rw",
		"p self/mountinfo 44 40 0:50 / /var/lib/docker/overlay2/x rw - overlay overlay rw",
		"p self/mountinfo 45 40 0:51 / /nas2 rw - nfs4 nas:/x rw",
		"p self/mountinfo 46 40 0:52 / /tank rw - zfs tank/data rw",
		"p self/mountinfo 47 40 0:53 / /home/u/ssh rw - fuse.sshfs u@h: rw",
		"p self/mountinfo 48 40 8:64 / /media/stick rw - vfat /dev/sde rw",
		"p self/mountinfo 49 40 0:54 /@data /data rw - btrfs /dev/sda rw",
		"p filesystems nodev\tnfs4", "p filesystems nodev\toverlay", "p filesystems nodev\tzfs",
	)
	b.do("nvme0n1", gptN, "sfdisk", "-q")
	b.do("nvme0n1p1", "", "mkfs.vfat", "-i", "1234ABCD")
	b.image("nvme0n1p4", 4*mib)
	b.do("nvme0n1p4", "", "mke2fs", "-q", "-t", "ext4", "-U", fsUUID(1)) // too small for xfs; the type counts as read
	b.do("sda", "", "mkfs.btrfs", "-q", "-f", "-U", fsUUID(4))
	b.do("sdb", "", "mke2fs", "-q", "-t", "ext2", "-U", fsUUID(5))
	b.do("sdc", "", "mkswap", "-q", "-U", fsUUID(2))
	b.do("sdd", "passphrase", "cryptsetup", "luksFormat", "-q", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--uuid", fsUUID(6), "--key-file", "-")
	b.do("sde", "", "mkfs.vfat", "-I", "-i", "5EED0001")
	b.firstSector("sde", "sdb") // ext2 and FAT at once
	b.do("mmcblk0", "", "mke2fs", "-q", "-t", "ext4", "-U", fsUUID(3))
	b.do("vdc", "", "mke2fs", "-q", "-t", "ext4", "-U", fsUUID(3)) // a copy of it
	got := lines(b.graph())
	golden(t, "graph.txt", got)
}

// firstSector copies the first sector of one image over another's.
func (b *bench) firstSector(from, to string) {
	b.t.Helper()
	f, err := os.OpenFile(filepath.Join(b.dev, to), os.O_WRONLY, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	src, err := os.Open(filepath.Join(b.dev, from))
	if err != nil {
		b.t.Fatal(err)
	}
	defer src.Close()
	if _, err := io.CopyN(f, src, 512); err != nil {
		b.t.Fatal(err)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got+"\n" != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// pvLabel is the sector that makes a device an LVM physical volume.
func (b *bench) pvLabel(name, hexText string) {
	b.t.Helper()
	data, err := hex.DecodeString(hexText)
	if err != nil {
		b.t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(b.dev, name), os.O_WRONLY, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, 512); err != nil {
		b.t.Fatal(err)
	}
}

// recordedLVM answers for lvm with what it said of the recorded machine, and
// starts every other program.
type recordedLVM struct {
	run.Exec
	t *testing.T
}

func (r recordedLVM) Run(ctx context.Context, c run.Cmd) (run.Result, error) {
	if c.Path == "lvm" {
		return run.Result{Stdout: read(r.t, "testdata/mixed-lvm.json")}, nil
	}
	return r.Exec.Run(ctx, c)
}

// TestGraphLVM: two physical volumes, a group with a dash in its name, a root
// and swap in use on it, and a loop device in a file of the root.
func TestGraphLVM(t *testing.T) {
	b := newBench(t, "/dev/mapper/vg--data-ro--ot / ext4 defaults 0 1\n/dev/vg-data/swap none swap sw 0 0\n/swapfile none swap sw 0 0\n",
		"p self/mountinfo 40 1 253:0 / / rw,relatime - ext4 /dev/mapper/vg--data-ro--ot rw")
	b.opt.Run = recordedLVM{t: t}
	b.do("vda", gptVda, "sfdisk", "-q")
	b.pvLabel("vda2", pvLabel2)
	b.pvLabel("vda3", pvLabel3)
	b.do("dm-0", "", "mke2fs", "-q", "-t", "ext4", "-U", fsUUID(1))
	b.do("dm-1", "", "mkswap", "-q", "-U", fsUUID(2))
	b.file("swapfile", "")
	if err := os.Truncate(filepath.Join(b.root, "swapfile"), 4*mib); err != nil {
		t.Fatal(err)
	}
	b.do("../host/swapfile", "", "mkswap", "-q", "-U", fsUUID(7))
	g := b.graph()
	golden(t, "lvm.txt", lines(g))
	lv := g.Storage.Node(g.Offers("dm-0"))
	if lv.Kind != manifest.KindLV || lv.LV.Name != "ro-ot" || lv.Seen.Device != "dm-0" || len(lv.LV.Segments) != 1 {
		t.Errorf("%+v", lv)
	}
	for _, a := range lv.LV.Segments[0].Areas {
		if n := g.Storage.Node(a.PV); n == nil || n.Seen.Device != "vda3" {
			t.Errorf("the segment lies on %s", a.PV)
		}
	}
}

// TestNoLVM: without the lvm program nothing is half-filled.
func TestNoLVM(t *testing.T) {
	b := newBench(t, "")
	b.opt.Run = &run.Fake{Answer: func(c run.Cmd) (run.Result, error) {
		if c.Path == "lvm" {
			return run.Result{Code: -1}, errors.New("lvm: program not found")
		}
		return run.Exec{}.Run(context.Background(), c)
	}}
	b.do("vda", gptVda, "sfdisk", "-q")
	b.pvLabel("vda2", pvLabel2)
	g := b.graph()
	n := g.Storage.Node(g.LiesOn("vda2"))
	if n == nil || n.Kind != manifest.KindUnknown || !strings.Contains(n.Unknown.Reason, "program not found") {
		t.Errorf("%+v", n)
	}
}

// TestSuspended: a dm device that holds back reads is never opened.
func TestSuspended(t *testing.T) {
	b := newBench(t, "", "f devices/virtual/block/dm-0/dm/suspended 1")
	b.opt.Run = &run.Fake{Answer: func(c run.Cmd) (run.Result, error) {
		if slices.ContainsFunc(c.Args, func(a string) bool { return strings.HasSuffix(a, "/dm-0") }) {
			t.Errorf("%s was started on it", c.Path)
		}
		return run.Exec{}.Run(context.Background(), c)
	}}
	g := b.graph()
	if n := g.Storage.Node(g.LiesOn("dm-0")); n == nil || n.Kind != manifest.KindUnknown || !strings.Contains(n.Unknown.Reason, "suspended") {
		t.Errorf("%+v", n)
	}
}

// TestVanishes: a device that goes while it is read is named.
func TestVanishes(t *testing.T) {
	b := newBench(t, "")
	b.opt.Run = &run.Fake{Answer: func(c run.Cmd) (run.Result, error) {
		if c.Path == "blkid" && strings.HasSuffix(c.Args[len(c.Args)-1], "/vdc") {
			_ = os.Remove(filepath.Join(b.opt.System.Sys, "class/block/vdc"))
		}
		return run.Exec{}.Run(context.Background(), c)
	}}
	r, err := Read(context.Background(), b.opt)
	if err != nil || r.View.Device("vdc") != nil {
		t.Errorf("a disk that went for good: %v", err)
	}
	n := 0
	b.opt.Run = &run.Fake{Answer: func(c run.Cmd) (run.Result, error) {
		if c.Path == "blkid" && strings.HasSuffix(c.Args[len(c.Args)-1], "/vda") {
			n++ // the disk is another one at every look
			at, _ := filepath.EvalSymlinks(filepath.Join(b.opt.System.Sys, "class/block/vda"))
			_ = os.WriteFile(filepath.Join(at, "size"), []byte(fmt.Sprint(524288+n)), 0o644)
		}
		return run.Exec{}.Run(context.Background(), c)
	}}
	if _, err := Read(context.Background(), b.opt); err == nil || !strings.Contains(err.Error(), "vda changed") {
		t.Errorf("error %v does not name vda", err)
	}
}

// TestStable: the ids do not depend on the order in which disks are named.
func TestStable(t *testing.T) {
	b := newBench(t, "")
	b.do("mmcblk0", "", "mke2fs", "-q", "-t", "ext4", "-U", fsUUID(3))
	b.do("vdc", "", "mke2fs", "-q", "-t", "ext4", "-U", fsUUID(3))
	var first []manifest.ID
	for range 3 {
		var ids []manifest.ID
		for _, n := range b.graph().Storage.Nodes {
			ids = append(ids, n.ID)
		}
		slices.Sort(ids)
		if first == nil {
			first = ids
		}
		if !slices.Equal(first, ids) {
			t.Errorf("%v and %v", first, ids)
		}
	}
}
