package probe

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/hostconf/fstab"
	"lifeboat/manifest"
)

// Reasons why a mount is not part of the host's data.
const (
	Runtime = "runtime" // made by the running system, gone with it
	Network = "network" // lies on another machine
	InFile  = "loop"    // lies in a file of another filesystem
	Medium  = "medium"  // removable and not in fstab
	Absent  = "absent"  // fstab names a device that is not there
)

// networkTypes are filesystems of other machines; a FUSE type counts by what
// follows the dot.
var networkTypes = map[string]bool{"nfs": true, "nfs4": true, "cifs": true, "smb3": true, "smbfs": true, "ncpfs": true, "ceph": true, "afs": true,
	"9p": true, "virtiofs": true, "vboxsf": true, "vmhgfs": true, "lustre": true, "gpfs": true, "pvfs2": true, "orangefs": true, "coda": true, "glusterfs": true,
	"sshfs": true, "s3fs": true, "rclone": true, "davfs": true, "davfs2": true, "curlftpfs": true, "vmhgfs-fuse": true, "moosefs": true, "mfs": true, "beegfs": true}

// dataTypes hold data of their own though no block device shows under them.
var dataTypes = map[string]bool{"zfs": true, "bcachefs": true, "btrfs": true, "ubifs": true, "jffs2": true, "yaffs2": true}

// kindOfType tells by the type alone why a mount without block device is left
// out; "" when it may hold the host's data. pseudo are the types that the
// kernel needs no device for.
func kindOfType(typ string, pseudo map[string]bool) string {
	sub, fuse := strings.CutPrefix(typ, "fuse.")
	switch {
	case networkTypes[typ] || fuse && networkTypes[sub]:
		return Network
	case dataTypes[typ]:
		return ""
	case fuse || typ == "fuse" || typ == "fusectl" || pseudo[typ]:
		return Runtime
	}
	return ""
}

// pseudoTypes reads which filesystem types need no device.
func (r *Reading) pseudoTypes() map[string]bool {
	out := map[string]bool{"rootfs": true, "autofs": true, "overlay": true, "aufs": true}
	text, err := os.ReadFile(filepath.Join(r.opt.System.Proc, "filesystems"))
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "nodev" {
			out[f[1]] = true
		}
	}
	return out
}

// mounter sorts the mounts of the running system and of fstab.
type mounter struct {
	r      *Reading
	g      *Graph
	fstab  []fstab.Entry
	pseudo map[string]bool
}

// AddMounts adds mounts and swap to the graph: those of mountinfo, and those
// of fstab that are not mounted.
func (r *Reading) AddMounts(ctx context.Context, g *Graph) error {
	text, err := os.ReadFile(r.path("etc/fstab"))
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("read fstab: %w", err)
	}
	m := &mounter{r: r, g: g, fstab: fstab.Parse(text).Entries(), pseudo: r.pseudoTypes()}
	if err := m.all(ctx); err != nil {
		return err
	}
	return r.points(g)
}

// all sorts every mount and swap area.
func (m *mounter) all(ctx context.Context) error {
	for _, mi := range m.r.View.Mounts {
		m.live(mi)
	}
	for _, e := range m.fstab {
		m.unmounted(e)
	}
	if err := m.swaps(ctx); err != nil {
		return err
	}
	m.binds()
	slices.SortStableFunc(m.g.Storage.Mounts, func(a, b manifest.Mount) int { return treeOrder(a) - treeOrder(b) })
	return nil
}

// treeOrder has parents before children and swap last.
func treeOrder(m manifest.Mount) int {
	switch {
	case m.Path == "none":
		return 1 << 20
	case m.Path == "/":
		return 0
	}
	return strings.Count(string(m.Path), "/")
}

// live sorts one mount of the running system.
func (m *mounter) live(mi blockdev.Mount) {
	devs := m.r.View.MountDevices(mi)
	if len(devs) == 0 {
		m.noDevice(mi)
		return
	}
	entry := m.entry(mi.Path)
	leave := func(reason string) { m.leave(mi.Path, mi.Type, mi.Source, reason) }
	for _, d := range devs {
		if m.r.onLoop(d, 0) {
			leave(InFile)
			return
		}
	}
	if entry == nil && mi.Path != "/" && m.removable(devs) {
		leave(Medium)
		return
	}
	node := m.g.lies[devs[0].Name]
	switch {
	case node == "":
		m.g.Uncovered = append(m.g.Uncovered, manifest.Uncovered{Path: manifest.Bytes(mi.Path), Node: m.g.on[devs[0].Name],
			Reason: fmt.Sprintf("%s on %s is mounted, but nothing is recognised there", mi.Type, devs[0].Name)})
		return
	case !m.r.View.Visible(mi):
		if m.shown(mi) {
			leave(Runtime)
			return
		}
		m.g.Uncovered = append(m.g.Uncovered, manifest.Uncovered{Path: manifest.Bytes(mi.Path), Node: node, Reason: "another mount hides it, so its files cannot be read"})
		return
	}
	mt := manifest.Mount{Path: manifest.Bytes(mi.Path), Node: node, Type: mi.Type, Live: true, Backup: manifest.ScopeFull, Options: splitOptions(mi.Options, mi.Super)}
	if mi.Root != "/" {
		mt.Bind = manifest.Bytes(mi.Root)
	}
	if entry != nil {
		mt.InFstab, mt.Spec = true, entry.Spec
		if len(entry.Options) > 0 {
			mt.Options = entry.Options
		}
	}
	m.g.Storage.Mounts = append(m.g.Storage.Mounts, mt)
}

