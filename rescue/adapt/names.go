package adapt

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"lifeboat/internal/hostconf/devname"
	"lifeboat/internal/hostconf/fstab"
	"lifeboat/internal/probe"
	"lifeboat/manifest"
	"lifeboat/report"
)

// kernelNames rewrites devices that files name by the number that the kernel
// gave them on the old hardware (/dev/sda1). What each meant was captured: the
// mount table first, then which content lay on which device. They become the
// captured ids, which the one table of renames then treats like all others.
func (a *Adapter) kernelNames(files []string) error {
	table := a.nameTable()
	for _, name := range files {
		st, err := a.Root.FS.Stat(name)
		if err != nil || !st.Mode().IsRegular() || st.Size() > 16<<20 {
			continue
		}
		old, err := a.Root.FS.ReadFile(name)
		if err != nil {
			return fmt.Errorf("adapt: %w", err)
		}
		text, n := old, 0
		switch {
		case name == "etc/fstab":
			text, n = a.nameFstab(old, table)
		case name == "etc/crypttab":
			text, n = devname.Crypttab(old, table)
		case path.Base(name) == "device.map": // grub-install --recheck writes it anew
			continue
		default:
			text, n = devname.Words(old, table)
		}
		if path.Base(name) == "grubenv" {
			if text = padEnv(text, len(old)); len(text) != len(old) {
				text, n = old, 0 // GRUB takes a block of this size only; the name is told as a leftover
			}
		}
		if n > 0 {
			if err := a.replaced(name, text, st.Raw.Mode&0o7777, n); err != nil {
				return err
			}
		}
		a.leftNames(name, text)
	}
	return nil
}

// nameTable gives the lasting name of each device that had a kernel's name
// when the host was captured.
func (a *Adapter) nameTable() devname.Table {
	t := devname.Table{}
	s := &a.Manifest.Storage
	set := func(device, spec string) {
		if n := "/dev/" + device; device != "" && devname.Is(n) && t[n] == "" {
			t[n] = spec
		}
	}
	// A kernel without initramfs knows PARTUUID= only.
	bare := slices.ContainsFunc(a.Manifest.System.Kernels, func(k manifest.Kernel) bool { return k.Initramfs == "" })
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if spec := contentSpec(n); spec != "" && !(bare && n.ID == a.Manifest.Boot.RootFS) {
			set(n.Seen.Device, spec)
		}
	}
	for _, n := range s.OfKind(manifest.KindPartition) {
		if len(n.On) != 1 {
			continue
		}
		if tb := s.Node(n.On[0].Node); tb != nil && tb.Table != nil {
			if id := probe.PartUUID(*tb.Table, *n.Partition); strings.Trim(id, "0-") != "" {
				set(n.Seen.Device, "PARTUUID="+id)
			}
		}
	}
	return t
}

// contentSpec names what lies on a device, "" when nothing can be named.
func contentSpec(n *manifest.Node) string {
	switch {
	case n.FS != nil && n.FS.UUID != "":
		return "UUID=" + n.FS.UUID
	case n.Swap != nil && n.Swap.UUID != "":
		return "UUID=" + n.Swap.UUID
	case n.LUKS != nil && n.LUKS.UUID != "":
		return "UUID=" + n.LUKS.UUID
	}
	return ""
}

// nameFstab edits the first fields of fstab. What the captured mount of the
// same line stood on counts; a line that was not in use may mean whatever is
// plugged in (noauto), and stays.
func (a *Adapter) nameFstab(text []byte, table devname.Table) ([]byte, int) {
	s := &a.Manifest.Storage
	f := fstab.Parse(text)
	n := 0
	for _, e := range f.Entries() {
		if !devname.Is(e.Spec) {
			continue
		}
		spec := ""
		for _, m := range s.Mounts {
			same := m.Spec == e.Spec && (string(m.Path) == e.Path || m.Path == "none" && e.IsSwap())
			if node := s.Node(m.Node); same && node != nil && (m.Live || !e.Has("noauto")) {
				spec = contentSpec(node)
			}
		}
		if spec == "" && !e.Has("noauto") {
			spec = table[e.Spec]
		}
		if spec != "" {
			f.SetSpec(e.Line, spec)
			n++
		}
	}
	return f.Bytes(), n
}

// leftNames tells what still names a device by number.
func (a *Adapter) leftNames(name string, text []byte) {
	left := devname.Named(text)
	if name == "etc/fstab" {
		left = slices.DeleteFunc(left, func(dev string) bool { return !a.awaited(text, dev) })
	}
	if len(left) == 0 {
		return
	}
	p := report.Problem{Code: report.CodeLeftover, Severity: report.Warning, Object: "/" + name,
		Text: fmt.Sprintf("/%s names %s: on this machine these may be other disks", name, strings.Join(left, ", ")),
		Next: "write UUID= or a name below /dev/disk in their place before the restart"}
	a.Sink.Emit(report.Event{Kind: report.Trouble, Text: p.Text, Problem: &p})
}

// awaited tells whether a line of fstab that is used at the start names a
// device, in its first field or in an option.
func (a *Adapter) awaited(text []byte, dev string) bool {
	for _, e := range fstab.Parse(text).Entries() {
		if e.Has("noauto") || e.Has("nofail") {
			continue
		}
		if e.Spec == dev || slices.Contains(devname.Named([]byte(strings.Join(e.Options, " "))), dev) {
			return true
		}
	}
	return false
}

// captured are the kernel names of the host's disks and partitions when it was
// captured.
func (a *Adapter) captured() map[string]bool {
	out := map[string]bool{}
	for i := range a.Manifest.Storage.Nodes {
		if n := &a.Manifest.Storage.Nodes[i]; (n.Kind == manifest.KindDisk || n.Kind == manifest.KindPartition) && n.Seen.Device != "" {
			out["/dev/"+n.Seen.Device] = true
		}
	}
	return out
}
