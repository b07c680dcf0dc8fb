//go:build root

package cpio

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
)

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	var errb bytes.Buffer
	c.Stderr = &errb
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, errb.String())
	}
	return string(out)
}

// GNU cpio unpacks what we write, as root with device nodes and owners.
func TestWrittenByUsReadByCpio(t *testing.T) {
	dir := t.TempDir()
	img := filepath.Join(dir, "img")
	if err := os.WriteFile(img, makeImage(t, None), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("cpio", "-idm", "--no-absolute-filenames", "--quiet", "-F", img)
	c.Dir = out
	if b, err := c.CombinedOutput(); err != nil || len(b) > 0 {
		t.Fatalf("cpio -i: %v: %s", err, b)
	}
	got := output(t, "find", out, "-mindepth", "1", "-printf", `%P %y %m %U %T@ %l\n`)
	for _, want := range []string{"bin l 777 0 ", " usr/bin\n", "usr/bin/tool f 4755 0 1600000000.0", "etc d 700 0 ", "dev/console c 600 0 1600000000.0"} {
		if !strings.Contains(got, want) {
			t.Errorf("unpacked tree lacks %q:\n%s", want, got)
		}
	}
	if b, err := os.ReadFile(filepath.Join(out, "etc/x/y")); err != nil || string(b) != numbers() {
		t.Errorf("etc/x/y: %d bytes, %v", len(b), err)
	}
}

// initramfs-tools finds our segments: those before the last must be
// uncompressed for it, which is its rule, not the kernel's.
func TestWrittenByUsReadByInitramfsTools(t *testing.T) {
	for _, c := range [][]Codec{{Zstd}, {Gzip}, {None, Gzip}, {None, Zstd}} {
		img := filepath.Join(t.TempDir(), "img")
		if err := os.WriteFile(img, makeImage(t, c...), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(output(t, "lsinitramfs", img), "usr/bin/tool\n"); got != len(c) {
			t.Errorf("%s: lsinitramfs lists usr/bin/tool %d times", c, got)
		}
	}
}

// Every initramfs of this machine, with lsinitramfs as the judge.
func TestInstalledImages(t *testing.T) {
	imgs, _ := filepath.Glob("/boot/initrd.img-*")
	if len(imgs) == 0 {
		t.Fatal("no /boot/initrd.img-*; install a kernel and initramfs-tools")
	}
	for _, p := range imgs {
		f := openTest(t, p)
		entries, segs, err := List(f)
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, e.Name)
		}
		want := strings.Split(strings.TrimSpace(output(t, "lsinitramfs", p)), "\n")
		sort.Strings(got)
		sort.Strings(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: we list %d entries, lsinitramfs %d", p, len(got), len(want))
		}
		t.Log(p, fmt.Sprintf("%+v", segs))
	}
}
