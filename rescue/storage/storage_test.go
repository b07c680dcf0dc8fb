package storage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

const (
	pvA = "fWTRTH-M0kk-iSVY-4ZiE-6aD5-cGvC-bQJMu8"
	vgA = "kdW6tw-UXOg-VntI-f8f0-jNDL-wdDX-cvIiPN"
	lvA = "Rqjvim-QsZu-LJpQ-N9gF-nqm6-Vnao-UKN13O"
)

func on(ids ...manifest.ID) (out []manifest.Edge) {
	for _, id := range ids {
		out = append(out, manifest.Edge{Node: id, Role: manifest.RoleMember})
	}
	return out
}

// graph is a disk with an ESP, a swap partition, a volume group with one
// volume, and XFS on it.
func graph() manifest.Storage {
	const mib = 1 << 20
	part := func(n int, start, size int64, kind string) manifest.Node {
		id := manifest.ID("part:" + string(rune('0'+n)))
		return manifest.Node{ID: id, Kind: manifest.KindPartition, On: on("table:1"), Bytes: size, Partition: &manifest.Partition{
			Number: n, Start: start, Size: size, Type: kind, UUID: "11111111-2222-4333-8444-55555555550" + string(rune('0'+n)), Name: "p" + string(rune('0'+n))}}
	}
	return manifest.Storage{
		Nodes: []manifest.Node{
			{ID: "disk:1", Kind: manifest.KindDisk, Bytes: 2048 * mib, Disk: &manifest.Disk{Bytes: 2048 * mib, Logical: 512, Physical: 512}},
			{ID: "table:1", Kind: manifest.KindTable, On: on("disk:1"), Bytes: 2048 * mib, Table: &manifest.Table{Type: "gpt", UUID: "3F0B5C1D-9A3E-4C5B-8F6A-112233445566"}},
			part(1, 1*mib, 64*mib, manifest.TypeESP), part(3, 65*mib, 64*mib, manifest.TypeSwap), part(5, 129*mib, 1024*mib, manifest.TypeLVM),
			{ID: "pv:" + pvA, Kind: manifest.KindPV, On: on("part:5"), Bytes: 1020 * mib, PV: &manifest.PV{UUID: pvA, VG: "vg-a", PEStart: mib, Extents: 255, DevSize: 1024 * mib, MDACopies: 1}},
			{ID: "vg:" + vgA, Kind: manifest.KindVG, On: on("pv:" + pvA), Bytes: 1020 * mib, VG: &manifest.VG{Name: "vg-a", UUID: vgA, ExtentSize: 4 * mib, Extents: 255}},
			{ID: "lv:" + lvA, Kind: manifest.KindLV, On: on("vg:" + vgA), Bytes: 800 * mib, LV: &manifest.LV{Name: "root", UUID: lvA, Type: "linear", ReadOnly: true,
				Segments: []manifest.Segment{{Type: "linear", Extents: 200, Stripes: 1, Areas: []manifest.Area{{PV: "pv:" + pvA, Start: 10}}}}}},
			{ID: "fs:esp", Kind: manifest.KindFS, On: on("part:1"), Bytes: 64 * mib, FS: &manifest.FS{Type: "vfat", UUID: "1234-ABCD", Label: "EFI",
				VFAT: &manifest.VFAT{Bits: 32, SectorSize: 512, ClusterSize: 512, Reserved: 32, FATs: 2, Media: 0xf8}}},
			{ID: "swap:1", Kind: manifest.KindSwap, On: on("part:3"), Bytes: 64 * mib, Swap: &manifest.Swap{UUID: "5c3c6b2e-7a52-4f0e-9b5c-000000000002", Label: "SWAP", PageSize: 4096}},
			{ID: "fs:root", Kind: manifest.KindFS, On: on("lv:" + lvA), Bytes: 800 * mib, FS: &manifest.FS{Type: "xfs", UUID: "5c3c6b2e-7a52-4f0e-9b5c-000000000003", Label: "root", XFS: el7()}},
			{ID: "swapfile:1", Kind: manifest.KindSwapFile, On: on("fs:root"), Bytes: 1 << 20, SwapFile: &manifest.SwapFile{Path: "/srv/swap", Inode: manifest.Inode{Mode: "0600"},
				Swap: manifest.Swap{UUID: "5c3c6b2e-7a52-4f0e-9b5c-000000000004", PageSize: 4096}}},
		},
		Mounts: []manifest.Mount{
			{Path: "/", Node: "fs:root", Type: "xfs", Backup: manifest.ScopeFull}, {Path: "/boot/efi x", Node: "fs:esp", Type: "vfat", Backup: manifest.ScopeFull},
		},
	}
}

