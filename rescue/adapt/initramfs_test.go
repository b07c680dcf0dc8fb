package adapt

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lifeboat/internal/chroot"
	"lifeboat/internal/cpio"
	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// A repair takes a broken initramfs away before the system's own tool makes it
// anew (a full /boot needs the room), leaves a whole one alone, and is not
// content with what cannot be read after the tool has run.
func TestRepairInitramfs(t *testing.T) {
	var whole bytes.Buffer
	w := cpio.NewWriter(&whole, 0)
	if err := w.File("init", 0o755, []byte("#!/bin/sh\n")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	const name = "boot/initrd.img-6.1"
	for _, c := range []struct {
		what  string
		is    []byte // nil: not there
		makes []byte // what the tool leaves
		calls []string
		text  string // of the error
	}{
		{"whole", whole.Bytes(), nil, nil, ""},
		{"cut", whole.Bytes()[:60], whole.Bytes(), []string{"/usr/sbin/update-initramfs -c -k 6.1"}, ""},
		{"gone", nil, whole.Bytes(), []string{"/usr/sbin/update-initramfs -c -k 6.1"}, ""},
		{"cut again", whole.Bytes()[:60], whole.Bytes()[:60], []string{"/usr/sbin/update-initramfs -c -k 6.1"}, "the rebuilt initramfs of 6.1 cannot be read"},
	} {
		dir := t.TempDir()
		put := func(name string, data []byte, mode os.FileMode) {
			p := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, data, mode); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range []string{"dep", "alias", "softdep", "builtin", "symbols"} {
			put("lib/modules/6.1/modules."+f, nil, 0o644)
		}
		put("usr/sbin/update-initramfs", nil, 0o755)
		put("boot/vmlinuz-6.1", nil, 0o644)
		if c.is != nil {
			put(name, c.is, 0o644)
		}
		fake := &run.Fake{Answer: func(run.Cmd) (run.Result, error) {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				t.Errorf("%s: the broken file still takes its room", c.what)
			}
			put(name, c.makes, 0o644)
			return run.Result{}, nil
		}}
		root, err := chroot.At(dir, fake)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		a := &Adapter{Root: root, Plan: &plan.Plan{Kind: plan.KindRepair}, Machine: &manifest.Machine{}, Sink: report.Discard,
			Manifest: &manifest.Manifest{System: manifest.System{Initramfs: manifest.InitramfsTools,
				Kernels: []manifest.Kernel{{Version: "6.1", Image: "/boot/vmlinuz-6.1", Initramfs: "/" + name}}}}}
		err = a.Initramfs(context.Background(), plan.Step{Verb: plan.VerbInitramfs, Arg: "6.1"})
		if (err == nil) != (c.text == "") || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.what, err)
		}
		if got := fake.Calls(); !slices.Equal(got, c.calls) {
			t.Errorf("%s: ran %q, not %q", c.what, got, c.calls)
		}
	}
}
