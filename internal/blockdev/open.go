package blockdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/manifest"
	"lifeboat/report"
)

// Identity is what a disk must still be just before it is written (rule 6).
// Empty fields are compared too: a serial that appears is a difference.
type Identity struct {
	WWN, Serial, Model string
	Bytes              int64
}

// IdentityOf is the identity of a device of a view.
func IdentityOf(d *Device) Identity {
	return Identity{WWN: d.WWN, Serial: d.Serial, Model: d.Model, Bytes: d.Bytes}
}

// diff names what differs, "" when nothing does.
func (i Identity) diff(now Identity) string {
	var out []string
	cmp := func(what, was, is string) {
		if was != is {
			out = append(out, fmt.Sprintf("%s was %q, is %q", what, was, is))
		}
	}
	cmp("WWN", i.WWN, now.WWN)
	cmp("serial", i.Serial, now.Serial)
	cmp("model", i.Model, now.Model)
	if i.Bytes != now.Bytes {
		out = append(out, fmt.Sprintf("size was %d, is %d bytes", i.Bytes, now.Bytes))
	}
	return strings.Join(out, ", ")
}

// OpenExclusive opens the whole disk of a device number for reading and
// writing so that no other mount, dm, md or swap can claim it while it is
// open, and checks that it is still the disk that the plan was made for.
func (s System) OpenExclusive(no DevNo, want Identity) (*os.File, error) {
	d, err := s.byDevNo(no)
	if err != nil {
		return nil, report.Errorf(report.CodeDiskChanged, "make the plan again", "disk %s (serial %q) is gone: %w", no, want.Serial, err)
	}
	path, err := s.node(d.Name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", d.Name, err)
	}
	// O_EXCL without O_CREAT on a block device: fails with EBUSY when it, or a
	// part of it, is claimed (open(2)).
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, report.Errorf(report.CodeDiskBusy, "unmount or stop what uses it, then try again", "%s is in use%s: %w", path, s.users(d), err)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s for writing: %w", path, err)
	}
	if err := s.recheck(f, no, want); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// recheck compares the opened device with what is wanted: the node may have
// been another device, and the number may have gone to another disk.
func (s System) recheck(f *os.File, no DevNo, want Identity) error {
	changed := func(format string, a ...any) error {
		return report.Errorf(report.CodeDiskChanged, "nothing was written; make the plan again", format, a...)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK || st.Rdev != unix.Mkdev(no.Major, no.Minor) {
		return changed("%s is not the block device %s", f.Name(), no)
	}
	d, err := s.byDevNo(no)
	if err != nil {
		return changed("disk %s vanished: %w", no, err)
	}
	if diff := want.diff(IdentityOf(d)); diff != "" {
		return changed("%s (%s) is not the disk that the plan was made for: %s", d.Name, no, diff)
	}
	if d.ReadOnly {
		return report.Errorf(report.CodeDiskProtected, "take the write protection off", "%s is read-only", d.Name)
	}
	return nil
}

// byDevNo reads one device anew.
func (s System) byDevNo(no DevNo) (*Device, error) {
	dir, err := filepath.EvalSymlinks(filepath.Join(s.Sys, "dev/block", no.String()))
	if err != nil {
		return nil, err
	}
	d, why, err := s.read(nodeName(filepath.Base(dir)), dir)
	if err == nil && why != "" {
		err = fmt.Errorf("%s is no disk: %s", d.Name, why)
	}
	return d, err
}

// users tells who uses a disk, for the message.
func (s System) users(d *Device) string {
	v, err := s.Scan()
	if err != nil {
		return ""
	}
	var out []string
	for _, p := range v.Protections(Uses{})[d.Name] {
		if p.Why != manifest.ProtectReadOnly {
			out = append(out, strings.Join(p.Chain, " → "))
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " by " + strings.Join(out, "; ")
}
