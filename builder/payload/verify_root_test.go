//go:build root

package payload

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lifeboat/internal/run"
	"lifeboat/plan"
)

func hostPacker(t *testing.T) *Packer {
	t.Helper()
	p := newPacker(t, "/")
	if err := p.AddTools(ToolWish{}); err != nil {
		t.Fatal(err)
	}
	if err := p.AddEtc("test"); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestResolverAgainstLoader holds our resolver against the host's own loader,
// program by program.
func TestResolverAgainstLoader(t *testing.T) {
	p := hostPacker(t)
	compared := 0
	for _, name := range p.Programs {
		canon, _, err := p.Host.Follow(name)
		if err != nil {
			t.Fatal(err)
		}
		n, err := p.Loader.Resolve(canon)
		if err != nil || n.Interp == "" {
			continue
		}
		out, err := exec.Command(n.Interp, "--list", canon).Output()
		if err != nil {
			t.Errorf("%s: %v", canon, err)
			continue
		}
		want := map[string]string{}
		for line := range strings.Lines(string(out)) {
			if f := strings.Fields(line); len(f) >= 3 && f[1] == "=>" {
				want[f[0]] = f[2]
			}
		}
		for _, l := range n.Libs {
			if want[l.Name] != l.Path {
				t.Errorf("%s: %s is %q, the loader takes %q", canon, l.Name, l.Path, want[l.Name])
			}
			delete(want, l.Name)
		}
		if len(want) > 0 {
			t.Errorf("%s: the loader also takes %v", canon, want)
		}
		compared++
	}
	if compared < 50 {
		t.Fatalf("only %d programs of this host were compared", compared)
	}
	t.Logf("%d programs get the same libraries", compared)
}

// TestVerifyHost packs this machine's tools and proves them.
func TestVerifyHost(t *testing.T) {
	p := hostPacker(t)
	start := time.Now()
	c, err := p.Verify(context.Background(), run.Exec{}, nil, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if c.Resolved < 100 || len(c.Tools) < 20 {
		t.Errorf("resolved %d files, ran %d tools", c.Resolved, len(c.Tools))
	}
	for _, x := range c.Problems {
		t.Error(x.Line())
	}
	t.Logf("%d resolved, %d static, %d run in %v", c.Resolved, c.Static, len(c.Tools), time.Since(start))
}

// TestVerifyFinds breaks a tree in the ways that hurt at three in the morning.
func TestVerifyFinds(t *testing.T) {
	need := []plan.ToolNeed{{Name: "mke2fs", Step: "mkfs/fs:1", Probe: "-V"}}
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, p *Packer)
		want  []string
	}{
		{"a library is missing", func(t *testing.T, p *Packer) {
			drop(t, p, "libext2fs.so.2")
		}, []string{"mke2fs", "libext2fs.so.2", "on this host it is /"}},
		{"a library of a library opened at run time is missing", func(t *testing.T, p *Packer) {
			drop(t, p, "libdevmapper-event.so.1.02.1")
		}, []string{"libdevmapper-event.so.1.02.1"}},
		{"a link of the loader is missing", func(t *testing.T, p *Packer) {
			drop(t, p, "ld-linux-x86-64.so.2")
		}, []string{"cannot be loaded"}},
		{"a needed tool does not run", func(t *testing.T, p *Packer) {
			broken := filepath.Join(t.TempDir(), "mke2fs")
			if err := os.WriteFile(broken, []byte("#!/bin/sh\nexit 9\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			p.Tree.Resolve("/sbin/mke2fs").Source = broken
		}, []string{"mke2fs, which the step mkfs/fs:1 needs, does not run", "exit status 9"}},
		{"a tool hangs", func(t *testing.T, p *Packer) {
			broken := filepath.Join(t.TempDir(), "mke2fs")
			if err := os.WriteFile(broken, []byte("#!/bin/sh\nwhile :; do :; done\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			p.Tree.Resolve("/sbin/mke2fs").Source = broken
		}, []string{"stopped after its time limit"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := hostPacker(t)
			c.spoil(t, p)
			_, err := p.Verify(context.Background(), run.Exec{}, need, t.TempDir())
			if err == nil {
				t.Fatal("nothing was found")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("the error does not say %q:\n%v", w, err)
				}
			}
		})
	}
}

// drop takes every entry of a name out of the tree.
func drop(t *testing.T, p *Packer, name string) {
	t.Helper()
	n := 0
	for path := range p.Tree.entries {
		if filepath.Base(path) == name {
			delete(p.Tree.entries, path)
			n++
		}
	}
	if n == 0 {
		t.Fatalf("%s is not packed", name)
	}
}

// TestCellIsClosed looks out of the cell: no host devices, no network, no
// other process, and nothing left behind.
func TestCellIsClosed(t *testing.T) {
	p := hostPacker(t)
	dir := t.TempDir()
	c, err := openCell(run.Exec{}, dir, p.Tree.hostEntries())
	if err != nil {
		t.Fatal(err)
	}
	answer := make(chan string)
	c.jobs <- func() {
		res, err := c.run(context.Background(), 5*time.Second, nil, "/bin/bash", "-c", "echo pid $$; echo dev /dev/*; echo proc /proc/*; ls /; kill -0 2 2>/dev/null && echo other; true")
		if err != nil {
			answer <- err.Error()
			return
		}
		answer <- string(res.Stdout)
	}
	got := <-answer
	for _, want := range []string{"pid 1\n", "dev /dev/null\n", "proc /proc/*\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("inside: %q lacks %q", got, want)
		}
	}
	if strings.Contains(got, "other") {
		t.Errorf("another process is seen: %q", got)
	}
	c.jobs <- func() {
		res, err := c.run(context.Background(), 5*time.Second, nil, "/bin/ip", "-o", "link")
		if err != nil {
			answer <- err.Error()
			return
		}
		answer <- string(res.Stdout)
	}
	if got := <-answer; strings.Count(got, "\n") != 1 || !strings.Contains(got, "lo:") || strings.Contains(got, "UP") {
		t.Errorf("links inside: %q", got)
	}
	c.close()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("outside the folder holds %v, %v", left, err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), dir) {
		t.Errorf("the mount is seen outside: %v", err)
	}
}

// overlayRoot is this host as a tree that may be changed.
func overlayRoot(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	mount := func(src, at, kind, opts string) {
		if err := syscall.Mount(src, at, kind, 0, opts); err != nil {
			t.Fatalf("mount %s on %s: %v", kind, at, err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	// The upper folder of an overlay may not lie on an overlay.
	mount("upper", dir, "tmpfs", "")
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(dir, "root")
	mount("overlay", root, "overlay", "lowerdir=/,upperdir="+dir+"/upper,workdir="+dir+"/work")
	return root
}

// TestVerifyLdConf moves bash's library to a folder that only ld.so.conf
// names: the real loader must find it in the image, which has no cache.
func TestVerifyLdConf(t *testing.T) {
	root := overlayRoot(t)
	moved, err := filepath.Glob(root + "/usr/lib/*/libtinfo.so.6*")
	if err != nil || len(moved) < 2 {
		t.Fatalf("libtinfo of this host: %v, %v", moved, err)
	}
	vendor := filepath.Join(root, "opt/vendor/lib")
	if err := os.MkdirAll(vendor, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range moved {
		if err := os.Rename(f, filepath.Join(vendor, filepath.Base(f))); err != nil {
			t.Fatal(err)
		}
	}
	write(t, root, "etc/ld.so.conf.d/vendor.conf", []byte("/opt/vendor/lib\n"))
	for _, whole := range []bool{true, false} {
		p := newPacker(t, root)
		if err := p.Program("bash", "bash"); err != nil {
			t.Fatal(err)
		}
		if !whole {
			delete(p.Tree.entries, strings.TrimPrefix(p.libDir, "/")+"/libtinfo.so.6")
		}
		_, err := p.Verify(context.Background(), run.Exec{}, nil, t.TempDir())
		if whole && err != nil {
			t.Errorf("the library is there and not found: %v", err)
		}
		if !whole && (err == nil || !strings.Contains(err.Error(), "on this host it is /opt/vendor/lib/libtinfo.so.6")) {
			t.Errorf("without the link in the loader's own folder: %v", err)
		}
	}
}
