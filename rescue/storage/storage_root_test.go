//go:build root

package storage

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/internal/run"
	"lifeboat/internal/tools/ext"
	"lifeboat/internal/tools/xfs"
	"lifeboat/manifest"
	"lifeboat/plan"
)

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func loop(t *testing.T, bytes int64) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, bytes); err != nil {
		t.Fatal(err)
	}
	dev := strings.TrimSpace(tool(t, "losetup", "--find", "--show", file))
	t.Cleanup(func() { tool(t, "losetup", "-d", dev) })
	return dev
}

// onLoops is a Storage whose filesystems lie on loop devices that the test
// made: ext4 as root, XFS on /srv/a b, swap.
func onLoops(t *testing.T) (*Storage, map[manifest.ID]string) {
	t.Helper()
	ctx := context.Background()
	devs := map[manifest.ID]string{"fs:root": loop(t, 300<<20), "fs:srv": loop(t, 400<<20), "swap:1": loop(t, 16<<20)}
	// The originals are made by the standard tools on the same devices.
	tool(t, "mke2fs", "-q", "-t", "ext4", "-L", "root", "-N", "5000", "-m", "0.5", devs["fs:root"])
	tool(t, "mkfs.xfs", "-q", "-L", "srv", "-m", "bigtime=0", devs["fs:srv"])
	root, err := ext.Read(ctx, run.Exec{}, devs["fs:root"])
	if err != nil {
		t.Fatal(err)
	}
	srv, err := xfs.Read(ctx, run.Exec{}, devs["fs:srv"])
	if err != nil {
		t.Fatal(err)
	}
	d := manifest.Node{ID: "disk:1", Kind: manifest.KindDisk, Disk: &manifest.Disk{}}
	g := manifest.Storage{
		Nodes: []manifest.Node{d,
			{ID: "fs:root", Kind: manifest.KindFS, On: on(d.ID), FS: root}, {ID: "fs:srv", Kind: manifest.KindFS, On: on(d.ID), FS: srv},
			{ID: "swap:1", Kind: manifest.KindSwap, On: on(d.ID), Swap: &manifest.Swap{UUID: "5c3c6b2e-7a52-4f0e-9b5c-000000000002", Label: "S", PageSize: 4096}},
			{ID: "swapfile:1", Kind: manifest.KindSwapFile, On: on("fs:root"), Bytes: 3<<20 + 4096, SwapFile: &manifest.SwapFile{Path: "/srv/swap file", Inode: manifest.Inode{Mode: "0640", GID: 6},
				Swap: manifest.Swap{UUID: "5c3c6b2e-7a52-4f0e-9b5c-000000000004", PageSize: 4096}}},
		},
		Mounts: []manifest.Mount{{Path: "/", Node: "fs:root"}, {Path: "/srv/a b", Node: "fs:srv"}},
	}
	s, err := New(Options{Run: run.Exec{Log: t.Logf}, Plan: planOf(g), Root: filepath.Join(t.TempDir(), "target")})
	if err != nil {
		t.Fatal(err)
	}
	s.underInit = func() error { return nil }
	s.claimed = true
	s.device = func(_ context.Context, id manifest.ID) (string, error) { return devs[id], nil }
	t.Cleanup(func() {
		if err := s.Unmount(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s, devs
}

func (s *Storage) do(t *testing.T, verbs ...plan.Verb) {
	t.Helper()
	for _, st := range s.Plan.Steps {
		for _, v := range verbs {
			if st.Verb == v {
				if err := s.Acts()[v](context.Background(), st, none); err != nil {
					t.Fatalf("%s: %v", st.ID, err)
				}
			}
		}
	}
}

// Filesystems are made, mounted in tree order, used, and unmounted; judged by
// blkid, findmnt, fsck and swaplabel.
func TestMakeAndMount(t *testing.T) {
	s, devs := onLoops(t)
	for range 2 { // the second time over what the first left
		s.do(t, plan.VerbMkfs, plan.VerbMkswap, plan.VerbMount)
		s.do(t, plan.VerbMount) // again, as after a restart of the worker
		out := tool(t, "findmnt", "-rn", "-R", "-o", "TARGET,SOURCE,FSTYPE,OPTIONS", s.Root)
		want := s.Root + " " + devs["fs:root"] + " ext4 rw,noatime\n" + s.Root + `/srv/a\x20b ` + devs["fs:srv"] + " xfs rw,noatime,"
		if !strings.HasPrefix(out, want) || strings.Count(out, "\n") != 2 {
			t.Errorf("mounted:\n%s\nnot\n%s", out, want)
		}
		if err := os.WriteFile(s.Root+"/srv/a b/file", []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.do(t, plan.VerbSwapFile)
		s.do(t, plan.VerbSwapFile) // again
		swap := s.Root + "/srv/swap file"
		if out := tool(t, "stat", "-c", "%a %g %s %b", swap); out != "640 6 3149824 6152\n" && out != "640 6 3149824 6154\n" {
			t.Errorf("the swap file is %s", out)
		}
		if out := tool(t, "swaplabel", swap); !strings.Contains(out, "5c3c6b2e-7a52-4f0e-9b5c-000000000004") {
			t.Errorf("swaplabel: %s", out)
		}
		s.do(t, plan.VerbUnmount)
		if out, _ := exec.Command("findmnt", "-rn", "-R", s.Root).Output(); len(out) > 0 {
			t.Errorf("still mounted: %s", out)
		}
		tool(t, "e2fsck", "-fn", devs["fs:root"])
		tool(t, "xfs_repair", "-n", devs["fs:srv"])
		for id, dev := range devs {
			n := s.Plan.Target.Node(id)
			uuid := ""
			if n.FS != nil {
				uuid = n.FS.UUID
			} else {
				uuid = n.Swap.UUID
			}
			if out := tool(t, "blkid", "-p", "-o", "export", dev); !strings.Contains(out, "\nUUID="+uuid+"\n") {
				t.Errorf("%s: %s", id, out)
			}
		}
	}
	if len(s.Renames()) > 0 {
		t.Errorf("renames %+v", s.Renames())
	}
}

// A mount point that a link of the restored tree leads out of the root stays
// inside, and who keeps a mount busy is named.
func TestMountStaysInside(t *testing.T) {
	s, _ := onLoops(t)
	s.do(t, plan.VerbMkfs)
	acts := s.Acts()
	var root, srv plan.Step
	for _, st := range s.Plan.Steps {
		if st.Verb == plan.VerbMount && st.Arg == "/" {
			root = st
		} else if st.Verb == plan.VerbMount {
			srv = st
		}
	}
	ctx := context.Background()
	if err := acts[plan.VerbMount](ctx, root, none); err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	if err := os.MkdirAll(s.Root+outside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, s.Root+"/srv"); err != nil {
		t.Fatal(err)
	}
	if err := acts[plan.VerbMount](ctx, srv, none); err != nil {
		t.Fatal(err)
	}
	if out, _ := exec.Command("findmnt", "-rn", "-R", outside).Output(); len(out) > 0 {
		t.Errorf("mounted outside: %s", out)
	}
	inside := s.Root + outside + "/a b"
	tool(t, "mountpoint", inside)
	f, err := os.Open(inside)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	err = s.Unmount(short)
	f.Close()
	if err == nil || !strings.Contains(err.Error(), "storage.test (pid ") {
		t.Errorf("busy: %v", err)
	}
	if err := s.Unmount(ctx); err != nil {
		t.Fatal(err)
	}
}
