// Package blockdev reads block devices from sysfs.
// Level 1: sysfs identity, parents down to whole disks, waiting for nodes,
// what is in use.
package blockdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
)

// sectorUnit is what sysfs counts sizes and starts in, whatever the disk's
// sectors are.
const sectorUnit = 512

// System is where a kernel shows itself. Tests put recorded trees there.
type System struct {
	Sys  string // mounted sysfs
	Proc string // mounted procfs
	Dev  string // device nodes

	live bool // paths are those of this process: the kernel is asked where they lead
}

// Live is the running kernel.
func Live() System { return System{Sys: "/sys", Proc: "/proc", Dev: "/dev", live: true} }

// DevNo is a device number.
type DevNo struct{ Major, Minor uint32 }

// String is major:minor as sysfs writes it.
func (d DevNo) String() string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

// ParseDevNo reads major:minor.
func ParseDevNo(s string) (DevNo, error) {
	a, b, ok := strings.Cut(strings.TrimSpace(s), ":")
	major, err1 := strconv.ParseUint(a, 10, 32)
	minor, err2 := strconv.ParseUint(b, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return DevNo{}, fmt.Errorf("%q is no device number major:minor", s)
	}
	return DevNo{uint32(major), uint32(minor)}, nil
}

// Kind of a block device.
type Kind string

const (
	Disk      Kind = "disk"      // whole device of real or virtual hardware
	Partition Kind = "partition" // of a disk, md, loop …
	DM        Kind = "dm"
	MD        Kind = "md"
	Loop      Kind = "loop"
	Virtual   Kind = "virtual" // other devices that software makes: bcache, drbd, zvol, nbd
)

// Device is one block device as sysfs shows it.
type Device struct {
	Name      string // kernel name with '/' where the node has it
	DevNo     DevNo
	Kind      Kind
	Bytes     int64
	Logical   int64 // sector sizes in bytes
	Physical  int64
	ReadOnly  bool
	Removable bool
	Rotates   bool

	// Of disks.
	Serial    string // as the device tells it, blanks around it off; may be a placeholder
	WWN       string // sysfs wwid, lower case, blanks as underscores; "" when it is no identity
	Model     string
	Vendor    string
	Transport string // sata, sas, nvme, usb, virtio, iscsi, fc, mmc, scsi, xen …
	BusPath   string // below /sys/devices

	// Of partitions.
	Parent string // name of the device that it is a part of
	Number int
	Start  int64 // bytes

	Partitions []string // names, by number
	Slaves     []string // devices it stands on
	Holders    []string // devices that stand on it

	DMName    string // of dm
	DMUUID    string // of dm: LVM-…, CRYPT-…, mpath-…
	Suspended bool   // dm that holds back all reads and writes
	MDArr     *MDArray
	File      string // backing file of a loop device
	Gone      bool   // the backing file is deleted
	fileOn    DevNo  // filesystem of the backing file, by the loop driver
	fileIs    DevNo  // the backing file itself, where it is a block device
	Driver    string // driver of the device that it hangs on

	sys string // real sysfs folder
}

// MDArray is what sysfs tells of an md array.
type MDArray struct {
	Level    string // raid1 …, "" for a container
	Metadata string // 1.2, external:imsm …
	UUID     string
	State    string // array_state
	Devices  int
	Degraded int
	Sync     string // sync_action
}

// Ignored is a device that is left alone, with the reason.
type Ignored struct{ Name, Reason string }

// View is one reading of block devices, mounts and swaps, consistent in
// itself.
type View struct {
	System  System
	Devices []*Device // by natural order of names
	Ignored []Ignored
	Mounts  []Mount
	Swaps   []Swap

	btrfs  map[string][]string // filesystem UUID → device names
	byName map[string]*Device
	byNo   map[DevNo]*Device

	linksOnce sync.Once
	links     map[string][]string // last part of a node's path → names below /dev/disk
}

// errVanished: a device went while it was read.
var errVanished = errors.New("the device vanished while it was read")

// Scan reads everything. Devices that come and go meanwhile (loop devices of
// other programs) make it start again; when that does not end, the error
// names the device.
func (s System) Scan() (*View, error) {
	var err error
	for range 5 {
		var v *View
		if v, err = s.scan(); err == nil || !errors.Is(err, errVanished) {
			return v, err
		}
	}
	return nil, err
}

func (s System) scan() (*View, error) {
	v := &View{System: s, byName: map[string]*Device{}, byNo: map[DevNo]*Device{}}
	dir := filepath.Join(s.Sys, "class/block")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list block devices: %w", err)
	}
	for _, e := range entries {
		real, err := filepath.EvalSymlinks(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), errVanished)
		}
		d, why, err := s.read(nodeName(e.Name()), real)
		if err != nil {
			return nil, err
		}
		if why != "" {
			v.Ignored = append(v.Ignored, Ignored{d.Name, why})
			continue
		}
		v.Devices = append(v.Devices, d)
		v.byName[d.Name], v.byNo[d.DevNo] = d, d
	}
	sort.Slice(v.Devices, func(i, j int) bool { return natural(v.Devices[i].Name, v.Devices[j].Name) })
	v.relate()
	if err := v.readUse(); err != nil {
		return nil, err
	}
	return v, nil
}

// relate fills partitions and drops relations to devices that are ignored.
func (v *View) relate() {
	known := func(names []string) []string {
		var out []string
		for _, n := range names {
			if v.byName[n] != nil {
				out = append(out, n)
			}
		}
		return out
	}
	for _, d := range v.Devices {
		d.Slaves, d.Holders = known(d.Slaves), known(d.Holders)
		if p := v.byName[d.Parent]; p != nil {
			p.Partitions = append(p.Partitions, d.Name)
		}
	}
	for _, d := range v.Devices {
		sort.Slice(d.Partitions, func(i, j int) bool {
			return v.byName[d.Partitions[i]].Number < v.byName[d.Partitions[j]].Number
		})
	}
}

// Device returns the device of a kernel name, or nil.
func (v *View) Device(name string) *Device { return v.byName[name] }

// ByNo returns the device of a number, or nil.
func (v *View) ByNo(n DevNo) *Device { return v.byNo[n] }

// Disks returns the whole disks.
func (v *View) Disks() []*Device {
	var out []*Device
	for _, d := range v.Devices {
		if d.Kind == Disk {
			out = append(out, d)
		}
	}
	return out
}

// Node is the path of the device's node.
func (v *View) Node(d *Device) string { return filepath.Join(v.System.Dev, d.Name) }

// nodeName turns a sysfs name into the node's: the kernel writes '!' for '/'.
func nodeName(sys string) string { return strings.ReplaceAll(sys, "!", "/") }

// natural orders names with numbers by value: sda2 before sda10.
func natural(a, b string) bool {
	for a != "" && b != "" {
		na, nb := numberLen(a), numberLen(b)
		if na > 0 && nb > 0 {
			x, _ := strconv.ParseUint(a[:na], 10, 64)
			y, _ := strconv.ParseUint(b[:nb], 10, 64)
			if x != y {
				return x < y
			}
			a, b = a[na:], b[nb:]
			continue
		}
		if a[0] != b[0] {
			return a[0] < b[0]
		}
		a, b = a[1:], b[1:]
	}
	return len(a) < len(b)
}

func numberLen(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }
