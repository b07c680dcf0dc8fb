package blockdev

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// attr reads one attribute without outer blanks; "" when there is none.
func attr(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.Trim(string(b), " \t\r\n\x00")
}

func has(dir, name string) bool {
	_, err := os.Lstat(filepath.Join(dir, name))
	return err == nil
}

// number reads a required attribute; without it the device is gone.
func number(dir, name string) (int64, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return 0, fmt.Errorf("%s: %w (%v)", filepath.Base(dir), errVanished, err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %s is %q, no number", filepath.Base(dir), name, b)
	}
	return n, nil
}

func names(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		out = append(out, nodeName(e.Name()))
	}
	return out
}

// emmcArea matches the hardware areas of eMMC that the kernel shows as disks;
// reading them fails or hangs, and nothing of a system lies there.
var emmcArea = regexp.MustCompile(`^mmcblk[0-9]+(boot[0-9]+|rpmb)$`)

// Majors that the kernel fixed for good (Documentation/admin-guide/devices.txt).
const (
	majorRAM    = 1
	majorFloppy = 2
	majorLoop   = 7
	majorCDROM  = 11
	majorMTD    = 31
)

// read reads one device; why is set when it is to be left alone.
func (s System) read(name, dir string) (d *Device, why string, err error) {
	d = &Device{Name: name, sys: dir}
	if d.DevNo, err = ParseDevNo(attr(dir, "dev")); err != nil {
		return d, "", fmt.Errorf("%s: %w", name, errVanished)
	}
	size, err := number(dir, "size")
	if err != nil {
		return d, "", err
	}
	d.Bytes = size * sectorUnit
	if why = ignore(d, dir); why != "" {
		return d, why, nil
	}
	d.ReadOnly = attr(dir, "ro") == "1"
	d.Slaves, d.Holders = names(filepath.Join(dir, "slaves")), names(filepath.Join(dir, "holders"))
	queue := dir
	switch {
	case has(dir, "partition"):
		d.Kind = Partition
		// The folder above is the device that it is a part of: sysfs says.
		queue = filepath.Dir(dir)
		d.Parent = nodeName(filepath.Base(queue))
		n, err := number(dir, "partition")
		if err != nil {
			return d, "", err
		}
		start, err := number(dir, "start")
		if err != nil {
			return d, "", err
		}
		d.Number, d.Start = int(n), start*sectorUnit
	case has(dir, "dm"):
		d.Kind, d.DMName, d.DMUUID = DM, attr(dir, "dm/name"), attr(dir, "dm/uuid")
		d.Suspended = attr(dir, "dm/suspended") == "1"
	case has(dir, "md"):
		d.Kind, d.MDArr = MD, readMD(dir)
	case d.DevNo.Major == majorLoop:
		d.Kind = Loop
		d.File, d.Gone = strings.CutSuffix(attr(dir, "loop/backing_file"), " (deleted)")
		d.fileOn, d.fileIs = s.backing(name)
	case has(dir, "device"):
		d.Kind = Disk
		s.identify(d)
	default:
		d.Kind = Virtual
	}
	d.Removable = attr(dir, "removable") == "1"
	d.Logical, d.Physical = sector(queue, "queue/logical_block_size"), sector(queue, "queue/physical_block_size")
	d.Rotates = attr(queue, "queue/rotational") == "1"
	return d, "", nil
}

// ignore tells why a device is none of ours. Such a device is never opened.
func ignore(d *Device, dir string) string {
	switch {
	case attr(dir, "hidden") == "1":
		return "a path of a device that the kernel joins by itself"
	case d.DevNo.Major == majorRAM:
		return "memory disk"
	case has(dir, "comp_algorithm") && has(dir, "mm_stat"):
		return "compressed memory (zram)"
	case d.DevNo.Major == majorFloppy:
		return "floppy drive"
	case d.DevNo.Major == majorCDROM:
		return "optical drive"
	case d.DevNo.Major == majorMTD:
		return "flash memory of the board"
	case emmcArea.MatchString(d.Name):
		return "hardware area of an eMMC"
	case d.DevNo.Major == majorLoop && !has(dir, "partition") && attr(dir, "loop/backing_file") == "":
		return "loop device without a file"
	case d.Bytes == 0 && !has(dir, "dm") && !has(dir, "md"):
		return "no medium"
	}
	return ""
}

func sector(dir, name string) int64 {
	n, err := strconv.ParseInt(attr(dir, name), 10, 64)
	if err != nil || n <= 0 {
		return sectorUnit
	}
	return n
}

func readMD(dir string) *MDArray {
	at := func(n string) string { return attr(dir, "md/"+n) }
	devices, _ := strconv.Atoi(strings.Fields(at("raid_disks") + " 0")[0])
	degraded, _ := strconv.Atoi(at("degraded"))
	return &MDArray{
		Level: at("level"), Metadata: at("metadata_version"), UUID: at("uuid"), State: at("array_state"),
		Devices: devices, Degraded: degraded, Sync: at("sync_action"),
	}
}
