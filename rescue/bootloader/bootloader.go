// Package bootloader installs the boot loader of a restored system with that
// system's own tools and checks what came of it.
// Level 4.
package bootloader

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"lifeboat/internal/chroot"
	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// Loader installs and checks boot loaders of one restored system.
type Loader struct {
	Root     *chroot.Root
	Manifest *manifest.Manifest
	Plan     *plan.Plan
	// Device gives the device node of a node of the target graph now, e.g.
	// /dev/sda of a disk.
	Device func(manifest.ID) (string, error)
	Run    run.Runner // programs of the rescue system
	Sink   report.Sink
	// Frozen: GRUB's folder in the system is whole and is not to be written.
	Frozen bool
	// Entries reads the firmware's boot entries; nil reads this machine's.
	Entries func() []manifest.EFIEntry
}

// limit of one installation; GRUB reads every disk of the machine.
const limit = 10 * time.Minute

func (l *Loader) warn(code, next, format string, args ...any) {
	p := report.Errorf(code, next, format, args...).Problem
	p.Severity = report.Warning
	l.Sink.Emit(report.Event{Kind: report.Trouble, Text: p.Text, Problem: &p})
}

func (l *Loader) prefix() string {
	if g := l.Manifest.Boot.GRUB; g != nil && g.Prefix != "" {
		return g.Prefix
	}
	return "grub"
}

// InstallBIOS puts GRUB onto a disk with the restored system's grub-install
// (plan.VerbGRUB; Arg is the platform).
func (l *Loader) InstallBIOS(ctx context.Context, s plan.Step) error {
	dev, err := l.Device(s.Node)
	if err != nil {
		return err
	}
	if l.Frozen {
		err = l.embed(ctx, s.Arg, dev)
	} else {
		err = l.install(ctx, []string{"--target=" + s.Arg, "--recheck", "--no-floppy", dev})
	}
	if err != nil {
		return err
	}
	return l.checkSector(s.Node, dev)
}

// embed puts the image that an earlier grub-install left in GRUB's folder onto
// a disk again. grub-install would make it anew in that folder.
func (l *Loader) embed(ctx context.Context, platform, dev string) error {
	dir := path.Join(string(l.Manifest.Boot.GRUB.Dir), platform)
	tool := l.prefix() + "-bios-setup"
	p, ok := l.Root.LookPath(tool)
	if !ok { // Debian without grub-pc has it beside the modules
		p = path.Join("/usr/lib/grub", platform, tool)
	}
	if _, err := l.Root.Run(ctx, run.Cmd{Path: p, Args: []string{"--directory=" + dir, dev}, Limit: limit}); err != nil {
		return report.Errorf(report.CodeBootloader, chroot.Hint(l.Plan, "run grub-install "+dev), "put GRUB onto %s: %w", dev, err)
	}
	return nil
}

// install runs grub-install, without the options that this version does not
// know.
func (l *Loader) install(ctx context.Context, args []string) error {
	tool := l.prefix() + "-install"
	res, err := l.Root.Run(ctx, run.Cmd{Path: tool, Args: args, Limit: limit})
	if err != nil && strings.Contains(string(res.Stderr), "unrecognized option '--no-floppy'") {
		var fewer []string
		for _, a := range args {
			if a != "--no-floppy" {
				fewer = append(fewer, a)
			}
		}
		_, err = l.Root.Run(ctx, run.Cmd{Path: tool, Args: fewer, Limit: limit})
	}
	if err != nil {
		return report.Errorf(report.CodeBootloader, chroot.Hint(l.Plan, "run "+tool+" to see why"), "install GRUB: %w", err)
	}
	return nil
}

