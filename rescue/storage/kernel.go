package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"lifeboat/internal/blockdev"
)

// Layers are taken down by the kernel's own calls: what lies on a disk of the
// dead machine may be of any kind, and the tools for it need not be packed.

// dmIoctl is struct dm_ioctl of linux/dm-ioctl.h.
type dmIoctl struct {
	Version     [3]uint32
	DataSize    uint32
	DataStart   uint32
	TargetCount uint32
	OpenCount   int32
	Flags       uint32
	EventNr     uint32
	_           uint32
	Dev         uint64
	Name        [128]byte
	UUID        [129]byte
	Data        [7]byte
}

const (
	dmDevRemove  = 0xc138fd04 // _IOWR(0xfd, 4, struct dm_ioctl)
	mdStopArray  = 0x932      // _IO(9, 0x32)
	loopClearFD  = 0x4c01
	dmControl    = "mapper/control"
	dmDevNoShift = 12
)

// removeDM removes a device mapper device that nothing holds, and the nodes
// that LVM made for it.
func (s *Storage) removeDM(d *blockdev.Device) error {
	f, err := os.OpenFile(filepath.Join(s.system.Dev, dmControl), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open device mapper: %w", err)
	}
	defer f.Close()
	// The kernel's long form of a device number: eight bits of minor, the
	// major, and the rest of the minor.
	minor := uint64(d.DevNo.Minor)
	io := dmIoctl{Version: [3]uint32{4, 0, 0}, DataSize: uint32(unsafe.Sizeof(dmIoctl{})),
		Dev: minor&0xff | uint64(d.DevNo.Major)<<8 | (minor&^0xff)<<dmDevNoShift}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), dmDevRemove, uintptr(unsafe.Pointer(&io))); errno != 0 && errno != unix.ENXIO {
		return errno
	}
	s.removeNodes(d)
	return nil
}

// removeNodes deletes the names of a device mapper device that is gone: no
// udev does it here, and a name that is left would be taken for a device.
func (s *Storage) removeNodes(d *blockdev.Device) {
	if d.DMName == "" || strings.Contains(d.DMName, "/") {
		return
	}
	_ = os.Remove(filepath.Join(s.system.Dev, "mapper", d.DMName))
	links, _ := filepath.Glob(filepath.Join(s.system.Dev, "*/*"))
	for _, l := range links {
		if t, err := os.Readlink(l); err == nil && t == "../mapper/"+d.DMName || err == nil && t == filepath.Join(s.system.Dev, "mapper", d.DMName) {
			_ = os.Remove(l)
			_ = os.Remove(filepath.Dir(l)) // the group's folder, when it was the last
		}
	}
}

func (s *Storage) stopMD(d *blockdev.Device) error {
	return s.ioctl(d, mdStopArray)
}

func (s *Storage) detachLoop(d *blockdev.Device) error {
	return s.ioctl(d, loopClearFD)
}

func (s *Storage) ioctl(d *blockdev.Device, cmd uint) error {
	f, err := os.OpenFile(filepath.Join(s.system.Dev, d.Name), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetInt(int(f.Fd()), cmd, 0)
}

func isBusy(err error) bool { return errors.Is(err, unix.EBUSY) }

// holders names what the kernel shows to use a device or what stands on it:
// mounts, swaps, devices above, and programs that have it open.
func (s *Storage) holders(node string) []string {
	v, err := s.system.Scan()
	if err != nil {
		return nil
	}
	d := v.ByNode(node)
	if d == nil {
		return nil
	}
	var out []string
	nos := map[uint64]bool{}
	for _, o := range above(v, d) {
		nos[unix.Mkdev(o.DevNo.Major, o.DevNo.Minor)] = true
		if o != d && o.Kind != blockdev.Partition {
			out = append(out, o.Name+" "+o.DMName)
		}
		for _, m := range v.Mounts {
			for _, md := range v.MountDevices(m) {
				if md == o {
					out = append(out, "mount "+m.Path)
				}
			}
		}
	}
	return append(out, s.programs(func(st *unix.Stat_t, _ string) bool {
		return st.Mode&unix.S_IFMT == unix.S_IFBLK && nos[st.Rdev]
	})...)
}

// programs names the processes one of whose open files, working directory,
// root or program matches.
func (s *Storage) programs(match func(st *unix.Stat_t, path string) bool) []string {
	var out []string
	procs, _ := filepath.Glob(filepath.Join(s.system.Proc, "[0-9]*"))
	for _, p := range procs {
		files, _ := filepath.Glob(p + "/fd/*")
		for _, f := range append(files, p+"/cwd", p+"/root", p+"/exe") {
			var st unix.Stat_t
			if unix.Stat(f, &st) != nil {
				continue
			}
			path, _ := os.Readlink(f)
			if !match(&st, path) {
				continue
			}
			name, _ := os.ReadFile(p + "/comm")
			out = append(out, fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), filepath.Base(p)))
			break
		}
	}
	return out
}
