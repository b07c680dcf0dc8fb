package probe

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/handoff"
	"lifeboat/internal/sysroot"
	"lifeboat/internal/tools/blkid"
	"lifeboat/internal/tools/lvm"
	"lifeboat/manifest"
)

// marks looks for roots of systems on the disks (rule 4), and tells what could
// be one and was not looked into, with the cause.
func (r *Reading) marks(ctx context.Context, disks []manifest.MachineDisk) {
	for _, d := range r.View.Devices {
		c := r.found[d.Name]
		if c == nil || r.opened(d.Name) {
			continue
		}
		if u, ok := r.closed(d, c); ok {
			noteUnlooked(disks, r.View.DisksUnder(d), u)
		}
		if c.found == nil || lookOptions[c.found.Type] == "" {
			continue
		}
		r.lookInto(ctx, disks, r.View.DisksUnder(d), d.Name, r.View.Node(d), c.found)
	}
	r.volumeMarks(ctx, disks)
	r.unreadMembers(disks)
}

func (r *Reading) opened(name string) bool { return slices.Contains(r.opt.OpenedDevices, name) }

func note(disks []manifest.MachineDisk, names []string, m manifest.Mark) {
	for i := range disks {
		if slices.Contains(names, disks[i].Name) {
			disks[i].Marks = append(disks[i].Marks, m)
		}
	}
}

// lookInto looks into one filesystem that lies on the disks under, and notes
// the mark that it holds or why it could not be looked at.
func (r *Reading) lookInto(ctx context.Context, disks []manifest.MachineDisk, under []string, device, node string, f *blkid.Found) {
	m, err := look(node, f.Type)
	switch {
	case err != nil && couldBeRoot[f.Type]:
		noteUnlooked(disks, under, unlooked(device, f.Type, f.UUID, r.lookCause(ctx, node, f.Type, err), err))
	case m != nil:
		m.Device = device
		note(disks, under, *m)
	}
}

// volumeMarks looks into the logical volumes of groups of which none is
// active; the devices of the others were looked at by themselves.
func (r *Reading) volumeMarks(ctx context.Context, disks []manifest.MachineDisk) {
	for _, g := range r.closedGroups(ctx) {
		for _, u := range r.closedVolumes(&g) {
			noteUnlooked(disks, g.under, u)
		}
		for _, lv := range g.lvs {
			name := g.Name + "/" + lv.Name
			if err := g.tool.Activate(ctx, g.Name, lv.Name); err != nil {
				noteUnlooked(disks, g.under, unlooked(name, "logical volume", lv.UUID, g.activateCause(err), err))
				continue
			}
			f, err := blkid.Probe(ctx, r.opt.Run, lv.Path)
			switch {
			case errors.Is(err, blkid.ErrNone):
			case err != nil:
				noteUnlooked(disks, g.under, unlooked(name, "logical volume", lv.UUID, cause(err), err))
			case lookOptions[f.Type] != "":
				r.lookInto(ctx, disks, g.under, name, lv.Path, f)
			default:
				if u, ok := r.closed(&blockdev.Device{Name: name}, &content{found: f}); ok {
					noteUnlooked(disks, g.under, u)
				}
			}
		}
		// What stays active is seen as protection by the next reading, and
		// nothing is erased then: not wrong, and said by lvm's own log line.
		_ = g.tool.Deactivate(context.WithoutCancel(ctx), g.Name)
	}
}

func (r *Reading) active(vg string) bool {
	return slices.ContainsFunc(r.lvm.LVs, func(lv lvm.LV) bool { return lv.VGID == vg && lv.DevNo != "" })
}

