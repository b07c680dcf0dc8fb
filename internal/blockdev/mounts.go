package blockdev

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Mount is one line of mountinfo (proc_pid_mountinfo(5)).
type Mount struct {
	ID, Parent int
	DevNo      DevNo
	Root       string // path within the filesystem that is mounted
	Path       string // mount point
	Options    string // of the mount
	Type       string
	Source     string
	Super      string // options of the superblock
}

// Swap is one line of /proc/swaps.
type Swap struct {
	Path     string
	Type     string // partition, file
	Bytes    int64
	Priority int
}

// ParseMountinfo reads mountinfo; names keep every byte.
func ParseMountinfo(r io.Reader) ([]Mount, error) {
	var out []Mount
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		m, err := parseMount(sc.Text())
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, sc.Err()
}

func parseMount(line string) (Mount, error) {
	bad := func(what string) (Mount, error) { return Mount{}, fmt.Errorf("mountinfo: %s in %q", what, line) }
	f := strings.Split(line, " ")
	if len(f) < 9 {
		return bad("too few fields")
	}
	var m Mount
	var err error
	if m.ID, err = strconv.Atoi(f[0]); err != nil {
		return bad("no mount id")
	}
	if m.Parent, err = strconv.Atoi(f[1]); err != nil {
		return bad("no parent id")
	}
	if m.DevNo, err = ParseDevNo(f[2]); err != nil {
		return bad("no device number")
	}
	m.Root, m.Path, m.Options = Unescape(f[3]), Unescape(f[4]), f[5]
	// Optional fields end with a single dash.
	i := 6
	for i < len(f) && f[i] != "-" {
		i++
	}
	if len(f) < i+3 {
		return bad("no filesystem")
	}
	m.Type, m.Source = f[i+1], Unescape(f[i+2])
	if len(f) > i+3 {
		m.Super = strings.Join(f[i+3:], " ")
	}
	return m, nil
}

// ParseSwaps reads /proc/swaps.
func ParseSwaps(r io.Reader) ([]Swap, error) {
	var out []Swap
	sc := bufio.NewScanner(r)
	for first := true; sc.Scan(); first = false {
		f := strings.Fields(sc.Text())
		if first || len(f) == 0 {
			continue // the heading
		}
		if len(f) != 5 {
			return nil, fmt.Errorf("swaps: %d fields in %q, not 5", len(f), sc.Text())
		}
		kib, err1 := strconv.ParseInt(f[2], 10, 64)
		prio, err2 := strconv.Atoi(f[4])
		if err1 != nil || err2 != nil || kib < 0 || kib > 1<<52 {
			return nil, fmt.Errorf("swaps: no numbers in %q", sc.Text())
		}
		path, _ := strings.CutSuffix(Unescape(f[0]), " (deleted)")
		out = append(out, Swap{Path: path, Type: f[1], Bytes: kib * 1024, Priority: prio})
	}
	return out, sc.Err()
}

// Unescape undoes the octal escapes that the kernel and fstab write for
// blanks and backslashes; what is no escape stays.
func Unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var o strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				o.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		o.WriteByte(s[i])
	}
	return o.String()
}

// readUse reads mounts, swaps and which devices a btrfs stands on.
func (v *View) readUse() error {
	err := readFile(filepath.Join(v.System.Proc, "self/mountinfo"), func(r io.Reader) (err error) {
		v.Mounts, err = ParseMountinfo(r)
		return err
	})
	if err != nil {
		return err
	}
	// A kernel without swap has no such file.
	err = readFile(filepath.Join(v.System.Proc, "swaps"), func(r io.Reader) (err error) {
		v.Swaps, err = ParseSwaps(r)
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	v.btrfs = map[string][]string{}
	dir := filepath.Join(v.System.Sys, "fs/btrfs")
	for _, uuid := range names(dir) {
		if d := names(filepath.Join(dir, uuid, "devices")); len(d) > 0 {
			v.btrfs[uuid] = d
		}
	}
	return nil
}

func readFile(path string, parse func(io.Reader) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return parse(f)
}

// MountDevices are the devices that a mount stands on: one mostly, more for
// btrfs and bcachefs, none when it is no block device's.
func (v *View) MountDevices(m Mount) []*Device {
	if d := v.byNo[m.DevNo]; d != nil {
		return []*Device{d}
	}
	if m.DevNo.Major != 0 {
		return nil
	}
	// An anonymous number: the filesystem joins devices. Its source names one.
	var out []*Device
	add := func(d *Device) {
		for _, o := range out {
			if o == d {
				return
			}
		}
		out = append(out, d)
	}
	for _, src := range strings.Split(m.Source, ":") {
		d := v.ByNode(src)
		if d == nil {
			continue
		}
		add(d)
		for _, devs := range v.btrfs {
			if m.Type == "btrfs" && contains(devs, d.Name) {
				for _, n := range devs {
					if o := v.byName[n]; o != nil {
						add(o)
					}
				}
			}
		}
	}
	return out
}

// ByNode finds a device by the path of a node or of a link to one.
func (v *View) ByNode(path string) *Device {
	rel, ok := strings.CutPrefix(filepath.Clean(path), "/dev/")
	if !ok {
		return nil
	}
	if d := v.byName[rel]; d != nil {
		return d
	}
	if d := v.mapped(rel); d != nil {
		return d
	}
	real, err := filepath.EvalSymlinks(filepath.Join(v.System.Dev, rel))
	if err != nil {
		return nil
	}
	n, err := filepath.Rel(v.System.Dev, real)
	if err != nil {
		return nil
	}
	if d := v.byName[n]; d != nil {
		return d
	}
	// Without udev the names below /dev/mapper are nodes, not links.
	return v.mapped(n)
}

// mapped returns the device of a name below mapper/, or nil.
func (v *View) mapped(rel string) *Device {
	if n, ok := strings.CutPrefix(rel, "mapper/"); ok {
		for _, d := range v.Devices {
			if d.Kind == DM && d.DMName == n {
				return d
			}
		}
	}
	return nil
}

// MountOf is the mount that a path leads to, as the kernel walks: from the
// root through the mounts that lie on the way, each covering what is under it.
func (v *View) MountOf(path string) (Mount, bool) {
	path = filepath.Clean(path)
	known := map[int]bool{}
	for _, m := range v.Mounts {
		known[m.ID] = true
	}
	at := -1
	for i, m := range v.Mounts { // the root's parent is itself or outside our view
		if m.Path == "/" && (m.Parent == m.ID || !known[m.Parent]) {
			at = i
		}
	}
	if at < 0 {
		return Mount{}, false
	}
	for range v.Mounts { // bounded: broken parents must not turn in circles
		next := -1
		for i, m := range v.Mounts {
			if m.Parent == v.Mounts[at].ID && m.ID != m.Parent && Under(path, m.Path) && (next < 0 || len(m.Path) <= len(v.Mounts[next].Path)) {
				next = i
			}
		}
		if next < 0 {
			break
		}
		at = next
	}
	return v.Mounts[at], true
}

// Visible tells whether a path leads to this mount: it is not covered by
// another.
func (v *View) Visible(m Mount) bool {
	at, ok := v.MountOf(m.Path)
	return ok && at.ID == m.ID
}

// Under tells whether path is dir or lies below it.
func Under(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