// InstallEFI puts GRUB's EFI program onto an ESP (plan.VerbGRUBEFI). NVRAM is
// another step: an installation must succeed where NVRAM cannot be written.
func (l *Loader) InstallEFI(ctx context.Context, s plan.Step) error {
	mount, err := l.espMount(s.Node)
	if err != nil {
		return err
	}
	g := l.Manifest.Boot.GRUB
	dirs := []string{l.Manifest.Host.OS.ID}
	if g != nil && len(g.EFIDirs) > 0 {
		dirs = g.EFIDirs
	}
	// Red Hat's signed GRUB lies in packages and comes back as files; its
	// grub2-install would put an unsigned one over it.
	if l.prefix() == "grub2" && l.loaderOf(mount, dirs) != "" {
		return l.removable(mount, dirs)
	}
	id := ""
	for _, d := range dirs {
		if !strings.EqualFold(d, "BOOT") {
			id = d
			break
		}
	}
	if id == "" {
		id = "grub"
	}
	args := []string{"--target=" + s.Arg, "--efi-directory=" + mount, "--bootloader-id=" + id, "--no-nvram", "--recheck"}
	if err := l.install(ctx, args); err != nil {
		return err
	}
	return l.removable(mount, append([]string{id}, dirs...))
}

func (l *Loader) espMount(node manifest.ID) (string, error) {
	for _, m := range l.Plan.Target.MountsOf(node) {
		if m.Path != "none" {
			return string(m.Path), nil
		}
	}
	return "", report.Errorf(report.CodeBootloader, "mount the EFI system partition in fstab and capture again", "the EFI system partition %s has no mount point", node)
}

// loaderOf returns the path of the first boot program in the folders: shim
// where there is one.
func (l *Loader) loaderOf(mount string, dirs []string) string {
	for _, d := range dirs {
		for _, f := range []string{"shimx64.efi", "shim.efi", "grubx64.efi", "shimaa64.efi", "grubaa64.efi"} {
			p := path.Join(mount, "EFI", d, f)
			if l.Root.FS.Exists(p) {
				return p
			}
		}
	}
	return ""
}

// removable makes sure of EFI/BOOT/BOOTX64.EFI, which firmware without an
// entry starts: shim with its second stage, else GRUB.
func (l *Loader) removable(mount string, dirs []string) error {
	boot := path.Join(mount, "EFI/BOOT")
	main := map[bool]string{true: "BOOTX64.EFI", false: "BOOTAA64.EFI"}[l.Manifest.Host.OS.Arch != "arm64"]
	if l.Root.FS.Exists(path.Join(boot, main)) {
		return nil
	}
	from := l.loaderOf(mount, dirs)
	if from == "" {
		return report.Errorf(report.CodeBootloader, chroot.Hint(l.Plan, "run grub-install"), "no boot program lies in %s/EFI", mount)
	}
	if err := l.Root.FS.MkdirAll(boot, 0o755); err != nil {
		return fmt.Errorf("make the removable path: %w", err)
	}
	copies := map[string]string{from: main}
	for _, f := range []string{"grubx64.efi", "mmx64.efi", "grubaa64.efi", "mmaa64.efi"} {
		if p := path.Join(path.Dir(from), f); p != from && l.Root.FS.Exists(p) {
			copies[p] = f
		}
	}
	for src, dst := range copies {
		data, err := l.Root.FS.ReadFile(src)
		if err == nil {
			err = l.Root.FS.WriteFile(path.Join(boot, dst), data, 0o755)
		}
		if err != nil {
			return fmt.Errorf("make the removable path: %w", err)
		}
	}
	return nil
}

// partition finds disk device and number under a filesystem.
func (l *Loader) partition(fs manifest.ID) (disk string, number int, err error) {
	for _, n := range l.Plan.Target.Below(fs) {
		if n.Kind == manifest.KindPartition && number == 0 {
			number = n.Partition.Number
		}
		if n.Kind == manifest.KindDisk {
			disk, err = l.Device(n.ID)
			return disk, number, err
		}
	}
	return "", 0, fmt.Errorf("%s lies on no partition", fs)
}