func el7() *manifest.XFS {
	return &manifest.XFS{
		Features: map[string]bool{"crc": true, "ci": false, "attr2": true, "projid32bit": true, "lazy-count": true, "ftype": true, "finobt": true,
			"rmapbt": false, "reflink": false, "inobtcount": false, "sparse": true, "bigtime": false, "nrext64": false},
		BlockSize: 4096, SectorSize: 512, InodeSize: 512, MaxPct: 25, AGCount: 4, AGBlocks: 51200, Blocks: 204800, DirBlock: 4096, DirVersion: 2,
		LogBlocks: 16384, LogSector: 512, LogVersion: 2,
	}
}

func planOf(g manifest.Storage) *plan.Plan {
	p := &plan.Plan{ID: "plan-1", Host: "host", Target: g}
	add := func(v plan.Verb, stage plan.Stage, node manifest.ID, arg string) {
		p.Steps = append(p.Steps, plan.Step{ID: string(v) + "/" + string(node), Verb: v, Stage: stage, Node: node, Arg: arg})
	}
	add(plan.VerbRelease, plan.StageRelease, "disk:1", "")
	add(plan.VerbWipe, plan.StageStorage, "disk:1", "")
	for _, n := range g.Nodes {
		if v, ok := map[manifest.Kind]plan.Verb{manifest.KindTable: plan.VerbTable, manifest.KindPV: plan.VerbPV, manifest.KindVG: plan.VerbVG, manifest.KindLV: plan.VerbLV,
			manifest.KindFS: plan.VerbMkfs, manifest.KindSwap: plan.VerbMkswap}[n.Kind]; ok {
			add(v, plan.StageStorage, n.ID, "")
		}
	}
	for _, m := range g.Mounts {
		add(plan.VerbMount, plan.StageMount, m.Node, m.Path.String())
	}
	add(plan.VerbSwapFile, plan.StageRestore, "swapfile:1", "")
	add(plan.VerbUnmount, plan.StageFinish, "", "")
	return p
}

// fake is a Storage that stands in the rescue system and whose devices have
// fixed names.
func fake(t *testing.T, r run.Runner) *Storage {
	t.Helper()
	s, err := New(Options{Run: r, Plan: planOf(graph()), Root: filepath.Join(t.TempDir(), "target")})
	if err != nil {
		t.Fatal(err)
	}
	s.underInit = func() error { return nil }
	s.claimed = true
	s.clean = func(string) error { return nil }
	s.device = func(_ context.Context, id manifest.ID) (string, error) { return "/dev/of-" + string(id[:2]), nil }
	return s
}

func none(int64, int64) {}

