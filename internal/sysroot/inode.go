package sysroot

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"lifeboat/manifest"
)

// Dress gives the directory name the owner, extended attributes and mode of a
// captured one, in the order that keeps special bits. An inode without a mode
// is one that could not be seen; it changes nothing.
func (r *Root) Dress(name string, i manifest.Inode) error {
	if i.Mode == "" {
		return nil
	}
	mode, err := strconv.ParseUint(i.Mode, 8, 32)
	if err != nil {
		return fmt.Errorf("mode %q of %s is not octal", i.Mode, name)
	}
	d, err := r.OpenDir(name, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer d.Close()
	if err := unix.Fchown(d.FD(), int(i.UID), int(i.GID)); err != nil {
		return fmt.Errorf("give %s its owner: %w", name, err)
	}
	keys := make([]string, 0, len(i.Xattrs))
	for k := range i.Xattrs {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		// Labels of a system that this kernel does not enforce may be refused.
		if err := unix.Fsetxattr(d.FD(), k, i.Xattrs[k], 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("give %s its attribute %s: %w", name, k, err)
		}
	}
	if err := unix.Fchmod(d.FD(), uint32(mode)); err != nil {
		return fmt.Errorf("give %s its mode: %w", name, err)
	}
	return nil
}
