package builder

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"lifeboat/backup"
	"lifeboat/internal/blockdev"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// targets are the names of the disks that a recovery of the host onto its own
// hardware erases, and of those that hold what is backed up or starts the
// host: a mount that no plan can rebuild yet is lost with its disk all the
// same, and so would be its backup.
func targets(m *manifest.Manifest) (names []string) {
	p := plan.Make(plan.Input{Manifest: m, Machine: &m.Machine, Policy: plan.Policy{OwnHardware: true}})
	for _, d := range p.Erased {
		names = append(names, d.Name)
	}
	for _, d := range m.OwnDisks() {
		if name := d.Seen.Device; name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// checkOutside refuses a folder or file on a disk which a recovery of this
// host would erase: the backup would be gone with it. The kernel says where it
// lies, whatever links and bind mounts lead there.
func checkOutside(path string, m *manifest.Manifest) error {
	v, err := blockdev.Live().Scan()
	if err != nil {
		return fmt.Errorf("find the disks under %s: %w", path, err)
	}
	return refuseOn(path, v.DisksOfPath(path), targets(m))
}

// checkUpload looks at the open file once more: the host's folder in the store
// may be a link to elsewhere, and mounts may have come or gone.
func checkUpload(up backup.Upload, m *manifest.Manifest) error {
	f := up.Local()
	if f == nil {
		return nil
	}
	v, err := blockdev.Live().Scan()
	if err != nil {
		return fmt.Errorf("find the disks under %s: %w", up.Name(), err)
	}
	return refuseOn(up.Name(), v.DisksOfFile(f), targets(m))
}

func refuseOn(path string, under, targets []string) error {
	var hit []string
	for _, d := range targets {
		if slices.Contains(under, d) {
			hit = append(hit, d)
		}
	}
	if len(hit) == 0 {
		return nil
	}
	sort.Strings(hit)
	return report.Errorf(report.CodeConfig, "use another disk, a network mount or an HTTP store; such a disk must not be part of what is recovered",
		"the backup %s lies on %s, which holds what is backed up, or which a recovery of this host erases", path, strings.Join(hit, ", "))
}