// Outside the rescue system no act does anything at all: rule 2.
func TestNotUnderOwnInit(t *testing.T) {
	f := &run.Fake{}
	s, err := New(Options{Run: f, Plan: planOf(graph()), Root: t.TempDir() + "/target"})
	if err != nil {
		t.Fatal(err)
	}
	acts := s.Acts()
	for _, st := range s.Plan.Steps {
		err := acts[st.Verb](context.Background(), st, none)
		if report.ProblemOf(err).Code != report.CodeNotPID1 || report.ExitOf(err) != report.ExitRefused {
			t.Errorf("%s: %v", st.Verb, err)
		}
	}
	for name, err := range map[string]error{"Claim": s.Claim(context.Background()), "Open": s.Open(context.Background())} {
		if report.ProblemOf(err).Code != report.CodeNotPID1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(f.Calls()) > 0 {
		t.Errorf("programs were started: %q", f.Calls())
	}
	if _, err := os.Stat(s.Root); !os.IsNotExist(err) {
		t.Errorf("the root of the target: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	p := planOf(graph())
	for _, root := range []string{"/", "//", "/x/..", "relative", ""} {
		if _, err := New(Options{Plan: p, Root: root}); err == nil {
			t.Errorf("root %q is taken", root)
		}
	}
	p.Refusals = []report.Problem{{Code: report.CodeDiskMissing}}
	if _, err := New(Options{Plan: p, Root: "/mnt/target"}); err == nil {
		t.Error("a plan with a refusal is taken")
	}
}

// Each verb calls its tool with the node's parameters; --config is cut.
func TestArgv(t *testing.T) {
	f := &run.Fake{Answer: func(c run.Cmd) (run.Result, error) {
		if len(c.Args) == 0 {
			return run.Result{Code: 1, Stderr: []byte("size= agsize= finobt= rmapbt= reflink= inobtcount= bigtime= sparse= uuid=")}, nil
		}
		return run.Result{}, nil
	}}
	s := fake(t, f)
	for _, st := range s.Plan.Steps {
		switch st.Verb {
		case plan.VerbPV, plan.VerbVG, plan.VerbLV, plan.VerbMkfs, plan.VerbMkswap:
			// Reading back fails: the fake answers nothing. Making was asked.
			_ = s.Acts()[st.Verb](context.Background(), st, none)
		}
	}
	want := []string{
		"lvm pvcreate --yes --zero y --uuid " + pvA + " --restorefile FILE /dev/of-pv",
		"lvm vgcfgrestore --file FILE vg-a",
		"lvm fullreport",
		"lvm lvchange --activate y --ignoreactivationskip --yes vg-a/root",
		"mkfs.vfat -I -a -F 32 -S 512 -s 1 -R 32 -f 2 -h 0 -i 1234ABCD -M 0xf8 -n EFI /dev/of-fs 65536",
		"mkswap --force --uuid 5c3c6b2e-7a52-4f0e-9b5c-000000000002 --label SWAP /dev/of-sw",
		"mkfs.xfs",
		"mkfs.xfs -q -f -K -b size=4096 -s size=512 -m crc=1,finobt=1,rmapbt=0,reflink=0,inobtcount=0,bigtime=0,uuid=5c3c6b2e-7a52-4f0e-9b5c-000000000003 " +
			"-d size=838860800,agsize=209715200,noalign -i size=512,maxpct=25,sparse=1 -n size=4096,version=2 -l version=2,size=67108864,sectsize=512 -L root /dev/of-fs",
		"xfs_db -r -c 'sb 0' -c print /dev/of-fs",
	}
	got := f.Calls()
	for i, c := range got {
		words := []string{}
		for _, part := range strings.Split(c, "'") {
			if strings.HasPrefix(part, "config{") {
				part = ""
			}
			words = append(words, part)
		}
		c = strings.ReplaceAll(strings.Join(words, "'"), "--config '' ", "")
		for _, w := range strings.Fields(c) {
			if strings.Contains(w, "lifeboat-vg-") {
				c = strings.Replace(c, w, "FILE", 1)
			}
		}
		if strings.HasPrefix(c, "lvm fullreport") {
			c = "lvm fullreport"
		}
		if i >= len(want) || c != want[i] {
			t.Errorf("call %d:\n got %s\nwant %v", i, c, want[min(i, len(want)-1)])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d calls, not %d", len(got), len(want))
	}
}

// A tool that fails is the step's failure, with the node that it was for.
func TestToolFails(t *testing.T) {
	f := &run.Fake{Answer: func(c run.Cmd) (run.Result, error) {
		return run.Result{Code: 5}, &run.Error{Argv: []string{c.Path}, Code: 5, Stderr: "no good", Cause: errors.New("exit status 5")}
	}}
	s := fake(t, f)
	for _, st := range s.Plan.Steps {
		switch st.Verb {
		case plan.VerbPV, plan.VerbVG, plan.VerbLV, plan.VerbMkfs, plan.VerbMkswap:
			if err := s.Acts()[st.Verb](context.Background(), st, none); err == nil || !strings.Contains(err.Error(), "no good") {
				t.Errorf("%s: %v", st.ID, err)
			}
		}
	}
}

func TestCompareFS(t *testing.T) {
	was := &manifest.FS{Type: "ext4", UUID: "a", Label: "l", Ext: &manifest.Ext{Features: []string{"extent", "64bit"}, BlockSize: 4096, Blocks: 100, Inodes: 10}}
	is := &manifest.FS{Type: "ext4", UUID: "A", Label: "l", Ext: &manifest.Ext{Features: []string{"64bit", "extent"}, BlockSize: 4096, Blocks: 99, Inodes: 10}}
	d := compareFS(was, is)
	if len(d.renames) > 0 || len(d.format) > 0 || len(d.placing) != 1 || d.placing[0] != "blocks is 99, not 100" {
		t.Errorf("%+v", d)
	}
	is.Ext.Features, is.UUID, is.Label = []string{"extent", "orphan_file"}, "b", "m"
	d = compareFS(was, is)
	if len(d.format) != 1 || !strings.Contains(d.format[0], "lost: 64bit; gained: orphan_file") || len(d.renames) != 2 ||
		d.renames[0] != (plan.Rename{Kind: "fs-uuid", Old: "a", New: "b"}) {
		t.Errorf("%+v", d)
	}
	a, b := &manifest.FS{Type: "xfs", XFS: el7()}, &manifest.FS{Type: "xfs", XFS: el7()}
	b.XFS.Features["bigtime"], b.XFS.Features["parent"], b.XFS.InodeSize = true, true, 256
	if d = compareFS(a, b); len(d.format) != 3 {
		t.Errorf("%+v", d)
	}
	if d = compareFS(a, was); len(d.format) != 1 {
		t.Errorf("%+v", d)
	}
}
