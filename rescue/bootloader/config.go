package bootloader

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"lifeboat/internal/chroot"
	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// Config has the installed system make GRUB's configuration anew
// (plan.VerbGRUBConfig).
func (l *Loader) Config(ctx context.Context, _ plan.Step) error {
	g := l.Manifest.Boot.GRUB
	if g == nil {
		return nil
	}
	if err := l.nameRoot(); err != nil {
		return err
	}
	_, err := l.Root.Run(ctx, run.Cmd{Path: l.prefix() + "-mkconfig", Args: []string{"-o", string(g.Config)}, Limit: limit})
	if err != nil {
		return report.Errorf(report.CodeBootloader, chroot.Hint(l.Plan, "run "+l.prefix()+"-mkconfig to see why"), "make GRUB's configuration: %w", err)
	}
	return nil
}

// nameRoot makes the name below /dev/disk by which grub-mkconfig decides
// whether it may write root=UUID=: no udev makes it here.
func (l *Loader) nameRoot() error {
	for _, id := range []manifest.ID{l.Manifest.Boot.RootFS, l.Manifest.Boot.BootFS} {
		n := l.Plan.Target.Node(id)
		if n == nil || n.FS == nil || n.FS.UUID == "" || strings.ContainsRune(n.FS.UUID, '/') {
			continue
		}
		dev, err := l.Device(id)
		if err != nil {
			return err
		}
		const dir = "/dev/disk/by-uuid"
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.Symlink(dev, filepath.Join(dir, n.FS.UUID)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}
