package probe

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat/internal/blockdev"
)

// TestWake looks into automounts of local filesystems only: one of another
// machine may never answer.
func TestWake(t *testing.T) {
	dir := t.TempDir()
	o := Options{Root: dir, System: blockdev.System{Proc: filepath.Join(dir, "proc")}}
	files := map[string]string{
		"proc/self/mountinfo": "1 1 0:2 / / rw - ext4 /dev/sda rw\n2 1 0:30 / /boot/efi rw - autofs systemd-1 rw\n" +
			"3 1 0:31 / /nas rw - autofs systemd-1 rw\n4 1 0:32 / /data rw - autofs systemd-1 rw\n5 4 8:1 / /data rw - ext4 /dev/sda1 rw\n",
		"etc/fstab":    "UUID=1 /boot/efi vfat x-systemd.automount 0 0\nnas:/x /nas nfs x-systemd.automount 0 0\n/dev/sda1 /data ext4 x-systemd.automount 0 0\n",
		"boot/efi/f":   "",
		"nas/f":        "",
		"data/f":       "",
		"unrelated/f":  "",
		"proc/unused/": "",
	}
	for name, text := range files {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if filepath.Base(name) != name && name[len(name)-1] != '/' {
			if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The kernel tells which folders are opened, whatever the mount options.
	in, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(in)
	watches := map[int32]string{}
	for _, d := range []string{"boot/efi", "nas", "data"} {
		w, err := unix.InotifyAddWatch(in, filepath.Join(dir, d), unix.IN_OPEN)
		if err != nil {
			t.Fatal(err)
		}
		watches[int32(w)] = d
	}
	if err := o.wake(context.Background()); err != nil {
		t.Fatal(err)
	}
	opened := map[string]bool{}
	buf := make([]byte, 64<<10)
	for n, err := unix.Read(in, buf); err == nil && n >= unix.SizeofInotifyEvent; n, err = unix.Read(in, buf) {
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			opened[watches[int32(binary.NativeEndian.Uint32(b))]] = true
			b = b[unix.SizeofInotifyEvent+binary.NativeEndian.Uint32(b[12:]):]
		}
	}
	if len(opened) != 1 || !opened["boot/efi"] {
		t.Errorf("looked into %v", opened)
	}
	o.Rescue = true
	if err := os.Remove(filepath.Join(dir, "proc/self/mountinfo")); err != nil {
		t.Fatal(err)
	}
	if err := o.wake(context.Background()); err != nil {
		t.Errorf("the rescue system wakes nothing: %v", err)
	}
}
