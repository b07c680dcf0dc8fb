package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/hostconf/fstab"
	"lifeboat/internal/tools/swap"
	"lifeboat/manifest"
)

// resolve finds the device that fstab's first field names, and the node that
// lies on it.
func (m *mounter) resolve(spec string) (*blockdev.Device, manifest.ID) {
	tag, value := fstab.Tag(spec)
	if tag == "" {
		if d := m.r.View.ByNode(spec); d != nil {
			return d, m.g.lies[d.Name]
		}
		if d := m.byVolume(spec); d != nil {
			return d, m.g.lies[d.Name]
		}
		if d := m.byLink(spec); d != nil {
			return d, m.g.lies[d.Name]
		}
		return nil, ""
	}
	for _, d := range m.r.View.Devices {
		c := m.r.found[d.Name]
		if id := m.g.lies[d.Name]; c != nil && c.found != nil && id != "" && m.named(d, c, tag, value) {
			return d, id
		}
	}
	return nil, ""
}

func (m *mounter) named(d *blockdev.Device, c *content, tag, value string) bool {
	switch tag {
	case "UUID":
		return strings.EqualFold(c.found.UUID, value)
	case "LABEL":
		return value != "" && (c.found.Label == value || c.fs != nil && c.fs.Label == value || c.swap != nil && c.swap.Label == value)
	}
	if d.Kind != blockdev.Partition {
		return false
	}
	pc := m.r.found[d.Parent]
	if pc == nil || pc.label == nil {
		return false
	}
	for _, p := range pc.label.Partitions {
		if p.Number != d.Number {
			continue
		}
		return tag == "PARTUUID" && strings.EqualFold(PartUUID(pc.label.Table, p), value) || tag == "PARTLABEL" && p.Name == value && value != ""
	}
	return false
}

// byLink finds a device by a link name that does not exist now, or by a link
// below /dev/disk/by-uuid where no udev made one.
func (m *mounter) byLink(spec string) *blockdev.Device {
	rel, ok := strings.CutPrefix(spec, "/dev/disk/")
	if !ok {
		return nil
	}
	for kind, tag := range map[string]string{"by-uuid/": "UUID=", "by-label/": "LABEL=", "by-partuuid/": "PARTUUID=", "by-partlabel/": "PARTLABEL="} {
		if v, ok := strings.CutPrefix(rel, kind); ok {
			d, _ := m.resolve(tag + unhexName(v))
			return d
		}
	}
	for _, d := range m.r.View.Devices {
		for _, l := range m.r.View.Links(d) {
			if l == rel {
				return d
			}
		}
	}
	return nil
}

// byVolume finds the device of /dev/GROUP/VOLUME.
func (m *mounter) byVolume(spec string) *blockdev.Device {
	if m.r.lvm == nil {
		return nil
	}
	for _, lv := range m.r.lvm.LVs {
		if spec == "/dev/"+lv.VG+"/"+lv.Name {
			return m.r.View.ByNode(lv.Path)
		}
	}
	return nil
}

// unhexName undoes udev's \xHH in names of links.
func unhexName(s string) string {
	var b manifest.Bytes
	if b.UnmarshalText([]byte(s)) != nil {
		return s
	}
	return string(b)
}

// swaps adds the swap areas: those in use, and those of fstab.
func (m *mounter) swaps(ctx context.Context) error {
	type use struct {
		entry *fstab.Entry
		live  bool
	}
	uses := map[manifest.ID]*use{}
	var order []manifest.ID
	note := func(id manifest.ID, e *fstab.Entry, live bool) {
		u := uses[id]
		if u == nil {
			u = &use{}
			uses[id] = u
			order = append(order, id)
		}
		if e != nil {
			u.entry = e
		}
		u.live = u.live || live
	}
	for _, s := range m.r.View.Swaps {
		id, err := m.swapNode(ctx, s.Path)
		if err != nil {
			return err
		}
		if id != "" {
			note(id, nil, true)
		}
	}
	for i := range m.fstab {
		e := &m.fstab[i]
		if !e.IsSwap() {
			continue
		}
		_, id := m.resolve(e.Spec)
		if id == "" && m.isFile(e.Spec) {
			var err error
			if id, err = m.swapNode(ctx, e.Spec); err != nil {
				return err
			}
		}
		if id == "" {
			m.leave("none", "swap", e.Spec, Absent)
			continue
		}
		note(id, e, false)
	}
	for _, id := range order {
		u := uses[id]
		mt := manifest.Mount{Path: "none", Node: id, Type: "swap", Live: u.live, Backup: manifest.ScopeNone}
		if u.entry != nil {
			mt.InFstab, mt.Spec, mt.Options = true, u.entry.Spec, u.entry.Options
		}
		m.g.Storage.Mounts = append(m.g.Storage.Mounts, mt)
	}
	return nil
}

// swapNode returns the node of a swap area by device or file, making that of
// a file. Swap in compressed memory and the like is none of the host's: "".
func (m *mounter) swapNode(ctx context.Context, path string) (manifest.ID, error) {
	if d := m.r.View.ByNode(path); d != nil {
		return m.g.lies[d.Name], nil
	}
	if strings.HasPrefix(path, "/dev/") {
		return "", nil
	}
	mi, ok := m.r.View.MountOf(filepath.Clean(path))
	if !ok {
		return "", nil
	}
	devs := m.r.View.MountDevices(mi)
	if len(devs) == 0 || m.g.lies[devs[0].Name] == "" {
		return "", nil
	}
	below := m.g.lies[devs[0].Name]
	sw, err := swap.Read(ctx, m.r.opt.Run, m.r.path(path))
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("the swap file %s vanished while it was read: %w", path, err)
	}
	if err != nil {
		return "", fmt.Errorf("read the swap file: %w", err)
	}
	st, err := os.Stat(m.r.path(path))
	if err != nil {
		return "", fmt.Errorf("read the swap file: %w", err)
	}
	in, err := ReadInode(m.r.path(path))
	if err != nil {
		return "", err
	}
	n := manifest.Node{Kind: manifest.KindSwapFile, Bytes: st.Size(), On: []manifest.Edge{{Node: below, Role: manifest.RoleMember}},
		SwapFile: &manifest.SwapFile{Path: manifest.Bytes(path), Swap: *sw, Inode: in}}
	n.ID = manifest.ID("swapfile:" + sw.UUID)
	if sw.UUID == "" || m.g.Storage.Node(n.ID) != nil {
		if old := m.g.Storage.Node(n.ID); old != nil && old.SwapFile.Path == n.SwapFile.Path {
			return n.ID, nil
		}
		n.ID = manifest.ID("swapfile:" + sw.UUID + "@" + string(below) + path)
	}
	if m.g.Storage.Node(n.ID) == nil {
		m.g.Storage.Nodes = append(m.g.Storage.Nodes, n)
	}
	return n.ID, nil
}
