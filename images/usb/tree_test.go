package usb

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"lifeboat/internal/loaders"
)

// content of a host, with a backup.
func content(t *testing.T, host string, day int) *Content {
	t.Helper()
	s := spec(t, host, day)
	arch := filepath.Join(t.TempDir(), "arch")
	writeFile(t, arch, random(int64(day), 300_000))
	s.Archives = []Archive{{host + "/2026112" + string(rune('0'+day%10)) + "T030405Z.lba", arch}}
	c, err := s.Content(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func names(hosts []Host) (out []string) {
	for _, h := range hosts {
		out = append(out, h.Name+" "+h.Menu.BuildID)
	}
	return out
}

// bootable checks what the menu leads to, as a boot loader would find it: each
// kernel and initramfs is there and whole, and the file it is found by.
func bootable(t *testing.T, dir string) (hosts []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, menuPath))
	if err != nil {
		t.Fatalf("no menu: %v", err)
	}
	for _, m := range regexp.MustCompile(`(?m)^  (?:linux|initrd) (\S+)`).FindAllStringSubmatch(string(text), -1) {
		sums, err := os.ReadFile(filepath.Join(dir, filepath.Dir(m[1]), fileSums))
		if err != nil {
			t.Errorf("the menu leads to %s: %v", m[1], err)
			continue
		}
		if !strings.Contains(string(sums), sumOf(t, filepath.Join(dir, m[1]))+"  "+filepath.Base(m[1])) {
			t.Errorf("the menu leads to %s, which is not whole", m[1])
		}
		if h := strings.Split(m[1], "/"); !slices.Contains(hosts, h[3]+" "+h[4]) {
			hosts = append(hosts, h[3]+" "+h[4])
		}
	}
	for _, m := range regexp.MustCompile(`--set=root (\S+)`).FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat(filepath.Join(dir, m[1])); err != nil {
			t.Errorf("GRUB does not find its root: %v", err)
		}
	}
	return hosts
}

func newTree(t *testing.T, settle func() error) (*Tree, string) {
	t.Helper()
	dir := t.TempDir()
	tree, err := NewTree(dir, Mark{ID: "stick-0001", OS: "debian"}, settle)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tree.Close)
	return tree, dir
}

func mustAdd(t *testing.T, tree *Tree, c *Content) {
	t.Helper()
	if notes, err := tree.Add(t.Context(), c, nil); err != nil || len(notes) > 0 {
		t.Fatal(notes, err)
	}
}

func TestAddAndRenew(t *testing.T) {
	tree, dir := newTree(t, nil)
	mustAdd(t, tree, content(t, "web01", 20))
	mustAdd(t, tree, content(t, "db01", 21))
	if have := bootable(t, dir); !slices.Equal(have, []string{"db01 db01-0021", "web01 web01-0020"}) {
		t.Errorf("the menu offers %v", have)
	}
	text, _ := os.ReadFile(filepath.Join(dir, menuPath))
	for _, want := range []string{"submenu 'db01 (2026-11-21 03:04 UTC, Linux 6.1.0-56-amd64) ...' --id host-db01 --hotkey 1 {", "--hotkey 2", "set default=local", "serial --unit=0"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the menu lacks %q:\n%s", want, text)
		}
	}
	mustAdd(t, tree, content(t, "web01", 25))
	if have := bootable(t, dir); !slices.Equal(have, []string{"db01 db01-0021", "web01 web01-0025"}) {
		t.Errorf("the menu offers %v", have)
	}
	if _, err := os.Stat(filepath.Join(dir, hostsPath, "web01/web01-0020")); err == nil {
		t.Error("the older build stays")
	}
	if _, err := os.Stat(filepath.Join(dir, loaders.IDFile("web01-0020"))); err == nil {
		t.Error("the older build's id stays")
	}
	for _, a := range []string{"web01/20261120T030405Z.lba", "web01/20261125T030405Z.lba", "db01/20261121T030405Z.lba"} {
		if _, err := os.Stat(filepath.Join(dir, a)); err != nil {
			t.Errorf("a backup is gone: %v", err)
		}
	}
	// The same once more changes nothing.
	mustAdd(t, tree, content(t, "web01", 25))
	if have := bootable(t, dir); len(have) != 2 {
		t.Errorf("the menu offers %v", have)
	}
	if _, err := tree.Add(t.Context(), content(t, "web01", 24), nil); err == nil || !strings.Contains(err.Error(), "newer rescue system of web01") {
		t.Errorf("an older build: %v", err)
	}
	ubuntu := content(t, "ubu", 25)
	ubuntu.OS = "ubuntu"
	if notes, err := tree.Add(t.Context(), ubuntu, nil); err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "Secure Boot") {
		t.Errorf("another distribution's kernel: %v, %v", notes, err)
	}
}