// look mounts a filesystem read-only and reads the mark of a root on it; nil
// when it holds none.
func look(node, typ string) (*manifest.Mark, error) {
	dir, err := os.MkdirTemp("/run", "lifeboat-look-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(dir)
	if err := Peek(node, typ, dir); err != nil {
		return nil, err
	}
	defer func() {
		if unix.Unmount(dir, 0) != nil {
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	}()
	root, err := sysroot.Open(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	m := markOf(root)
	if m == nil {
		return doneMark(root), nil
	}
	if strings.HasPrefix(typ, "ext") {
		if t := extTime(node); t > newestOf(m) {
			m.Newest = stamp(t)
		}
	}
	return m, nil
}

// doneMark reads the mark of an order that was carried out, on a filesystem
// that is no root: the root itself may be encrypted.
func doneMark(root *sysroot.Root) *manifest.Mark {
	entries, err := root.ReadDir("/")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if order, ok := handoff.DoneOrder(e.Name()); ok {
			return &manifest.Mark{Order: order}
		}
	}
	return nil
}

// life are files and folders whose time tells when a system was last used.
var life = []string{"etc", "etc/adjtime", "var/log", "var/log/wtmp", "var/log/lastlog", "var/log/syslog", "var/log/messages",
	"var/lib/systemd/random-seed", "var/lib/systemd/timesync/clock", "var/lib/systemd/timers", "var/tmp", "tmp", "root", "boot/grub/grubenv", "boot/grub2/grubenv"}

// markOf reads the mark of a root filesystem; nil when it is none.
func markOf(root *sysroot.Root) *manifest.Mark {
	line := func(name string) string {
		b, err := root.ReadFile(name)
		if err != nil {
			return ""
		}
		first, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
		return strings.TrimSpace(first)
	}
	// Links count by themselves: with a separate /usr they lead nowhere here.
	sign := func(name string) bool { _, err := root.Lstat(name); return err == nil }
	if !sign("etc/os-release") && !sign("usr/lib/os-release") && !sign("etc/fstab") && !sign("etc/passwd") {
		return nil
	}
	m := &manifest.Mark{Host: line("etc/hostname"), MachineID: line("etc/machine-id"), Unfinished: root.Exists(handoff.JournalDir)}
	if st, err := root.Lstat(path.Join(handoff.JournalDir, "journal.jsonl")); err == nil {
		m.Journal = stamp(st.ModTime().Unix())
	}
	if m.Host == "" && m.MachineID == "" {
		return nil
	}
	if b, err := root.ReadFile(handoff.MarkInTarget); err == nil {
		var done struct {
			Order string    `json:"order"`
			State string    `json:"state"` // none in marks of earlier versions
			Lost  int64     `json:"lost"`
			Time  time.Time `json:"time"`
		}
		if json.Unmarshal(b, &done) == nil {
			m.Order = done.Order
			if done.State == handoff.MarkFailed {
				m.Lost, m.Ended = max(done.Lost, 1), stamp(done.Time.Unix())
			}
		}
	}
	names := slices.Clone(life)
	for _, dir := range []string{"var/log/journal", "var/lib/systemd/timers"} {
		entries, _ := root.ReadDir(dir)
		for _, e := range entries {
			names = append(names, path.Join(dir, e.Name()))
			if dir == "var/log/journal" {
				names = append(names, path.Join(dir, e.Name(), "system.journal"))
			}
		}
	}
	newest := int64(0)
	for _, n := range names {
		if st, err := root.Lstat(n); err == nil {
			newest = max(newest, st.ModTime().Unix())
		}
	}
	m.Newest = stamp(newest)
	return m
}

func stamp(unixTime int64) string { return time.Unix(unixTime, 0).UTC().Format(time.RFC3339) }

func newestOf(m *manifest.Mark) int64 {
	t, err := time.Parse(time.RFC3339, m.Newest)
	if err != nil {
		return 0
	}
	return t.Unix()
}

// extTime is the later of the superblock's times of mount and of writing
// (ext4 disk layout: s_mtime, s_wtime and their high bytes).
func extTime(node string) int64 {
	f, err := os.Open(node)
	if err != nil {
		return 0
	}
	defer f.Close()
	b := make([]byte, 1024)
	if _, err := f.ReadAt(b, 1024); err != nil || binary.LittleEndian.Uint16(b[0x38:]) != 0xef53 {
		return 0
	}
	at := func(lo, hi int) int64 { return int64(binary.LittleEndian.Uint32(b[lo:])) | int64(b[hi])<<32 }
	return max(at(0x2c, 0x275), at(0x30, 0x274))
}