// shown tells whether the whole filesystem of a mount is visible elsewhere.
func (m *mounter) shown(mi blockdev.Mount) bool {
	for _, o := range m.r.View.Mounts {
		if o.ID != mi.ID && o.DevNo == mi.DevNo && blockdev.Under(mi.Root, o.Root) && m.r.View.Visible(o) {
			return true
		}
	}
	return false
}

func splitOptions(options ...string) []string {
	return uniqueStrings(strings.FieldsFunc(strings.Join(options, ","), func(r rune) bool { return r == ',' }))
}

// noDevice sorts a mount that no block device is known for.
func (m *mounter) noDevice(mi blockdev.Mount) {
	reason := kindOfType(mi.Type, m.pseudo)
	if mi.DevNo.Major != 0 {
		reason = Medium // an optical disc, a floppy: devices that are never looked at
	}
	switch {
	case mi.Type == "rootfs": // what the kernel began with, always there and always covered
	case mi.Path == "/":
		m.uncovered(mi, "the root filesystem is of type "+mi.Type+", which lies on no disk")
	case reason != "":
		m.leave(mi.Path, mi.Type, mi.Source, reason)
	default:
		m.uncovered(mi, "a filesystem of type "+mi.Type+" cannot be rebuilt by this version")
	}
}

// uncovered notes a mount for which the graph has no node of its own; a pool
// is found by its name.
func (m *mounter) uncovered(mi blockdev.Mount, why string) {
	u := manifest.Uncovered{Path: manifest.Bytes(mi.Path), Reason: why}
	pool, _, _ := strings.Cut(mi.Source, "/")
	for _, n := range m.g.Storage.Nodes {
		if n.Kind == manifest.KindUnknown && pool != "" && n.Seen.Name == pool {
			m.g.Storage.Mounts = append(m.g.Storage.Mounts, manifest.Mount{Path: u.Path, Node: n.ID, Type: mi.Type, Live: true, Backup: manifest.ScopeFull,
				Options: splitOptions(mi.Options), Bind: manifest.Bytes(strings.TrimPrefix(mi.Source, pool))})
			return
		}
	}
	m.g.Uncovered = append(m.g.Uncovered, u)
}

func (m *mounter) leave(path, typ, source, reason string) {
	m.g.LeftOut = append(m.g.LeftOut, manifest.LeftOut{Path: manifest.Bytes(path), Type: typ, Source: manifest.Bytes(source), Reason: reason})
}

// removable tells whether a mount lies on disks that are plugged in for a
// while, none of which the root filesystem uses.
func (m *mounter) removable(devs []*blockdev.Device) bool {
	root := m.r.View.DisksOfPath("/")
	for _, d := range devs {
		for _, n := range m.r.View.DisksUnder(d) {
			disk := m.r.View.Device(n)
			if !disk.Removable && disk.Transport != "usb" || slices.Contains(root, n) {
				return false
			}
		}
	}
	return true
}

func (m *mounter) entry(path string) *fstab.Entry {
	for i := range m.fstab {
		if e := &m.fstab[i]; !e.IsSwap() && filepath.Clean(e.Path) == path {
			return e
		}
	}
	return nil
}

