package plan

import (
	"slices"
	"strings"

	"lifeboat/manifest"
	"lifeboat/report"
)

// probes are arguments with which a tool is known to do nothing but answer,
// and to end with status 0. A tool that has none is only looked for.
var probes = map[string]string{
	"lvm": "version", "mke2fs": "-V", "dumpe2fs": "-V", "e2fsck": "-V", "mkfs.xfs": "-V", "xfs_db": "-V",
	"xfs_repair": "-V", "xfs_admin": "-V", "mkfs.vfat": "--help", "mkswap": "--version", "wipefs": "--version", "blkid": "--version",
	"tar": "--version", "mdadm": "--version", "cryptsetup": "--version", "mkfs.btrfs": "-V", "rsync": "--version",
	"restic": "version", "borg": "--version",
}

// fsNeed is what making, mounting and reading back a filesystem needs, and
// mending it when the machine went down while it was filled.
type fsNeed struct {
	tools, modules []string
}

var fsNeeds = map[string]fsNeed{
	"ext2": {[]string{"mke2fs", "tune2fs", "dumpe2fs", "e2fsck"}, []string{"ext4"}},
	"ext3": {[]string{"mke2fs", "tune2fs", "dumpe2fs", "e2fsck"}, []string{"ext4"}},
	"ext4": {[]string{"mke2fs", "tune2fs", "dumpe2fs", "e2fsck"}, []string{"ext4"}},
	"xfs":  {[]string{"mkfs.xfs", "xfs_db"}, []string{"xfs"}},
	// The kernel asks for code page and character set by name at mount.
	"vfat": {[]string{"mkfs.vfat", "fsck.vfat"}, []string{"vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1"}},
}

// lowMemory is below what a restore is comfortable with, bytes.
const lowMemory = 384 << 20

// makeNeeds collects what the steps need, each tool with the first step that
// needs it.
func (k *maker) makeNeeds() {
	n := &k.p.Needs
	n.Memory = lowMemory
	for _, s := range k.p.Steps {
		switch s.Verb {
		case VerbWipe:
			// The disks are looked at once more before the first write.
			n.tool("blkid", s.ID)
			n.tool("wipefs", s.ID)
		case VerbPV, VerbVG, VerbLV:
			n.tool("lvm", s.ID)
			n.Modules = addOnce(n.Modules, "dm_mod")
		case VerbMkfs:
			f := k.p.Target.Node(s.Node).FS
			for _, t := range fsNeeds[f.Type].tools {
				n.tool(t, s.ID)
			}
			for _, m := range fsNeeds[f.Type].modules {
				n.Modules = addOnce(n.Modules, m)
			}
			n.Kernel = addOnce(n.Kernel, f.Type)
		case VerbActivate:
			n.tool("lvm", s.ID)
			n.Modules = addOnce(n.Modules, "dm_mod")
		case VerbMount, VerbMountRO:
			if f := k.p.Target.Node(s.Node); f != nil && f.FS != nil {
				n.Kernel = addOnce(n.Kernel, f.FS.Type)
			}
		case VerbMkswap, VerbSwapFile:
			n.tool("mkswap", s.ID)
		case VerbRestore:
			for _, t := range k.in.Policy.BackupNeeds {
				n.tool(t, s.ID)
			}
		case VerbGRUB, VerbGRUBEFI:
			n.Loaders = addOnce(n.Loaders, k.grubModules(s.Arg))
			n.InTarget = addOnce(n.InTarget, k.grubPrefix()+"-install")
		case VerbNVRAM:
			n.Modules = addOnce(n.Modules, "efivarfs")
			n.Kernel = addOnce(n.Kernel, "efivarfs")
		case VerbInitramfs:
			if t := initramfsPrograms[k.m.System.Initramfs]; t != "" {
				n.InTarget = addOnce(n.InTarget, t)
			}
		}
	}
	k.networkNeeds()
	slices.Sort(n.Modules)
	slices.Sort(n.Kernel)
}

// initramfsPrograms build an initramfs in the restored system.
var initramfsPrograms = map[string]string{manifest.InitramfsTools: "update-initramfs", manifest.Dracut: "dracut",
	manifest.Mkinitcpio: "mkinitcpio", manifest.Booster: "booster"}

func (n *Needs) tool(name, step string) {
	for _, t := range n.Tools {
		if t.Name == name {
			return
		}
	}
	n.Tools = append(n.Tools, ToolNeed{Name: name, Step: step, Probe: probes[name]})
}

func (k *maker) grubPrefix() string {
	if p := k.m.Boot.GRUB.Prefix; p != "" {
		return p
	}
	return "grub"
}

// grubModules is the file by which a platform's modules are known to be
// there. SUSE keeps them below /usr/share.
func (k *maker) grubModules(platform string) string {
	dir := "/usr/lib/grub/"
	if os := k.m.Host.OS; slices.Contains(os.IDLike, "suse") || strings.HasPrefix(os.ID, "opensuse") || os.ID == "sles" {
		dir = "/usr/share/grub2/"
	}
	return dir + platform + "/modinfo.sh"
}

// checkNeeds compares the needs with what the rescue system has. Elsewhere
// nothing is known about it yet.
func (k *maker) checkNeeds() {
	if !k.mach.Rescue || k.in.Policy.OwnHardware {
		return
	}
	for _, t := range k.p.Needs.Tools {
		i := slices.IndexFunc(k.mach.Tools, func(m manifest.Tool) bool { return m.Name == t.Name })
		what := "is not in the image"
		if i >= 0 {
			m := k.mach.Tools[i]
			if m.Works || t.Probe == "" && m.Problem == "" {
				continue
			}
			what = "does not run: " + quote(m.Problem)
		}
		k.refuse(report.CodeToolMissing, t.Name, "build the image again on the host", "the program %s, which %s needs, %s", t.Name, k.stepText(t.Step), what)
	}
	for _, m := range k.p.Needs.Modules {
		if forNetwork(m) && !slices.Contains(k.mach.Kernel.Modules, m) {
			k.warn(report.CodeModuleMissing, m, "build the image again on the host", "kernel %s has no module %s: the network cannot be brought up as it was on the host", k.mach.Kernel.Release, m)
			continue
		}
		if !slices.Contains(k.mach.Kernel.Modules, m) {
			k.refuse(report.CodeModuleMissing, m, "build the image again on the host", "kernel %s has no module %s, neither as a file nor built in", k.mach.Kernel.Release, m)
		}
	}
	for _, f := range k.p.Needs.Kernel {
		if !slices.Contains(k.mach.Kernel.Filesystems, f) {
			k.refuse(report.CodeKernelFeature, f, "build the image again with the host's own kernel", "kernel %s cannot mount filesystems of type %s", k.mach.Kernel.Release, f)
		}
	}
	if k.mach.Memory > 0 && k.mach.Memory < k.p.Needs.Memory {
		k.warn(report.CodeMemory, "memory", "", "this machine has %s of memory; at least %s are advised", size(k.mach.Memory), size(k.p.Needs.Memory))
	}
}

func (k *maker) stepText(id string) string {
	for _, s := range k.p.Steps {
		if s.ID == id {
			return "step " + s.ID + " (" + s.Text(&k.p.Target, k.p) + ")"
		}
	}
	return "step " + id
}
