package bootloader

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"lifeboat/internal/probe"
	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

const nvramLimit = time.Minute

// NVRAM makes the firmware's entry for an ESP, first in order, with the
// restored system's efibootmgr. That NVRAM cannot be written is a note: the
// removable path starts the machine.
func (l *Loader) NVRAM(ctx context.Context, s plan.Step) error {
	const next = "the firmware starts EFI/BOOT instead; make the entry later with efibootmgr"
	mount, err := l.espMount(s.Node)
	if err != nil {
		return err
	}
	var dirs []string
	if g := l.Manifest.Boot.GRUB; g != nil {
		dirs = g.EFIDirs
	}
	file := l.loaderOf(mount, append(dirs, l.Manifest.Host.OS.ID))
	disk, number, err := l.partition(s.Node)
	if err == nil && file == "" {
		err = errors.New("no boot program lies in its folders " + strings.Join(append(dirs, l.Manifest.Host.OS.ID), ", "))
	}
	if err != nil {
		l.warn(report.CodeBootloader, next, "no firmware entry was made for %s: %v", mount, err)
		return nil
	}
	label := l.label(path.Base(path.Dir(file)))
	if err := l.dropStale(ctx, label); err != nil {
		l.warn(report.CodeBootloader, "look at the list of efibootmgr and remove what is old", "old firmware entries were not removed: %v", err)
	}
	efi := strings.ReplaceAll(strings.TrimPrefix(file, mount), "/", `\`)
	_, err = l.Root.Run(ctx, run.Cmd{Path: "efibootmgr", Args: []string{"--create", "--disk", disk,
		"--part", fmt.Sprint(number), "--label", label, "--loader", efi}, Limit: nvramLimit})
	if err != nil {
		l.warn(report.CodeBootloader, next, "no firmware entry was made: %v", err)
	}
	return nil
}

// label is the captured entry's for a folder of the ESP, else the system's id.
func (l *Loader) label(folder string) string {
	label := l.Manifest.Host.OS.ID
	for _, e := range l.Manifest.Boot.Entries {
		if e.Label != "" && strings.Contains(strings.ToLower(e.Loader), strings.ToLower(`\`+folder+`\`)) {
			label = e.Label
		}
	}
	return label
}

// dropStale removes entries of the same label that lead to a partition of
// ours, as earlier installs left them. Another system on another disk may have
// the same label ("debian"): its entry is how that system starts.
func (l *Loader) dropStale(ctx context.Context, label string) error {
	read := l.Entries
	if read == nil {
		read = func() []manifest.EFIEntry { return probe.BootEntries("/sys") }
	}
	own := l.ownPartitions()
	for _, e := range read() {
		if e.Label != label || e.PartUUID == "" || !own[strings.ToLower(e.PartUUID)] {
			continue
		}
		if _, err := l.Root.Run(ctx, run.Cmd{Path: "efibootmgr", Args: []string{"--delete-bootnum", "--bootnum", e.Num}, Limit: nvramLimit}); err != nil {
			return err
		}
	}
	return nil
}

// ownPartitions are the ids, as entries have them, of the partitions of the
// target and of those that were captured from disks whose places were erased.
func (l *Loader) ownPartitions() map[string]bool {
	own := map[string]bool{}
	add := func(s *manifest.Storage, disk manifest.ID) {
		for _, n := range s.Above(disk) {
			if n.Partition == nil || len(n.On) != 1 {
				continue
			}
			if t := s.Node(n.On[0].Node); t != nil && t.Table != nil {
				own[strings.ToLower(probe.PartUUID(*t.Table, *n.Partition))] = true
			}
		}
	}
	for _, a := range l.Plan.Assignments {
		add(&l.Plan.Target, a.Node)
		add(&l.Manifest.Storage, a.Node)
	}
	return own
}
