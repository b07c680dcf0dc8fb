package base

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"lifeboat/internal/cpio"
)

// Before the first make there is no base, and whoever asks is told what to
// do. After it the base is a whole small system.
func TestBase(t *testing.T) {
	seg, err := Segment()
	if err != nil {
		if !errors.Is(err, ErrMissing) {
			t.Fatal(err)
		}
		if err := Write(cpio.NewWriter(io.Discard, 0)); !errors.Is(err, ErrMissing) {
			t.Errorf("Write without a base: %v", err)
		}
		if _, err := Open(); !errors.Is(err, ErrMissing) {
			t.Errorf("Open without a base: %v", err)
		}
		return
	}
	entries, err := Entries()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]cpio.Entry{}
	for _, e := range entries {
		have[e.Name] = e
	}
	for name, typ := range map[string]uint32{
		"init": cpio.TypeFile, "usr/bin/lifeboat": cpio.TypeFile, "usr/bin/bb": cpio.TypeFile, "dev/console": cpio.TypeChar, "dev/null": cpio.TypeChar,
		"usr/sbin/modprobe": cpio.TypeLink, "usr/sbin/reboot": cpio.TypeLink, "usr/bin/sh": cpio.TypeLink, "usr/bin/ls": cpio.TypeLink,
		"bin": cpio.TypeLink, "lib64": cpio.TypeLink, "tmp": cpio.TypeDir,
	} {
		if e, ok := have[name]; !ok || e.Type() != typ {
			t.Errorf("%s: %+v", name, e)
		}
	}
	// Written again without compression it is the same tree.
	var b bytes.Buffer
	w := cpio.NewWriter(&b, 0)
	if err := errors.Join(Write(w), w.Close()); err != nil {
		t.Fatal(err)
	}
	again, _, err := cpio.List(bytes.NewReader(b.Bytes()))
	if err != nil || len(again) != len(entries) {
		t.Fatalf("%d entries of %d: %v", len(again), len(entries), err)
	}
	files, err := Open()
	if err != nil || len(files["init"]) < 1<<20 || len(seg) < 1<<20 {
		t.Errorf("init has %d bytes: %v", len(files["init"]), err)
	}
}
