package probe

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/hostconf/fstab"
)

// wakeLimit is how long an automount may take to answer.
const wakeLimit = 10 * time.Second

// wake has automounts of local filesystems mounted, so that they are read:
// an ESP at /boot/efi is often mounted only when somebody looks. Those of
// other machines stay asleep, and so do all in the rescue system.
func (o Options) wake(ctx context.Context) error {
	if o.Rescue {
		return nil
	}
	f, err := os.Open(filepath.Join(o.System.Proc, "self/mountinfo"))
	if err != nil {
		return fmt.Errorf("read the mounts: %w", err)
	}
	defer f.Close()
	mounts, err := blockdev.ParseMountinfo(f)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(o.Root, "etc/fstab"))
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("read fstab: %w", err)
	}
	// systemd makes these two by itself, without fstab.
	local := map[string]bool{"/boot": true, "/efi": true, "/boot/efi": true}
	for _, e := range fstab.Parse(text).Entries() {
		tag, _ := fstab.Tag(e.Spec)
		local[filepath.Clean(e.Path)] = (tag != "" || strings.HasPrefix(e.Spec, "/dev/")) && !networkTypes[e.Type] && !e.Has("_netdev")
	}
	for _, m := range mounts {
		if m.Type != "autofs" || !local[m.Path] || mountedOn(mounts, m) {
			continue
		}
		woken := make(chan struct{})
		go func() { // a stat of a dead automount cannot be stopped
			_, _ = os.Stat(filepath.Join(o.Root, m.Path, "."))
			_, _ = os.ReadDir(filepath.Join(o.Root, m.Path))
			close(woken)
		}()
		select {
		case <-woken:
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wakeLimit): // told later: fstab names a mount that is not there
		}
	}
	return nil
}

// mountedOn tells whether something is mounted at the automount already.
func mountedOn(mounts []blockdev.Mount, auto blockdev.Mount) bool {
	for _, m := range mounts {
		if m.Parent == auto.ID && m.Path == auto.Path {
			return true
		}
	}
	return false
}