var errCut = errors.New("the power failed")

// TestInterrupted cuts Add off at each place where it makes things durable and
// in the middle of the copying. What was on the stick must still start, and the
// next run must end well.
func TestInterrupted(t *testing.T) {
	for cut := 1; cut <= 5; cut++ {
		left := 1 << 30
		tree, dir := newTree(t, func() error {
			if left--; left == 0 {
				return errCut
			}
			return nil
		})
		mustAdd(t, tree, content(t, "db01", 20))
		mustAdd(t, tree, content(t, "web01", 20))
		left = cut
		ctx, cancel := context.WithCancelCause(t.Context())
		_, err := tree.Add(ctx, content(t, "web01", 25), func(done, total int64) {
			if cut == 5 && done > total/2 {
				cancel(errCut)
			}
		})
		cancel(nil)
		if !errors.Is(err, errCut) {
			t.Fatalf("cut %d: %v", cut, err)
		}
		have := bootable(t, dir)
		if len(have) != 2 || have[0] != "db01 db01-0020" || have[1] != "web01 web01-0020" && have[1] != "web01 web01-0025" {
			t.Errorf("cut %d: the menu offers %v", cut, have)
		}
		again, err := OpenTree(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		mustAdd(t, again, content(t, "web01", 25))
		again.Close()
		if have := bootable(t, dir); !slices.Equal(have, []string{"db01 db01-0020", "web01 web01-0025"}) {
			t.Errorf("after cut %d: the menu offers %v", cut, have)
		}
		if old, _ := filepath.Glob(filepath.Join(dir, hostsPath, "*/.*")); len(old) > 0 {
			t.Errorf("after cut %d: %v stay", cut, old)
		}
	}
}

// TestLyingStick: what comes back from the stick is compared with what went
// there, before the menu leads to it.
func TestLyingStick(t *testing.T) {
	for _, victim := range []string{hostsPath + "/web01/web01-0025/initrd.img", "/web01/20261125T030405Z.lba"} {
		var tree *Tree
		var dir string
		damage := false
		tree, dir = newTree(t, func() error {
			if damage {
				damage = false
				f, err := os.OpenFile(filepath.Join(dir, victim), os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				defer f.Close()
				_, err = f.WriteAt([]byte("gone"), 4096)
				return err
			}
			return nil
		})
		mustAdd(t, tree, content(t, "web01", 20))
		damage = true
		_, err := tree.Add(t.Context(), content(t, "web01", 25), nil)
		if err == nil || !strings.Contains(err.Error(), "use another stick") && !strings.Contains(err.Error(), "not what was written") {
			t.Errorf("%s: %v", victim, err)
		}
		if have := bootable(t, dir); !slices.Equal(have, []string{"web01 web01-0020"}) {
			t.Errorf("%s: the menu offers %v", victim, have)
		}
		if strings.HasPrefix(victim, hostsPath) {
			if have := names(tree.Hosts()); !slices.Equal(have, []string{"web01 web01-0020"}) {
				t.Errorf("%s: the next menu would offer %v", victim, have)
			}
		}
		mustAdd(t, tree, content(t, "web01", 25))
		if have := bootable(t, dir); !slices.Equal(have, []string{"web01 web01-0025"}) {
			t.Errorf("%s: the menu offers %v", victim, have)
		}
	}
}

// TestFromImage: an image's host goes onto a stick as it is.
func TestFromImage(t *testing.T) {
	s := spec(t, "web01", 25)
	arch := filepath.Join(t.TempDir(), "arch")
	writeFile(t, arch, random(5, 500_000))
	s.Archives = []Archive{{"web01/20261125T030405Z.lba", arch}}
	p, _ := mustWrite(t, s)
	img, err := Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	c, err := img.Content(img.Hosts()[0])
	if err != nil {
		t.Fatal(err)
	}
	tree, dir := newTree(t, nil)
	mustAdd(t, tree, c)
	if have := bootable(t, dir); len(have) != 1 {
		t.Errorf("the menu offers %v", have)
	}
	if sumOf(t, filepath.Join(dir, "web01/20261125T030405Z.lba")) != sumOf(t, arch) {
		t.Error("the backup differs")
	}
}

// TestHostileStick: links on a stick lead nowhere else.
func TestHostileStick(t *testing.T) {
	tree, dir := newTree(t, nil)
	outside := t.TempDir()
	if err := os.RemoveAll(filepath.Join(dir, hostsPath)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, hostsPath)); err != nil {
		t.Fatal(err)
	}
	_, _ = tree.Add(t.Context(), content(t, "web01", 25), nil)
	if list, _ := os.ReadDir(outside); len(list) > 0 {
		t.Errorf("files went outside: %v", list)
	}
}
