package probe

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/run"
	"lifeboat/internal/tools/blkid"
	"lifeboat/internal/tools/lvm"
	"lifeboat/manifest"
)

// couldBeRoot are contents by blkid's names in or under which a whole system
// may lie. What cannot be looked into there is told to the planner: it decides
// whether that is doubt (rule 4).
var couldBeRoot = map[string]bool{
	"ext2": true, "ext3": true, "ext4": true, "xfs": true, "btrfs": true, "f2fs": true, "jfs": true, "reiserfs": true, "nilfs2": true, "bcachefs": true,
	lvmMember: true, "crypto_LUKS": true, "BitLocker": true, "bcache": true, "zfs_member": true, "ntfs": true, "VMFS_volume_member": true,
	"linux_raid_member": true, "isw_raid_member": true, "ddf_raid_member": true, "stratis": true, "drbd": true,
}

// cause sorts an error of looking by what it says of the content. Only what
// shows damage says "damaged"; everything that is not understood is "other".
func cause(err error) string {
	var e *run.Error
	var errno unix.Errno
	switch {
	case run.NotFound(err):
		return manifest.UnlookedTool
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return manifest.UnlookedTimeout
	case errors.Is(err, ErrNotLooked):
		return manifest.UnlookedDriver
	case errors.Is(err, blkid.ErrAmbivalent):
		return manifest.UnlookedOther
	case errors.As(err, &e) && (e.Code == 126 || e.Code == 127): // the loader's word for a missing library
		return manifest.UnlookedTool
	case errors.As(err, &errno):
		switch errno {
		case unix.ENODEV: // mount's word for a filesystem that the kernel does not know
			return manifest.UnlookedDriver
		case unix.EUCLEAN, unix.EBADMSG, unix.EIO, unix.EILSEQ, unix.ENODATA, unix.EREMOTEIO:
			return manifest.UnlookedDamaged
		case unix.ETIMEDOUT:
			return manifest.UnlookedTimeout
		}
	}
	return manifest.UnlookedOther
}

// lookCause is the cause why a filesystem was not mounted. The kernel says
// EINVAL to a damaged superblock and to one that is newer than its driver; the
// filesystem's own tool tells them apart.
func (r *Reading) lookCause(ctx context.Context, node, typ string, err error) string {
	if !errors.Is(err, unix.EINVAL) {
		return cause(err)
	}
	read := fsReaders[typ]
	if read == nil {
		return manifest.UnlookedOther
	}
	_, err = read(ctx, r.opt.Run, node)
	var e *run.Error
	switch {
	case err == nil:
		return manifest.UnlookedDriver
	case errors.As(err, &e) && e.Code > 0 && e.Code < 126 && !strings.Contains(strings.ToLower(e.Stderr), "unsupported"):
		return manifest.UnlookedDamaged
	}
	if c := cause(err); c != manifest.UnlookedOther {
		return c
	}
	return manifest.UnlookedOther
}

func noteUnlooked(disks []manifest.MachineDisk, names []string, u manifest.Unlooked) {
	for i := range disks {
		if slices.Contains(names, disks[i].Name) {
			disks[i].Unlooked = append(disks[i].Unlooked, u)
		}
	}
}

func unlooked(device, typ, uuid, why string, err error) manifest.Unlooked {
	u := manifest.Unlooked{Device: device, Type: typ, UUID: uuid, Why: why}
	if err != nil {
		u.Text, _, _ = strings.Cut(err.Error(), "\n")
	}
	return u
}

// closed tells of a device's content what was not looked into: what has no
// reader, or could not be recognised at all. LVM is told by its groups.
func (r *Reading) closed(d *blockdev.Device, c *content) (manifest.Unlooked, bool) {
	switch {
	case c.found == nil && c.err != nil:
		return unlooked(d.Name, "", "", cause(c.err), c.err), true
	case c.found == nil || !couldBeRoot[c.found.Type] || lookOptions[c.found.Type] != "" || c.found.Type == lvmMember:
		return manifest.Unlooked{}, false
	case len(d.Holders) > 0:
		return manifest.Unlooked{}, false // it is open: what is in it is a device of its own
	case c.found.Type == "crypto_LUKS" || c.found.Type == "BitLocker":
		return unlooked(d.Name, c.found.Type, c.found.UUID, manifest.UnlookedLocked, nil), true
	}
	return unlooked(d.Name, c.found.Type, c.found.UUID, manifest.UnlookedDriver, ErrNotLooked), true
}

// unreadMembers tells of the physical volumes when LVM as a whole could not be
// read. One with a label and metadata that are whole is not damaged: lvm may
// have failed because of another.
func (r *Reading) unreadMembers(disks []manifest.MachineDisk) {
	if r.lvmErr == nil {
		return
	}
	for _, d := range r.View.Devices {
		c := r.found[d.Name]
		if c == nil || c.found == nil || c.found.Type != lvmMember {
			continue
		}
		why := cause(r.lvmErr)
		if why == manifest.UnlookedOther && damagedMember(r.View.Node(d)) {
			why = manifest.UnlookedDamaged
		}
		noteUnlooked(disks, r.View.DisksUnder(d), unlooked(d.Name, lvmMember, c.found.UUID, why, r.lvmErr))
	}
}

// damagedMember tells whether a physical volume's own label or metadata cannot
// be read.
func damagedMember(node string) bool {
	f, err := os.Open(node)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = lvm.ReadLabel(f)
	return err != nil && !errors.Is(err, unix.ENXIO)
}

// closedVolumes are volumes of a group that are not opened for a look, because
// that may write, but that may hold a system.
func (r *Reading) closedVolumes(g *closedGroup) (out []manifest.Unlooked) {
	for _, lv := range r.lvm.LVs {
		open := slices.ContainsFunc(g.lvs, func(o lvm.LV) bool { return o.UUID == lv.UUID })
		pool := strings.HasSuffix(lv.Type, "-pool") || lv.Type == "snapshot"
		if lv.VGID == g.UUID && !lv.Hidden && !open && !pool {
			out = append(out, unlooked(g.Name+"/"+lv.Name, "logical volume ("+lv.Type+")", lv.UUID, manifest.UnlookedDriver, ErrNotLooked))
		}
	}
	return out
}

// activateCause is why a volume did not open: a part of its group is missing,
// which is damage, or nothing that is known.
func (g *closedGroup) activateCause(err error) string {
	if c := cause(err); c != manifest.UnlookedOther {
		return c
	}
	if _, err := os.Stat("/dev/mapper/control"); err != nil {
		return manifest.UnlookedDriver
	}
	if g.Partial {
		return manifest.UnlookedDamaged
	}
	return manifest.UnlookedOther
}
