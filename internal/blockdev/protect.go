package blockdev

import (
	"path/filepath"
	"strings"

	"lifeboat/manifest"
)

// Uses names what the rescue system itself stands on or has opened.
type Uses struct {
	// Medium and Backup are mount points, files below one, or device nodes
	// that carry the rescue medium and the backup in use.
	Medium []string
	Backup []string
	// OpenedMounts are mount points that Lifeboat made, with all below them;
	// OpenedDevices kernel names of dm, md and loop devices that it opened.
	OpenedMounts  []string
	OpenedDevices []string
}

// Protections returns for each whole disk why it must not be written, by
// which chain of devices: rule 2. Disks that nothing protects have no entry.
func (v *View) Protections(u Uses) map[string][]manifest.Protection {
	p := &protector{v: v, out: map[string][]manifest.Protection{}}
	for _, path := range u.Medium {
		p.path(manifest.ProtectMedium, path)
	}
	for _, path := range u.Backup {
		p.path(manifest.ProtectBackup, path)
	}
	for _, m := range v.Mounts {
		if underAny(m.Path, u.OpenedMounts) {
			continue
		}
		for _, d := range v.MountDevices(m) {
			p.device(manifest.ProtectMounted, m.Path, []string{m.Path}, d)
		}
	}
	for _, s := range v.Swaps {
		if d := v.ByNode(s.Path); d != nil {
			p.device(manifest.ProtectMounted, "swap "+s.Path, []string{s.Path}, d)
		} else {
			p.file(manifest.ProtectMounted, "swap "+s.Path, []string{s.Path}, s.Path)
		}
	}
	p.active(u.OpenedDevices)
	for _, d := range v.Disks() {
		if d.ReadOnly {
			p.add(d.Name, manifest.Protection{Why: manifest.ProtectReadOnly, What: d.Name, Chain: []string{d.Name}})
		}
	}
	return p.out
}

type protector struct {
	v   *View
	out map[string][]manifest.Protection
}

func (p *protector) add(disk string, n manifest.Protection) {
	for _, o := range p.out[disk] {
		if o.Why == n.Why && strings.Join(o.Chain, "\n") == strings.Join(n.Chain, "\n") {
			return
		}
	}
	p.out[disk] = append(p.out[disk], n)
}

// path protects what carries a mount point, file or node.
func (p *protector) path(why, path string) {
	if d := p.v.ByNode(path); d != nil {
		p.device(why, path, []string{path}, d)
		return
	}
	p.file(why, path, []string{path}, path)
}

// file protects what carries the mount on which a file lies.
func (p *protector) file(why, what string, chain []string, file string) {
	if m, ok := p.v.mountAt(filepath.Clean(file)); ok && m.Path != chain[len(chain)-1] {
		chain = grow(chain, m.Path)
	}
	for _, d := range p.v.Carriers(filepath.Clean(file)) {
		p.device(why, what, chain, d)
	}
}

// maxChain ends chains that bite their own tail: a loop device whose file
// lies on a filesystem in that very loop device, seen through an overmount.
const maxChain = 64

// device protects every whole disk below d, each by its own chain.
func (p *protector) device(why, what string, chain []string, d *Device) {
	p.v.down(chain, d, func(chain []string, disk *Device) {
		p.add(disk.Name, manifest.Protection{Why: why, What: what, Chain: chain})
	})
}

// active protects what dm, md, loop and the like hold, unless we opened them
// or the chain of a mount told of them already.
func (p *protector) active(opened []string) {
	for _, d := range p.v.Devices {
		if d.Kind == Disk || d.Kind == Partition || contains(opened, d.Name) {
			continue
		}
		// A device that only our own devices stand on is ours below: what is
		// told of it is the holder that we did not open.
		what := d.Name
		switch {
		case d.DMName != "":
			what = d.Name + " (" + d.DMName + ")"
		case d.File != "":
			what = d.Name + " (" + d.File + ")"
		}
		p.v.down(nil, d, func(chain []string, disk *Device) {
			for _, o := range p.out[disk.Name] {
				if contains(o.Chain, d.Name) {
					return
				}
			}
			p.add(disk.Name, manifest.Protection{Why: manifest.ProtectActive, What: what, Chain: chain})
		})
	}
}

// down walks from d to every whole disk below it: parents of partitions,
// slaves of dm, md and bcache, backing files of loop devices.
func (v *View) down(chain []string, d *Device, found func(chain []string, disk *Device)) {
	if len(chain) > maxChain || contains(chain, d.Name) {
		return
	}
	chain = grow(chain, d.Name)
	switch d.Kind {
	case Disk:
		found(chain, d)
	case Partition:
		if p := v.byName[d.Parent]; p != nil {
			v.down(chain, p, found)
		}
	case Loop:
		chain = grow(chain, d.File)
		for _, o := range v.FileDevices(d) {
			v.down(chain, o, found)
		}
	default:
		for _, n := range d.Slaves {
			if s := v.byName[n]; s != nil {
				v.down(chain, s, found)
			}
		}
	}
}

// DisksUnder returns the names of the whole disks that a device stands on,
// each once.
func (v *View) DisksUnder(d *Device) []string {
	var out []string
	v.down(nil, d, func(_ []string, disk *Device) {
		if !contains(out, disk.Name) {
			out = append(out, disk.Name)
		}
	})
	return out
}

// DisksOfPath returns the names of the whole disks that carry a path or node.
func (v *View) DisksOfPath(path string) []string {
	p := &protector{v: v, out: map[string][]manifest.Protection{}}
	p.path("", path)
	var out []string
	for _, d := range v.Disks() {
		if len(p.out[d.Name]) > 0 {
			out = append(out, d.Name)
		}
	}
	return out
}

func grow(chain []string, s string) []string {
	return append(append(make([]string, 0, len(chain)+1), chain...), s)
}

func underAny(path string, dirs []string) bool {
	for _, d := range dirs {
		if Under(path, d) {
			return true
		}
	}
	return false
}
