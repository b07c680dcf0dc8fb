package builder

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/internal/cpio"
	"lifeboat/internal/handoff"
	"lifeboat/report"
)

// smallImage is an initramfs of three segments, in which the last overrides.
func smallImage(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	img := cpio.NewImage(&b, 0)
	order := handoff.Order{ID: "b1", BuildID: "b1", Host: "alpha", Recover: "menu", Then: "stay", Ticket: "secret-ticket"}
	doc, err := alpha("6.1.0").Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, fill := range []func(w *cpio.Writer){
		func(w *cpio.Writer) {
			w.Symlink("bin", "usr/bin")
			w.Symlink("sbin", "usr/sbin")
			w.File("init", 0o755, []byte("\x7fELF init"))
			w.File("usr/bin/lifeboat", 0o755, []byte("\x7fELF"))
			w.Symlink("usr/sbin/modprobe", "../../init")
			w.Symlink("usr/bin/sh", "bb")
			w.File("usr/bin/bb", 0o755, []byte("bb"))
		},
		func(w *cpio.Writer) {
			w.File("usr/lib/modules/6.1.0/modules.dep", 0o644, nil)
			w.File("usr/bin/dash", 0o755, []byte("dash"))
			w.Symlink("usr/bin/sh", "dash")
			w.File("etc/ssh/ssh_host_rsa_key", 0o600, []byte("k"))
			w.File("etc/app.conf", 0o644, []byte("a=1\npassword = x\n"))
			w.File(handoff.ManifestPath, 0o600, doc)
		},
		func(w *cpio.Writer) { w.File(handoff.OrderInImage, 0o600, order.Encode()) },
	} {
		if _, err := img.Segment(cpio.Zstd, cpio.Fast, func(w *cpio.Writer) error { fill(w); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := img.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func openSmall(t *testing.T, data []byte) (*Image, error) {
	t.Helper()
	p := filepath.Join(t.TempDir(), "initrd.img")
	if err := os.WriteFile(p, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return OpenImage(p)
}

func TestInspect(t *testing.T) {
	i, err := openSmall(t, smallImage(t))
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	s, err := i.Summary()
	if err != nil || s.Host != "alpha" || s.BuildID != "b1" || s.Kernel != "6.1.0" || s.Kind != "initramfs" || len(s.Segments) != 3 {
		t.Errorf("summary %+v, %v", s, err)
	}
	if strings.Contains(s.Order.Ticket, "secret") {
		t.Error("the summary shows the ticket")
	}
	for name, want := range map[string]string{"/bin/sh": "dash", "sbin/modprobe": "\x7fELF init", "/etc/app.conf": "a=1\npassword = x\n"} {
		if b, err := i.Cat(name); err != nil || string(b) != want {
			t.Errorf("cat %s: %q, %v", name, b, err)
		}
	}
	for _, bad := range []string{"/no/such", "/usr", "medium:/boot/vmlinuz"} {
		if _, err := i.Cat(bad); report.ExitOf(err) != report.ExitUsage {
			t.Errorf("cat %s: %v", bad, err)
		}
	}
	if err := i.Verify(context.Background()); err != nil {
		t.Errorf("verify: %v", err)
	}
	sec, err := i.Secrets()
	if err != nil || len(sec) != 3 || sec[0].Path != "/etc/app.conf" || sec[1].Path != handoff.OrderInImage || sec[2].Path != "/etc/ssh/ssh_host_rsa_key" {
		t.Errorf("secrets %v, %v", sec, err)
	}
	if f := i.Files(); len(f) < 10 || f[0].Path != "/bin" || f[0].Link != "usr/bin" || f[0].Mode[0] != 'L' {
		t.Errorf("listing %+v", f)
	}
}

func TestInspectDamaged(t *testing.T) {
	good := smallImage(t)
	cut := good[:len(good)-40]
	flip := bytes.Clone(good)
	flip[len(flip)/2] ^= 0x40
	for name, b := range map[string][]byte{"cut short": cut, "one bit": flip, "empty": nil, "text": []byte("hello, world, this is no image")} {
		i, err := openSmall(t, b)
		if err != nil {
			continue
		}
		if err = i.Verify(context.Background()); err == nil {
			t.Errorf("%s: found whole", name)
		}
		i.Close()
	}
}