// unmounted adds an entry of fstab that is not mounted now: it stays in
// fstab, and its files are in no backup.
func (m *mounter) unmounted(e fstab.Entry) {
	path := filepath.Clean(e.Path)
	if e.IsSwap() || !filepath.IsAbs(e.Path) || m.have(path) {
		return
	}
	d, node := m.resolve(e.Spec)
	switch {
	case e.Has("bind") || e.Has("rbind"):
		m.leave(path, e.Type, e.Spec, Runtime)
	case kindOfType(e.Type, m.pseudo) != "":
		m.leave(path, e.Type, e.Spec, kindOfType(e.Type, m.pseudo))
	case e.Has("_netdev") && d == nil:
		m.leave(path, e.Type, e.Spec, Network)
	case e.Has("loop") || m.isFile(e.Spec):
		m.leave(path, e.Type, e.Spec, InFile)
	case m.ignored(e.Spec):
		m.leave(path, e.Type, e.Spec, Medium)
	case node == "":
		m.leave(path, e.Type, e.Spec, Absent)
	default:
		m.g.Storage.Mounts = append(m.g.Storage.Mounts, manifest.Mount{Path: manifest.Bytes(path), Node: node, Type: e.Type, Spec: e.Spec,
			Options: e.Options, InFstab: true, Backup: manifest.ScopeExclude})
	}
}

func (m *mounter) have(path string) bool {
	p := manifest.Bytes(path)
	for _, x := range m.g.Storage.Mounts {
		if x.Path == p {
			return true
		}
	}
	// An automount waits at its place without anything mounted on it.
	for _, x := range m.g.LeftOut {
		if x.Path == p && x.Type != "autofs" {
			return true
		}
	}
	for _, x := range m.g.Uncovered {
		if x.Path == p {
			return true
		}
	}
	return false
}

func (m *mounter) isFile(spec string) bool {
	if strings.HasPrefix(spec, "/dev/") || !filepath.IsAbs(spec) {
		return false
	}
	st, err := os.Stat(m.r.path(spec))
	return err == nil && st.Mode().IsRegular()
}

// ignored tells whether a spec is a device that is never looked at (cdrom).
func (m *mounter) ignored(spec string) bool {
	rel, ok := strings.CutPrefix(spec, "/dev/")
	if !ok {
		return false
	}
	if real, err := filepath.EvalSymlinks(filepath.Join(m.r.opt.System.Dev, rel)); err == nil {
		rel, _ = filepath.Rel(m.r.opt.System.Dev, real)
	}
	for _, i := range m.r.View.Ignored {
		if i.Name == rel {
			return true
		}
	}
	return false
}

// binds leaves one mount that stands for each filesystem; the others show
// parts of it: those of fstab stay, those of the running system go.
func (m *mounter) binds() {
	s := &m.g.Storage
	main := map[manifest.ID]int{}
	better := func(a, b manifest.Mount) bool { // a stands rather than b
		if (a.Bind == "") != (b.Bind == "") {
			return a.Bind == ""
		}
		if a.Live != b.Live {
			return a.Live
		}
		if a.InFstab != b.InFstab {
			return a.InFstab
		}
		return treeOrder(a) < treeOrder(b)
	}
	for i, mt := range s.Mounts {
		if mt.Path == "none" {
			continue
		}
		if j, ok := main[mt.Node]; !ok || better(mt, s.Mounts[j]) {
			main[mt.Node] = i
		}
	}
	var kept []manifest.Mount
	for i, mt := range s.Mounts {
		n := s.Node(mt.Node)
		switch {
		case mt.Path == "none" || n.Kind == manifest.KindUnknown && (main[mt.Node] == i || s.Mounts[main[mt.Node]].Bind != ""):
			// Subvolumes of one filesystem are no views of each other.
		case main[mt.Node] != i && mt.InFstab:
			mt.Backup = manifest.ScopeExclude
		case main[mt.Node] != i:
			m.leave(string(mt.Path), mt.Type, m.r.opt.System.Dev+"/"+m.below(n), Runtime)
			continue
		case mt.Bind != "":
			m.g.Uncovered = append(m.g.Uncovered, manifest.Uncovered{Path: mt.Path, Node: mt.Node,
				Reason: fmt.Sprintf("only the part %s of its filesystem is mounted", mt.Bind)})
			continue
		}
		kept = append(kept, mt)
	}
	s.Mounts = kept
	for i := range s.Mounts {
		if mt := &s.Mounts[i]; mt.Live && mt.Path != "none" && mt.Bind == "" {
			m.used(mt)
		}
	}
}

// below is the kernel name of the device that a node lies on.
func (m *mounter) below(n *manifest.Node) string {
	for name, id := range m.g.lies {
		if id == n.ID {
			return name
		}
	}
	return n.Seen.Device
}

// used notes how many bytes of a filesystem are taken.
func (m *mounter) used(mt *manifest.Mount) {
	var st unix.Statfs_t
	if unix.Statfs(m.r.path(string(mt.Path)), &st) != nil {
		return
	}
	if n := m.g.Storage.Node(mt.Node); n != nil && n.Seen.Used == 0 && st.Frsize > 0 {
		n.Seen.Used = int64(st.Blocks-st.Bfree) * st.Frsize
	}
}
