package bootloader

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"strings"
	"time"

	"lifeboat/internal/chroot"
	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// checkSector looks at what the firmware will read: GRUB's boot sector, and
// its core image where GPT keeps it.
func (l *Loader) checkSector(disk manifest.ID, dev string) error {
	f, err := os.Open(dev)
	if err != nil {
		return report.Errorf(report.CodeBootloader, "", "check the boot sector: %w", err)
	}
	defer f.Close()
	sector := make([]byte, 512)
	if _, err := io.ReadFull(f, sector); err != nil {
		return report.Errorf(report.CodeBootloader, "", "check the boot sector of %s: %w", dev, err)
	}
	if !bytes.Contains(sector[:440], []byte("GRUB")) || sector[510] != 0x55 || sector[511] != 0xAA {
		return report.Errorf(report.CodeBootloader, chroot.Hint(l.Plan, "run grub-install"), "the first sector of %s holds no GRUB after grub-install", dev)
	}
	for _, n := range l.Plan.Target.Above(disk) {
		if n.Kind != manifest.KindPartition || !strings.EqualFold(n.Partition.Type, manifest.TypeBIOSBoot) {
			continue
		}
		core := make([]byte, 512)
		if _, err := f.ReadAt(core, n.Partition.Start); err != nil {
			return report.Errorf(report.CodeBootloader, "", "check the BIOS boot partition of %s: %w", dev, err)
		}
		if len(bytes.Trim(core, "\x00")) == 0 {
			return report.Errorf(report.CodeBootloader, chroot.Hint(l.Plan, "run grub-install"), "the BIOS boot partition of %s is empty after grub-install", dev)
		}
	}
	return nil
}

// uuids are the ids by which grub.cfg, fstab and the kernel line name
// filesystems.
var uuids = regexp.MustCompile(`(?i)(?:--fs-uuid[^\n]*?\s|root=UUID=|\bUUID="?)([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9A-F]{4}-[0-9A-F]{4})\b`)

// Check looks at the whole chain once everything is in place
// (plan.VerbBootCheck): grub.cfg is there and can be parsed, kernels and
// initramfs that it names exist, ids that it and fstab name are on this
// machine.
func (l *Loader) Check(ctx context.Context, _ plan.Step) error {
	g := l.Manifest.Boot.GRUB
	if g == nil {
		return nil
	}
	cfg := string(g.Config)
	if cfg == "" {
		cfg = path.Join("/boot", l.prefix(), "grub.cfg")
	}
	data, err := l.Root.FS.ReadFile(cfg)
	if err != nil {
		return report.Errorf(report.CodeBootloader, chroot.Hint(l.Plan, "run update-grub or grub2-mkconfig"), "read GRUB's configuration: %w", err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return report.Errorf(report.CodeBootloader, chroot.Hint(l.Plan, "run update-grub"), "GRUB's configuration %s is empty", cfg)
	}
	if _, ok := l.Root.LookPath(l.prefix() + "-script-check"); ok {
		if _, err := l.Root.Run(ctx, run.Cmd{Path: l.prefix() + "-script-check", Args: []string{cfg}, Limit: time.Minute}); err != nil {
			return report.Errorf(report.CodeBootloader, chroot.Hint(l.Plan, "mend "+cfg), "GRUB's configuration cannot be parsed: %w", err)
		}
	}
	if err := l.checkProbe(ctx); err != nil {
		return err
	}
	if err := l.checkIDs(cfg, data, true); err != nil {
		return err
	}
	text, err := l.Root.FS.ReadFile("/etc/fstab")
	if err != nil {
		return nil // a system without fstab may well be whole
	}
	return l.checkIDs("/etc/fstab", text, false)
}

// checkProbe lets the restored system's own GRUB read its /boot: it is the
// weakest reader in the chain.
func (l *Loader) checkProbe(ctx context.Context) error {
	probe := l.prefix() + "-probe"
	if _, ok := l.Root.LookPath(probe); !ok {
		return nil
	}
	dir := string(l.Manifest.Boot.GRUB.Dir)
	if dir == "" {
		dir = "/boot"
	}
	res, err := l.Root.Run(ctx, run.Cmd{Path: probe, Args: []string{"--target=fs_uuid", dir}, Limit: 5 * time.Minute})
	if err != nil {
		return report.Errorf(report.CodeBootloader, "the filesystem holds a feature that this GRUB does not know", "GRUB cannot read %s: %w", dir, err)
	}
	got := strings.TrimSpace(string(res.Stdout))
	if n := l.Plan.Target.Node(l.Manifest.Boot.BootFS); n != nil && n.FS != nil && !strings.EqualFold(got, n.FS.UUID) {
		return report.Errorf(report.CodeBootloader, "", "GRUB sees the filesystem %s under %s, not %s", got, dir, n.FS.UUID)
	}
	return nil
}

// checkIDs finds ids in a text that no node of the target has. In GRUB's
// configuration that is fatal; in fstab it may be a disk that was not part of
// the recovery.
func (l *Loader) checkIDs(file string, text []byte, fatal bool) error {
	have := map[string]bool{}
	for i := range l.Plan.Target.Nodes {
		n := &l.Plan.Target.Nodes[i]
		switch {
		case n.FS != nil:
			have[strings.ToLower(n.FS.UUID)] = true
		case n.Swap != nil:
			have[strings.ToLower(n.Swap.UUID)] = true
		case n.LUKS != nil:
			have[strings.ToLower(n.LUKS.UUID)] = true
		}
	}
	for i := range l.Manifest.Storage.Nodes { // known, but not rebuilt
		if n := &l.Manifest.Storage.Nodes[i]; n.FS != nil && l.Plan.Target.Node(n.ID) == nil {
			have[strings.ToLower(n.FS.UUID)] = true
		}
	}
	var unknown []string
	for _, m := range uuids.FindAllSubmatch(text, -1) {
		id := strings.ToLower(string(m[1]))
		if !have[id] {
			have[id] = true
			unknown = append(unknown, id)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	root := l.Plan.Target.Node(l.Manifest.Boot.RootFS)
	if fatal && root != nil && root.FS != nil && !bytes.Contains(bytes.ToLower(text), []byte(strings.ToLower(root.FS.UUID))) &&
		!strings.Contains(string(text), "root=/dev/") && !strings.Contains(string(text), "blscfg") {
		return report.Errorf(report.CodeBootloader, chroot.Hint(l.Plan, "run update-grub"),
			"%s names %s, and not the root filesystem %s", file, strings.Join(unknown, ", "), root.FS.UUID)
	}
	l.warn(report.CodeLeftover, "look whether these belong to disks that were not recovered", "%s names filesystems that are not on this machine: %s", file, strings.Join(unknown, ", "))
	return nil
}

// String names the loader for logs.
func (l *Loader) String() string { return fmt.Sprintf("%s of %s", l.prefix(), l.Manifest.Host.Name) }
