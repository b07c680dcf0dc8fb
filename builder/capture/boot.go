package capture

import (
	"context"
	"path"
	"slices"
	"strings"

	"lifeboat/internal/handoff"
	"lifeboat/internal/run"
	"lifeboat/internal/sysroot"
	"lifeboat/manifest"
)

// grubPrefix is "grub2" where the distribution names tools and folders so.
func (h *host) grubPrefix() string {
	for _, p := range []string{"boot/grub2/grub.cfg", "usr/sbin/grub2-install", "usr/bin/grub2-install"} {
		if h.exists(p) {
			return "grub2"
		}
	}
	return "grub"
}

// grubVersion asks grub-install who it is; "" when there is none.
func (h *host) grubVersion(ctx context.Context) string {
	c := run.Cmd{Path: h.grubPrefix() + "-install", Args: []string{"--version"}, Env: run.HostEnv}
	if h.opt.Root != "/" {
		return ""
	}
	res, err := h.opt.Run.Run(ctx, c)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(res.Stdout))
}

// boot describes how the host starts, by nodes of the graph.
func (h *host) boot(grubVersion string) error {
	f := h.m.Machine.Firmware
	b := &h.m.Boot
	*b = manifest.Boot{Firmware: f.Mode, SecureBoot: f.SecureBoot, Entries: f.Entries, Order: f.Order, Loader: "none"}
	for _, w := range handoff.Words(h.m.System.Cmdline) {
		if c, ok := strings.CutPrefix(w, "console="); ok {
			b.Consoles = append(b.Consoles, c)
		}
	}
	b.RootFS, b.BootFS = h.holds("/"), h.holds("/boot")
	h.bootNodes()
	prefix := h.grubPrefix()
	dir := "boot/" + prefix
	switch {
	case h.exists(dir + "/grub.cfg"):
		b.Loader = "grub"
		b.GRUB = &manifest.GRUB{Version: grubVersion, Prefix: prefix, Dir: manifest.Bytes("/" + dir), Config: manifest.Bytes("/" + dir + "/grub.cfg"), Platforms: h.platforms()}
		h.onESP(b.GRUB)
	case h.espHas("EFI/systemd/systemd-bootx64.efi") || h.espHas("EFI/systemd/systemd-bootaa64.efi"):
		b.Loader = "systemd-boot"
	}
	return nil
}

// holds is the filesystem that a path lies on.
func (h *host) holds(name string) manifest.ID {
	best := manifest.Mount{}
	for _, mt := range h.m.Storage.Mounts {
		p := string(mt.Path)
		if mt.Live && p != "none" && (p == name || p == "/" || strings.HasPrefix(name, p+"/")) && len(p) >= len(best.Path) {
			best = mt
		}
	}
	return best.Node
}

// bootNodes finds ESPs, BIOS-boot partitions and boot code. Those count that
// lie on disks of the running system: an old system disk kept for its data
// is not to be erased because it could once start.
func (h *host) bootNodes() {
	s, b := &h.m.Storage, &h.m.Boot
	own := map[manifest.ID]bool{}
	for _, id := range []manifest.ID{b.RootFS, b.BootFS} {
		for _, d := range s.Disks(id) {
			own[d.ID] = true
		}
	}
	h.findBootNodes(func(disk manifest.ID) bool { return own[disk] })
	if len(b.BIOSBoot)+len(b.MBRCode) == 0 && b.Firmware == manifest.FirmwareBIOS {
		// The loader lies on a disk of its own.
		h.findBootNodes(func(manifest.ID) bool { return true })
	}
}

