package bootlocal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/manifest"
)

// efivars is where the kernel shows the firmware's variables.
const efivars = "/sys/firmware/efi/efivars"

// bootNext names the entry that the firmware starts once (UEFI, section 3.3).
const bootNext = "BootNext-8be4df61-93ca-11d2-aa0d-00e098032b8c"

// MountVars makes the firmware's variables readable; it does nothing on a
// machine without them.
func MountVars() {
	if _, err := os.Stat(efivars); err == nil {
		_ = unix.Mount("efivarfs", efivars, "efivarfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	}
}

// Entry is the firmware's first entry, in its own order, whose loader really
// lies on a disk of this machine; the rescue medium's is none.
func (d *Disks) Entry() (*manifest.EFIEntry, error) {
	if d.firmware.Mode != manifest.FirmwareUEFI {
		return nil, errors.New("this machine was started by BIOS, which has no entries")
	}
	list := slices.Clone(d.firmware.Entries)
	rank := func(e manifest.EFIEntry) int {
		if i := slices.Index(d.firmware.Order, e.Num); i >= 0 {
			return i
		}
		return len(d.firmware.Order)
	}
	slices.SortStableFunc(list, func(a, b manifest.EFIEntry) int { return rank(a) - rank(b) })
	for i, e := range list {
		if e.Num != "" && e.PartUUID != "" && e.Loader != "" && d.hasLoader(e) {
			return &list[i], nil
		}
	}
	return nil, errors.New("the firmware has no entry that leads to a loader on this machine's disks")
}

// hasLoader tells whether an entry's partition is here and holds its file.
func (d *Disks) hasLoader(e manifest.EFIEntry) bool {
	file := filepath.Clean("/" + strings.ReplaceAll(e.Loader, `\`, "/"))
	for _, f := range d.fs {
		for _, n := range d.graph.Storage.Below(f.node.ID) {
			if n.Kind == manifest.KindPartition && strings.EqualFold(n.Partition.UUID, e.PartUUID) && f.root.Exists(file) {
				return true
			}
		}
	}
	return false
}

// SetNext has the firmware start an entry at the next restart only.
func SetNext(e *manifest.EFIEntry) error {
	n, err := strconv.ParseUint(e.Num, 16, 16)
	if err != nil {
		return fmt.Errorf("the firmware's entry %q has no number: %w", e.Num, err)
	}
	const attributes = 7 // kept over a restart, for firmware and system
	b := binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint32(nil, attributes), uint16(n))
	// efivarfs wants attributes and value in one write.
	f, err := os.OpenFile(filepath.Join(efivars, bootNext), os.O_WRONLY|os.O_CREATE, 0o644)
	if err == nil {
		_, err = f.Write(b)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("tell the firmware to start %s next: %w", e.Label, err)
	}
	return nil
}

// Requests of the kernel's CD driver (linux/cdrom.h).
const (
	cdromEject    = 0x5309
	cdromLockDoor = 0x5329
)

// Eject opens the drive that a medium lies in; it must not be mounted. What is
// no CD drive refuses.
func Eject(node string) error {
	fd, err := unix.Open(node, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the drive %s: %w", node, err)
	}
	defer unix.Close(fd)
	_ = unix.IoctlSetInt(fd, cdromLockDoor, 0)
	if err := unix.IoctlSetInt(fd, cdromEject, 0); err != nil {
		return fmt.Errorf("eject the medium in %s: %w", node, err)
	}
	return nil
}
