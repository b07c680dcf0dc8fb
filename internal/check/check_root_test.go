//go:build root

package check

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/builder"
	"lifeboat/internal/config"
	"lifeboat/manifest"
)

// volume makes an ext4 filesystem in a file and mounts it.
func volume(t *testing.T) string {
	t.Helper()
	file, dir := filepath.Join(t.TempDir(), "volume"), t.TempDir()
	for _, argv := range [][]string{{"truncate", "-s", "96M", file}, {"mkfs.ext4", "-q", file}, {"mount", "-o", "loop", file, dir}} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// made is a host whose data is one loop volume, its backup on another, its
// image, and what was noted.
type made struct {
	host    *manifest.Manifest
	conf    *config.Config
	state   string
	archive string
	image   string
}

func make1(t *testing.T) *made {
	t.Helper()
	kernels, _ := filepath.Glob("/boot/vmlinuz-*")
	if len(kernels) == 0 {
		t.Fatal("no kernel in /boot: install linux-image-amd64")
	}
	src, store := volume(t), volume(t)
	// Enough for several frames, and not to be compressed.
	noise := make([]byte, 12<<20)
	if _, err := unix.Getrandom(noise, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(src, "data"), noise, 0o600); err != nil {
		t.Fatal(err)
	}
	m := host()
	m.Made = time.Now().UTC().Truncate(time.Second)
	m.System.Kernel = strings.TrimPrefix(filepath.Base(kernels[len(kernels)-1]), "vmlinuz-")
	m.Storage.Mounts[0].Backup = manifest.ScopeExclude
	add(m, "fs:src", manifest.Bytes(src))
	m.Storage.Mounts[1].Live = true
	x := &made{host: m, conf: config.Default(), state: t.TempDir()}
	x.conf.OutputDir, x.conf.Modules, x.conf.Backup.URL = t.TempDir(), "host", store
	ctx := context.Background()
	res, err := builder.Rescue(ctx, builder.Options{Manifest: m, Config: x.conf, Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	s := &builder.ImageState{Made: m.Made, By: "1", Settings: builder.SettingsDigest(x.conf, ""), BuildID: res.BuildID, Media: res.Media, Manifest: m}
	if err := s.Save(x.state); err != nil {
		t.Fatal(err)
	}
	x.image = res.Media[0].Path
	x.backUp(t)
	return x
}

func (x *made) backUp(t *testing.T) {
	t.Helper()
	b, err := builder.Backup(context.Background(), builder.BackupOptions{Manifest: x.host, URL: x.conf.Backup.URL})
	if err != nil {
		t.Fatal(err)
	}
	x.archive = b.Name
	note := &builder.BackupState{Made: time.Now().UTC(), By: "1", Method: "archive", Name: b.Name, UUID: b.UUID, Bytes: b.Bytes, Manifest: x.host}
	if err := note.Save(x.state); err != nil {
		t.Fatal(err)
	}
}

// check looks at it as it is now.
func (x *made) check(t *testing.T, full bool, later time.Duration) *Result {
	t.Helper()
	var doing atomic.Value
	doing.Store("")
	f := Look(context.Background(), Input{StateDir: x.state, Config: x.conf, Full: full, Now: time.Now().Add(later),
		Capture: func(context.Context) (*manifest.Manifest, error) { return x.host, nil }}, &doing)
	r := Judge(f, x.conf.Check)
	plugin(t, t.Name(), r)
	return r
}

// flip changes one byte of a file, and back.
func flip(t *testing.T, file string, at int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func size(t *testing.T, file string) int64 {
	t.Helper()
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// TestLook: image and backup as they were written are well, and each damage is
// found by what reads it.
func TestLook(t *testing.T) {
	x := make1(t)
	if r := x.check(t, false, 0); r.State != OK || r.Image.Read != readAll || r.Backup.Read != readEnds {
		t.Fatalf("nothing is wrong: %s\n%s", r.Line(), strings.Join(r.Long(), "\n"))
	}
	if r := x.check(t, true, 0); r.State != OK || r.Backup.Read != readAll {
		t.Errorf("all of it read: %s", r.Line())
	}
	if r := x.check(t, false, 72*time.Hour); r.State != Warning {
		t.Errorf("three days later: %s", r.Line())
	}
	want := func(what string, full bool, state State, text string) {
		t.Helper()
		if r := x.check(t, full, 0); r.State != state || !strings.Contains(r.Line(), text) {
			t.Errorf("%s: %s", what, r.Line())
		}
	}
	middle := size(t, x.archive) / 2
	flip(t, x.archive, middle)
	want("a byte in the middle, the ends are read", false, OK, "readable")
	want("a byte in the middle, all is read", true, Critical, "the backup is not whole")
	flip(t, x.archive, middle)
	flip(t, x.archive, size(t, x.archive)-200)
	want("a byte of the index", false, Critical, "backup ")
	flip(t, x.archive, size(t, x.archive)-200)
	flip(t, x.image, size(t, x.image)/2)
	want("a byte of the image", false, Critical, "read the image")
	flip(t, x.image, size(t, x.image)/2)
	want("mended", true, OK, "all of it read")
}

// TestLookAtLoss: what is cut short, gone, of another host or in no store at
// all is told, one thing at a time.
func TestLookAtLoss(t *testing.T) {
	x := make1(t)
	critical := func(what, text string) {
		t.Helper()
		if r := x.check(t, false, 0); r.State != Critical || !strings.Contains(r.Line(), text) {
			t.Errorf("%s: %s", what, r.Line())
		}
	}
	away := func(file string, then func()) {
		t.Helper()
		if err := os.Rename(file, file+".away"); err != nil {
			t.Fatal(err)
		}
		then()
		if err := errors.Join(os.RemoveAll(file), os.Rename(file+".away", file)); err != nil {
			t.Fatal(err)
		}
	}
	away(x.image, func() { critical("the image is gone", "is gone") })
	away(x.archive, func() { critical("the store is empty", "holds no archive of web1") })
	away(x.archive, func() {
		whole, err := os.ReadFile(x.archive + ".away")
		if err == nil {
			err = os.WriteFile(x.archive, whole[:len(whole)-64], 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		critical("the backup is cut short", "cut short")
	})
	x.host.Host.MachineID = "other"
	critical("a backup of another host of that name", "another host")
	x.host.Host.MachineID = "0123"
	x.conf.Backup.URL = ""
	critical("no store", "no backup store is configured")
	x.conf.Backup.URL = "http://127.0.0.1:1/"
	critical("no server", "connect")
	if r := x.check(t, false, 0); strings.Contains(r.Line(), "gone") {
		t.Errorf("a good image is called bad: %s", r.Line())
	}
}

// TestExpired: something removed the newest backup; an older one is left.
func TestExpired(t *testing.T) {
	x := make1(t)
	first := x.archive
	older := filepath.Join(filepath.Dir(first), "20260101T000000Z.lba")
	if err := os.Rename(first, older); err != nil {
		t.Fatal(err)
	}
	x.backUp(t)
	if r := x.check(t, false, 0); r.State != OK || r.Backup.Name != x.archive {
		t.Errorf("two backups: %s", r.Line())
	}
	if err := os.Remove(x.archive); err != nil {
		t.Fatal(err)
	}
	if r := x.check(t, false, 0); r.State != Warning || !strings.Contains(r.Line(), "is not in the store") || r.Backup.Name != older {
		t.Errorf("the newest is gone: %s", r.Line())
	}
}