func (h *host) findBootNodes(own func(manifest.ID) bool) {
	s, b := &h.m.Storage, &h.m.Boot
	mounted := func(id manifest.ID) bool { return len(s.MountsOf(id)) > 0 }
	on := func(id manifest.ID) bool {
		return slices.ContainsFunc(s.Disks(id), func(d *manifest.Node) bool { return own(d.ID) })
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		switch {
		case n.Kind == manifest.KindFS && n.FS.Type == "vfat" && h.isESP(n) && (on(n.ID) || mounted(n.ID)):
			b.ESPs = appendOnce(b.ESPs, n.ID)
		case n.Kind == manifest.KindPartition && n.Partition.Type == manifest.TypeBIOSBoot && on(n.ID):
			b.BIOSBoot = appendOnce(b.BIOSBoot, n.ID)
		case n.Kind == manifest.KindTable && n.Table.BootCode && on(n.ID):
			for _, d := range s.Disks(n.ID) {
				b.MBRCode = appendOnce(b.MBRCode, d.ID)
			}
		}
	}
}

func appendOnce(list []manifest.ID, id manifest.ID) []manifest.ID {
	if slices.Contains(list, id) {
		return list
	}
	return append(list, id)
}

// isESP tells whether a filesystem lies on an EFI system partition.
func (h *host) isESP(n *manifest.Node) bool {
	for _, e := range n.On {
		p := h.m.Storage.Node(e.Node)
		if p != nil && p.Partition != nil && (p.Partition.Type == manifest.TypeESP || strings.EqualFold(p.Partition.Type, "ef")) {
			return true
		}
	}
	return false
}

// platforms are GRUB's platforms whose modules are installed on the host.
func (h *host) platforms() []string {
	out := []string{}
	for _, dir := range []string{"usr/lib/grub", "usr/share/grub2", "usr/lib/grub2"} {
		entries, _ := h.root.ReadDir(dir)
		for _, e := range entries {
			if h.exists(path.Join(dir, e.Name(), "modinfo.sh")) && !slices.Contains(out, e.Name()) {
				out = append(out, e.Name())
			}
		}
	}
	slices.Sort(out)
	return out
}

// espMounts are where ESPs are mounted now.
func (h *host) espMounts() []string {
	var out []string
	for _, id := range h.m.Boot.ESPs {
		for _, mt := range h.m.Storage.MountsOf(id) {
			if mt.Live && mt.Bind == "" {
				out = append(out, string(mt.Path))
			}
		}
	}
	return out
}

func (h *host) espHas(name string) bool {
	for _, m := range h.espMounts() {
		if _, ok := h.fold(m, name); ok {
			return true
		}
	}
	return false
}

// fold finds a path below dir as FAT does: upper and lower case are the same.
func (h *host) fold(dir, name string) (string, bool) {
	at := dir
	for _, part := range strings.Split(name, "/") {
		entries, err := h.root.ReadDir(at)
		if err != nil {
			return "", false
		}
		i := slices.IndexFunc(entries, func(e *sysroot.Info) bool { return strings.EqualFold(e.Name(), part) })
		if i < 0 {
			return "", false
		}
		at = path.Join(at, entries[i].Name())
	}
	return at, true
}

// onESP reads what GRUB has on the ESPs.
func (h *host) onESP(g *manifest.GRUB) {
	for _, m := range h.espMounts() {
		efi, ok := h.fold(m, "EFI")
		if !ok {
			continue
		}
		entries, _ := h.root.ReadDir(efi)
		for _, e := range entries {
			if !e.IsDir() {
				continue
			}
			if !slices.Contains(g.EFIDirs, e.Name()) {
				g.EFIDirs = append(g.EFIDirs, e.Name())
			}
			files, _ := h.root.ReadDir(path.Join(efi, e.Name()))
			for _, f := range files {
				n := strings.ToLower(f.Name())
				g.Signed = g.Signed || strings.HasPrefix(n, "shim") && strings.HasSuffix(n, ".efi")
				g.Removable = g.Removable || strings.EqualFold(e.Name(), "BOOT") && strings.HasPrefix(n, "boot") && strings.HasSuffix(n, ".efi")
			}
		}
	}
	slices.Sort(g.EFIDirs)
}
