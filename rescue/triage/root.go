package triage

import (
	"slices"
	"strings"

	"lifeboat/internal/handoff"
	"lifeboat/internal/hostconf/fstab"
	"lifeboat/internal/sysroot"
	"lifeboat/manifest"
)

// root looks at the root filesystem as a system.
func (s *scene) root() {
	if s.tree == nil {
		return
	}
	r := &s.facts.Root
	r.Looked = true
	r.System = osRelease(s.tree)
	r.MachineID, r.HostName = firstLine(s.tree, "etc/machine-id"), firstLine(s.tree, "etc/hostname")
	h := s.m.Host
	known := func(a, b string) bool { return a != "" && b != "" }
	r.OtherHost = known(r.MachineID, h.MachineID) && r.MachineID != h.MachineID && known(r.HostName, h.Name) && !strings.EqualFold(r.HostName, h.Name)
	if st, err := s.tree.Stat("sbin/init"); err != nil || !st.Mode().IsRegular() {
		r.NoInit = true
	}
	r.Unfinished = s.tree.Exists(handoff.JournalDir)
}

func osRelease(root *sysroot.Root) string {
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		b, err := root.ReadFile(name)
		if err != nil {
			continue
		}
		id := ""
		for line := range strings.Lines(string(b)) {
			key, v, _ := strings.Cut(strings.TrimSpace(line), "=")
			v = strings.Trim(v, `"'`)
			switch key {
			case "PRETTY_NAME":
				return v
			case "ID":
				id = v
			}
		}
		if id != "" {
			return id
		}
	}
	return ""
}

func firstLine(root *sysroot.Root, name string) string {
	b, err := root.ReadFile(name)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return strings.TrimSpace(line)
}

// fstab finds lines whose device is not on this machine.
func (s *scene) fstab() {
	b := &s.facts.Boot
	text, err := s.tree.ReadFile("/etc/fstab")
	entries := fstab.Parse(text).Entries()
	if err != nil || len(entries) == 0 {
		// A system without one may well be whole; this one had lines.
		b.FstabGone = slices.ContainsFunc(s.m.Storage.Mounts, func(mt manifest.Mount) bool { return mt.InFstab })
		return
	}
	for _, e := range entries {
		if s.resolves(e.Spec) {
			continue
		}
		x := Spec{Spec: e.Spec, Path: e.Path, Soft: e.Has("nofail") || e.Has("noauto") || e.IsSwap()}
		if mt := s.capturedMount(e, entries); mt != nil {
			x.Node, x.Should = mt.Node, s.shouldBe(mt)
		}
		b.Fstab = append(b.Fstab, x)
	}
}

// capturedMount is the captured line of an entry: of its mount point, or the
// only swap.
func (s *scene) capturedMount(e fstab.Entry, all []fstab.Entry) *manifest.Mount {
	var found []*manifest.Mount
	for i := range s.m.Storage.Mounts {
		mt := &s.m.Storage.Mounts[i]
		n := s.m.Storage.Node(mt.Node)
		switch {
		case n == nil:
		case e.IsSwap() && n.Kind == manifest.KindSwap && mt.InFstab:
			// One that another line names already is not meant.
			if !slices.ContainsFunc(all, func(o fstab.Entry) bool { return o.Spec == mt.Spec }) {
				found = append(found, mt)
			}
		case !e.IsSwap() && n.Kind == manifest.KindFS && string(mt.Path) == e.Path:
			found = append(found, mt)
		}
	}
	if len(found) != 1 {
		return nil
	}
	return found[0]
}

// shouldBe is a name for a captured mount's device that leads to it now, ""
// when there is none.
func (s *scene) shouldBe(mt *manifest.Mount) string {
	i := slices.IndexFunc(s.facts.Filesystems, func(f Filesystem) bool { return f.ID == mt.Node })
	if i < 0 {
		return ""
	}
	f := &s.facts.Filesystems[i]
	if f.State != Same && f.State != Changed && !(f.ESP && f.Vacant) {
		return ""
	}
	// An ESP that is made again gets its captured id.
	if mt.Spec != "" && (s.resolves(mt.Spec) || f.ESP && f.Vacant) {
		return mt.Spec
	}
	if id := orText(f.IsUUID, f.WasUUID); id != "" {
		return "UUID=" + id
	}
	return ""
}

// resolves tells whether the first field of an fstab line leads to something
// on this machine, or is no device at all.
func (s *scene) resolves(spec string) bool {
	tag, value := fstab.Tag(spec)
	if tag == "" {
		if !strings.HasPrefix(spec, "/dev/") {
			return true // a share, a pseudo filesystem, a file
		}
		return s.names[spec] || s.volumeName(spec)
	}
	for i := range s.found.Nodes {
		n := &s.found.Nodes[i]
		uuid, _ := idOf(n)
		label := ""
		switch {
		case n.FS != nil:
			label = n.FS.Label
		case n.Swap != nil:
			label = n.Swap.Label
		}
		switch {
		case tag == "UUID" && uuid != "" && strings.EqualFold(uuid, value), tag == "LABEL" && label != "" && label == value:
			return true
		case n.Partition != nil && tag == "PARTUUID" && strings.EqualFold(s.partUUID(n), value), n.Partition != nil && tag == "PARTLABEL" && n.Partition.Name == value:
			return true
		}
	}
	// An ESP whose filesystem is gone comes back under its captured id.
	return slices.ContainsFunc(s.facts.Filesystems, func(f Filesystem) bool {
		return tag == "UUID" && f.ESP && f.Vacant && strings.EqualFold(f.WasUUID, value)
	})
}

func (s *scene) partUUID(n *manifest.Node) string {
	// The id of a partition's node is made of it.
	u, _ := strings.CutPrefix(string(n.ID), "part:")
	return u
}

// volumeName tells whether /dev/VG/LV names a logical volume.
func (s *scene) volumeName(spec string) bool {
	for _, n := range s.found.OfKind(manifest.KindLV) {
		if len(n.On) == 0 {
			continue
		}
		if vg := s.found.Node(n.On[0].Node); vg != nil && vg.VG != nil && spec == "/dev/"+vg.VG.Name+"/"+n.LV.Name {
			return true
		}
	}
	return false
}
