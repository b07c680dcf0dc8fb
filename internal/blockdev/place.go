package blockdev

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// place is where a path lies by the kernel's own word. Reading the path as
// text goes wrong with links, bind mounts and mounts of other namespaces, and
// what it misses is a disk that would be erased.
type place struct {
	mount int    // id of the mount, 0 when not known
	dev   DevNo  // of the filesystem; anonymous for those that join devices
	node  *DevNo // the path is this block device
}

// locate asks the kernel where a path leads, or as much of it as exists. ok is
// false for recorded trees and for what cannot be opened.
func (s System) locate(path string) (p place, ok bool) {
	if !s.live {
		return p, false
	}
	fd := -1
	for {
		var err error
		// O_PATH opens nothing: no driver is asked, no access time changes.
		if fd, err = unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0); err == nil {
			break
		}
		if up := filepath.Dir(path); err != unix.ENOENT || up == path {
			return p, false
		} else {
			path = up // an archive that is yet to be written
		}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return p, false
	}
	p.dev = devNo(uint64(st.Dev))
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		n := devNo(uint64(st.Rdev))
		p.node = &n
	}
	info, err := os.ReadFile(filepath.Join(s.Proc, "self/fdinfo", strconv.Itoa(fd)))
	if err != nil {
		return p, true
	}
	for l := range strings.Lines(string(info)) {
		if v, is := strings.CutPrefix(l, "mnt_id:"); is {
			p.mount, _ = strconv.Atoi(strings.TrimSpace(v))
		}
	}
	return p, true
}

func devNo(n uint64) DevNo { return DevNo{unix.Major(n), unix.Minor(n)} }

// mountAt is the mount that a path really leads to, by the kernel, else by
// reading the path.
func (v *View) mountAt(path string) (Mount, bool) {
	if p, ok := v.System.locate(path); ok {
		for _, m := range v.Mounts {
			if m.ID == p.mount {
				return m, true
			}
		}
	}
	return v.MountOf(path)
}

// Carriers are the devices on which a path lies: the device itself for a node,
// else those of its filesystem, for an overlay those of all its folders. Links
// and bind mounts are followed. None for what lies on no block device.
func (v *View) Carriers(path string) []*Device {
	return v.carriers(path, 0)
}

// maxOverlay bounds overlays over overlays; the kernel allows two.
const maxOverlay = 8

func (v *View) carriers(path string, depth int) []*Device {
	if d := v.ByNode(path); d != nil {
		return []*Device{d}
	}
	p, ok := v.System.locate(path)
	if ok && p.node != nil {
		if d := v.byNo[*p.node]; d != nil {
			return []*Device{d}
		}
	}
	var out []*Device
	if d := v.byNo[p.dev]; ok && d != nil {
		out = append(out, d)
	}
	m, known := v.mountAt(path)
	if !known {
		return out
	}
	for _, d := range v.MountDevices(m) {
		if !containsDevice(out, d) {
			out = append(out, d)
		}
	}
	if m.Type == "overlay" && depth < maxOverlay {
		for _, dir := range overlayFolders(m.Super) {
			for _, d := range v.carriers(dir, depth+1) {
				if !containsDevice(out, d) {
					out = append(out, d)
				}
			}
		}
	}
	return out
}

// overlayFolders reads from a superblock's options what an overlay stands on.
func overlayFolders(super string) []string {
	var out []string
	for _, o := range strings.Split(super, ",") {
		k, dirs, _ := strings.Cut(o, "=")
		switch k {
		case "lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir":
			for _, d := range strings.Split(dirs, ":") {
				if strings.HasPrefix(d, "/") {
					out = append(out, d)
				}
			}
		}
	}
	return out
}

// DisksOfFile returns the names of the whole disks that carry an open file:
// whatever its path was or has become.
func (v *View) DisksOfFile(f *os.File) []string {
	return v.DisksOfPath(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
}

// FileDevices are the devices that carry the backing file of a loop device.
func (v *View) FileDevices(d *Device) []*Device {
	if d.Kind != Loop {
		return nil
	}
	// The path in sysfs is what it was in another namespace, and may be
	// mounted over; the loop driver knows the device that the file is, else
	// the filesystem that it lies on.
	for _, no := range []DevNo{d.fileIs, d.fileOn} {
		if o := v.byNo[no]; o != nil && no != (DevNo{}) {
			return []*Device{o}
		}
	}
	if o := v.ByNode(d.File); o != nil {
		return []*Device{o}
	}
	if m, ok := v.MountOf(d.File); ok {
		return v.MountDevices(m)
	}
	return nil
}

// backing asks the loop driver for the filesystem of a backing file, and for
// the device that it is if it is one.
func (s System) backing(name string) (on, is DevNo) {
	if !s.live {
		return on, is
	}
	fd, err := unix.Open(filepath.Join(s.Dev, name), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return on, is
	}
	defer unix.Close(fd)
	info, err := unix.IoctlLoopGetStatus64(fd)
	if err != nil {
		return on, is
	}
	return devNo(info.Device), devNo(info.Rdevice) // encoded like stat's numbers
}

func containsDevice(list []*Device, d *Device) bool {
	for _, o := range list {
		if o == d {
			return true
		}
	}
	return false
}
