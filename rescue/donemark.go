package rescue

import (
	"fmt"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/internal/handoff"
	"lifeboat/internal/sysroot"
	"lifeboat/manifest"
)

// markForMenu puts the order's id, as the name of a file, where the boot menu
// of a medium that stays in the machine can find it (handoff.DoneFile). It is
// a help for the menu only: what counts is handoff.MarkInTarget, so that a
// filesystem without room for it is a note. Where the order is not done the
// menu must not start what it left: the marks of other orders go all the same.
func (s *session) markForMenu(fs *sysroot.Root, done bool) {
	// A machine that loses its power now must not be told that all is there.
	unix.Sync()
	for _, dir := range menuMounts(s.manifest, &s.plan.Target) {
		if err := dropMarks(fs, dir); err != nil {
			s.w.J.Note("%v", err)
		}
		name := handoff.DoneFile(s.w.Order.ID)
		if name == "" || !done {
			continue
		}
		text := fmt.Sprintf("Lifeboat restored this system on %s (order %s); see %s.\nBy this file the boot menu of its medium starts the local disk. It may be deleted.\n",
			time.Now().UTC().Format(time.RFC3339), s.w.Order.ID, handoff.MarkInTarget)
		// FAT takes no mode but one with all the bits that its mount leaves.
		if err := fs.WriteFile(path.Join(dir, name), []byte(text), 0o755); err != nil {
			s.w.J.Note("The boot menu of this medium will not see on %s that the order is done: %v", dir, err)
		}
	}
}

// dropMarks takes away the marks of other orders, as a backup may hold them.
func dropMarks(fs *sysroot.Root, dir string) error {
	entries, err := fs.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, ok := handoff.DoneOrder(e.Name()); ok && !e.IsDir() {
			if err := fs.Remove(path.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// menuMounts are the mount points of the root filesystem, of the one that
// holds /boot and of the EFI system partitions: an encrypted root, or one that
// the medium's GRUB cannot read, must not hide that the order is done.
func menuMounts(m *manifest.Manifest, target *manifest.Storage) []string {
	nodes := append([]manifest.ID{m.Boot.BootFS}, m.Boot.ESPs...)
	out := []string{"/"}
	seen := map[manifest.ID]bool{}
	for _, mt := range target.Mounts {
		p := string(mt.Path)
		if p == "/" {
			seen[mt.Node] = true
		}
		if mt.Bind != "" || path.Clean(p) != p || p[0] != '/' || seen[mt.Node] || !slices.Contains(nodes, mt.Node) {
			continue
		}
		seen[mt.Node] = true
		out = append(out, p)
	}
	return out
}
