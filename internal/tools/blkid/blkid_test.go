package blkid

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"lifeboat/internal/run"
	"lifeboat/manifest"
)

// image makes a file of a size and runs the standard tools on it.
func image(t *testing.T, size int64, cmds ...[]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	for _, c := range cmds {
		cmd := exec.Command(c[0], append(c[1:], path)...)
		cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/sbin:/usr/bin:/bin")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", c, err, out)
		}
	}
	return path
}

// TestTools reads what the standard tools made, by the installed blkid and
// wipefs.
func TestTools(t *testing.T) {
	ctx, r := context.Background(), run.Exec{}
	const uuid = "0a1b2c3d-0000-4000-8000-00000000000a"
	ext := image(t, 8<<20, []string{"mke2fs", "-q", "-t", "ext4", "-L", `a b\$x'`, "-U", uuid})
	f, err := Probe(ctx, r, ext)
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != "ext4" || f.UUID != uuid || f.Label != `a b\$x'` || f.Usage != "filesystem" || f.Table != "" {
		t.Errorf("ext4: %+v", f)
	}
	one := func(dev string) ([]manifest.Signature, error) {
		sig, failed := Signatures(ctx, r, []string{dev})
		return sig[dev], failed[dev]
	}
	sig, err := one(ext)
	if err != nil || len(sig) != 1 || sig[0].Offset != 0x438 || sig[0].Type != "ext4" || sig[0].Device != "img" {
		t.Errorf("ext4: %+v, %v", sig, err)
	}
	blank := image(t, 8<<20)
	if _, err := Probe(ctx, r, blank); !errors.Is(err, ErrNone) {
		t.Errorf("blank: %v", err)
	}
	if sig, err := one(blank); err != nil || len(sig) != 0 {
		t.Errorf("blank: %+v, %v", sig, err)
	}
	// A swap header beside the superblock of vfat: neither is to be believed.
	both := image(t, 8<<20, []string{"mke2fs", "-q", "-t", "ext2"})
	fat := image(t, 8<<20, []string{"mkfs.vfat"})
	overlay(t, fat, both)
	if _, err := Probe(ctx, r, both); !errors.Is(err, ErrAmbivalent) {
		t.Errorf("two filesystems: %v", err)
	}
	if sig, err := one(both); err != nil || len(sig) < 2 {
		t.Errorf("two filesystems: %+v, %v", sig, err)
	}
	if _, err := Probe(ctx, r, filepath.Join(t.TempDir(), "gone")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("gone: %v", err)
	}
}

// TestSignaturesOfMany: one call for all; a device that cannot be read spoils
// no other.
func TestSignaturesOfMany(t *testing.T) {
	dir := t.TempDir()
	dev := func(n string) string { return filepath.Join(dir, n) }
	for _, n := range []string{"sda", "sdb", "sdc"} {
		if err := os.WriteFile(dev(n), make([]byte, 4096), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := &run.Fake{Answer: func(c run.Cmd) (run.Result, error) {
		if len(c.Args) > 3 || c.Args[2] == dev("sdb") {
			return run.Result{Code: 1, Stderr: []byte("wipefs: error: " + dev("sdb") + ": probing initialization failed: Input/output error")}, nil
		}
		return run.Result{Stdout: []byte(`{"signatures":[{"device":"` + filepath.Base(c.Args[2]) + `","offset":"0x438","type":"ext4","uuid":null,"label":null}]}`)}, nil
	}}
	found, failed := Signatures(context.Background(), f, []string{dev("sda"), dev("sdb"), dev("sdc"), dev("gone")})
	if len(found) != 2 || len(found[dev("sda")]) != 1 || len(found[dev("sdc")]) != 1 || len(failed) != 2 || failed[dev("sdb")] == nil || failed[dev("gone")] == nil {
		t.Errorf("%+v\n%v", found, failed)
	}
	if n := len(f.Calls()); n != 4 {
		t.Errorf("%d calls: %v", n, f.Calls())
	}
}

// TestEmptyPartition: blkid tells the partition's entry, which is no
// signature.
func TestEmptyPartition(t *testing.T) {
	f := &run.Fake{Answer: func(run.Cmd) (run.Result, error) {
		return run.Result{Stdout: []byte("DEVNAME=/dev/vda2\nPART_ENTRY_SCHEME=gpt\nPART_ENTRY_NAME=grub\\ core\nPART_ENTRY_NUMBER=2\n")}, nil
	}}
	if _, err := Probe(context.Background(), f, image(t, 4096)); !errors.Is(err, ErrNone) {
		t.Errorf("%v", err)
	}
}

// overlay copies the first 512 bytes of from over those of to.
func overlay(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b[:512], 0); err != nil {
		t.Fatal(err)
	}
}

func TestParse(t *testing.T) {
	f := parseExport("DEVNAME=/dev/sda\nPTUUID=3dfdb33d-c818-1945-9eae-879578af6623\nPTTYPE=gpt\nLABEL=\\xc3\\xbc\\ x\nUUID_SUB=1\n")
	if f.Table != "gpt" || f.TableID != "3dfdb33d-c818-1945-9eae-879578af6623" || f.Label != "ü x" || f.SubUUID != "1" {
		t.Errorf("%+v", f)
	}
	for _, bad := range []string{`{`, `{"signatures":[{"offset":"x","type":"a"}]}`, `{"signatures":[{"offset":"0x1"}]}`} {
		if _, err := parseWipefs([]byte(bad)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func FuzzExport(f *testing.F) {
	f.Add("TYPE=ext4\nLABEL=a\\ b\\x20\\")
	f.Fuzz(func(t *testing.T, s string) { parseExport(s) })
}

func FuzzWipefs(f *testing.F) {
	f.Add([]byte(`{"signatures":[{"device":"a","offset":"0x438","type":"ext4","uuid":"u","label":null}]}`))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = parseWipefs(b) })
}
