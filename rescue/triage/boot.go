package triage

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"lifeboat/internal/sysroot"
	"lifeboat/manifest"
)

// boot looks at everything that starts the system.
func (s *scene) boot() {
	b := &s.facts.Boot
	b.Loader = s.m.Boot.Loader
	if s.m.Boot.Loader == "grub" && s.m.Boot.Firmware == manifest.FirmwareBIOS {
		s.sectors()
	}
	if s.m.Boot.Firmware == manifest.FirmwareUEFI {
		for _, id := range s.m.Boot.ESPs {
			b.ESPs = append(b.ESPs, s.esp(id))
		}
		s.nvram()
	}
	if s.tree == nil {
		return
	}
	s.modules()
	s.kernels()
	s.fstab()
	s.full()
	s.tools()
}

// sectors looks at the boot code of every disk that carried it: a mirror has
// it on each of its halves.
func (s *scene) sectors() {
	disks := slices.Clone(s.m.Boot.MBRCode)
	for _, id := range s.m.Boot.BIOSBoot {
		for _, d := range s.m.Storage.Disks(id) {
			if !slices.Contains(disks, d.ID) {
				disks = append(disks, d.ID)
			}
		}
	}
	for _, id := range disks {
		n := s.m.Storage.Node(id)
		if n == nil || n.Disk == nil {
			continue
		}
		x := Sector{Disk: id, Name: "the captured disk"}
		if named := strings.TrimSpace(n.Disk.Model + " " + n.Disk.Serial); named != "" {
			x.Name = "disk " + named
		}
		is := s.foundDisk(id)
		if is == nil {
			x.State, x.Detail = Missing, "the disk is not there"
			s.facts.Boot.Sectors = append(s.facts.Boot.Sectors, x)
			continue
		}
		x.Name = "disk " + is.Seen.Device
		x.State, x.Detail = s.bootCode(s.node(is.Seen.Device), id)
		s.facts.Boot.Sectors = append(s.facts.Boot.Sectors, x)
	}
}

// foundDisk is the disk that is, or took the place of, a captured one: by its
// own identity, else by what stands on it.
func (s *scene) foundDisk(id manifest.ID) *manifest.Node {
	if n := s.found.Node(id); n != nil {
		return n
	}
	for _, n := range s.m.Storage.Above(id) {
		// What may lie on several disks does not tell which one it was.
		if len(s.m.Storage.Disks(n.ID)) != 1 || s.found.Node(n.ID) == nil {
			continue
		}
		if d := s.found.Disks(n.ID); len(d) == 1 {
			return d[0]
		}
	}
	return nil
}

// bootCode judges GRUB's first sector and the image that it leads to.
func (s *scene) bootCode(node string, disk manifest.ID) (State, string) {
	f, err := os.Open(node)
	if err != nil {
		return Unseen, err.Error()
	}
	defer f.Close()
	var own *manifest.Partition
	for _, id := range s.m.Boot.BIOSBoot {
		n := s.m.Storage.Node(id)
		if n != nil && n.Partition != nil && slices.ContainsFunc(s.m.Storage.Disks(id), func(d *manifest.Node) bool { return d.ID == disk }) {
			own = n.Partition
		}
	}
	size := int64(0)
	if s.tree != nil && s.m.Boot.GRUB != nil {
		if st, err := s.tree.Stat(path.Join(string(s.m.Boot.GRUB.Dir), "i386-pc/core.img")); err == nil {
			size = st.Raw.Size
		}
	}
	return judgeBootCode(f, own, size)
}

// GRUB's boot.img, by its source: the sector of the core image at 0x5c, u64.
const (
	kernelSector = 0x5c
	lbaBytes     = 512
)

// judgeBootCode reads as the firmware would: the first sector, then the core
// image where it says. core is the size of the image as installed, 0 when it
// is not known.
func judgeBootCode(r io.ReaderAt, biosBoot *manifest.Partition, core int64) (State, string) {
	b := make([]byte, lbaBytes)
	if _, err := r.ReadAt(b, 0); err != nil {
		return Unseen, err.Error()
	}
	switch {
	case len(bytes.Trim(b[:440], "\x00")) == 0:
		return Missing, "the first sector holds no boot code"
	case !bytes.Contains(b[:440], []byte("GRUB")):
		return Changed, "the first sector holds the boot code of something else than GRUB"
	case b[510] != 0x55 || b[511] != 0xaa:
		return Damaged, "the first sector has no signature"
	}
	at := int64(binary.LittleEndian.Uint64(b[kernelSector:]))
	if at <= 0 || at > 1<<40 {
		return Damaged, "the boot code leads nowhere"
	}
	at *= lbaBytes
	if biosBoot != nil && (at < biosBoot.Start || at >= biosBoot.Start+biosBoot.Size) {
		return Damaged, "the boot code does not lead into the BIOS boot partition"
	}
	if core <= 0 {
		core = 16 << 10
	}
	core = min(core, 4<<20)
	if biosBoot != nil {
		core = min(core, biosBoot.Start+biosBoot.Size-at)
	}
	img := make([]byte, core/lbaBytes*lbaBytes)
	if len(img) == 0 {
		img = make([]byte, lbaBytes)
	}
	if _, err := r.ReadAt(img, at); err != nil {
		return Damaged, "GRUB's image cannot be read: " + err.Error()
	}
	// The image is compressed: whole sectors of zeros are few in it.
	zero, all := 0, len(img)/lbaBytes
	for i := range all {
		if len(bytes.Trim(img[i*lbaBytes:(i+1)*lbaBytes], "\x00")) == 0 {
			zero++
		}
	}
	if first := img[:lbaBytes]; len(bytes.Trim(first, "\x00")) == 0 || zero > all/4 {
		return Damaged, "GRUB's image behind the boot code is overwritten"
	}
	return Same, ""
}

// loaderFiles are the boot programs of a folder on an ESP, the one that the
// firmware starts first.
var loaderFiles = []string{"shimx64.efi", "shim.efi", "grubx64.efi", "shimaa64.efi", "grubaa64.efi", "systemd-bootx64.efi", "systemd-bootaa64.efi"}

// esp looks for whole boot programs on an EFI system partition.
func (s *scene) esp(id manifest.ID) ESP {
	e := ESP{ID: id, Name: "the EFI system partition", State: Missing}
	i := slices.IndexFunc(s.facts.Filesystems, func(f Filesystem) bool { return f.ID == id })
	if i < 0 {
		return e
	}
	f := &s.facts.Filesystems[i]
	e.Name = f.name()
	if !f.Readable {
		e.State, e.Detail = f.State, f.Detail
		return e
	}
	root, err := sysroot.Open(s.at[id])
	if err != nil {
		e.State, e.Detail = Unseen, err.Error()
		return e
	}
	defer root.Close()
	judgeESP(root, s.m, &e)
	return e
}

func judgeESP(root *sysroot.Root, m *manifest.Manifest, e *ESP) {
	var captured []string
	signed := false
	if g := m.Boot.GRUB; g != nil {
		captured, signed = g.EFIDirs, g.Signed
	}
	dirs := append(slices.Clone(captured), m.Host.OS.ID)
	main := "BOOTX64.EFI"
	if m.Host.OS.Arch == "arm64" {
		main = "BOOTAA64.EFI"
	}
	def := path.Join("EFI/BOOT", main)
	e.Default = root.Exists(def) && wholePE(root, def) == ""
	e.State, e.Detail = Missing, "it holds no boot program of this system"
	for _, d := range dirs {
		if strings.EqualFold(d, "BOOT") || d == "" {
			continue
		}
		for _, name := range loaderFiles {
			p := path.Join("EFI", d, name)
			if !root.Exists(p) {
				continue
			}
			if bad := wholePE(root, p); bad != "" {
				e.State, e.Detail = Damaged, p+" "+bad
				return
			}
			if bad := companions(root, path.Dir(p), name, signed, m); bad != "" {
				e.State, e.Detail = Damaged, bad
				return
			}
			e.State, e.Detail, e.Loader = Same, "", "/"+p
			return
		}
	}
	own := slices.ContainsFunc(captured, func(d string) bool { return !strings.EqualFold(d, "BOOT") })
	if !own && e.Default { // the host never had another
		e.State, e.Detail, e.Loader = Same, "", "/"+def
	}
}

// companions are what a boot program starts or reads in turn.
func companions(root *sysroot.Root, dir, name string, signed bool, m *manifest.Manifest) string {
	if rest, ok := strings.CutPrefix(name, "shim"); ok {
		second := path.Join(dir, "grub"+rest)
		if name == "shim.efi" {
			second = path.Join(dir, "grubx64.efi")
		}
		if !root.Exists(second) {
			return second + ", which shim starts, is missing"
		}
		if bad := wholePE(root, second); bad != "" {
			return second + " " + bad
		}
	}
	// A signed GRUB reads its configuration beside itself.
	if cfg := path.Join(dir, "grub.cfg"); signed && m.Boot.Loader == "grub" {
		b, err := root.ReadFile(cfg)
		if err != nil || len(bytes.TrimSpace(b)) == 0 {
			return cfg + ", which GRUB reads first, is missing"
		}
	}
	return ""
}

// wholePE tells what is wrong with an EFI program, "" for nothing: every
// section that its header names must be in the file.
func wholePE(root *sysroot.Root, name string) string {
	f, err := root.Open(name)
	if err != nil {
		return "cannot be read: " + err.Error()
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "cannot be read: " + err.Error()
	}
	p, err := pe.NewFile(f)
	if err != nil {
		return "is no EFI program"
	}
	for _, sec := range p.Sections {
		if int64(sec.Offset)+int64(sec.Size) > st.Size() {
			return fmt.Sprintf("is cut short (%d bytes)", st.Size())
		}
	}
	if _, err := io.Copy(io.Discard, io.NewSectionReader(f, 0, st.Size())); err != nil {
		return "cannot be read: " + err.Error()
	}
	return ""
}

// nvram looks for an entry of the firmware that leads to an ESP of this host.
func (s *scene) nvram() {
	n := &s.facts.Boot.NVRAM
	if s.firmware.Mode != manifest.FirmwareUEFI || s.firmware.NVRAM == "none" || s.firmware.NVRAM == "" {
		return
	}
	n.Looked, n.Gone = true, true
	for _, id := range s.m.Boot.ESPs {
		for _, b := range s.m.Storage.Below(id) {
			if b.Partition == nil {
				continue
			}
			u := strings.TrimPrefix(string(b.ID), "part:")
			for _, e := range s.firmware.Entries {
				if e.Active && e.Loader != "" && strings.EqualFold(e.PartUUID, u) {
					n.Gone, n.Entry = false, e.Label
				}
			}
		}
	}
}

// modules compares GRUB's modules below /boot with those of its package, of
// the platform that the host starts by: what is missing or empty was lost.
// Other sizes are another version's.
func (s *scene) modules() {
	g := s.m.Boot.GRUB
	if g == nil || s.m.Boot.Firmware != manifest.FirmwareBIOS {
		return // a signed GRUB brings its own
	}
	const platform = "i386-pc"
	at := path.Join(string(g.Dir), platform)
	have := map[string]int64{}
	entries, err := s.tree.ReadDir(at)
	if err != nil {
		s.facts.Boot.Modules = at + " is not there"
		return
	}
	for _, e := range entries {
		have[e.Name()] = e.Raw.Size
	}
	// A repair puts the two images there onto the disk again.
	for _, name := range []string{"boot.img", "core.img", "normal.mod", "linux.mod", "ext2.mod", "part_gpt.mod", "part_msdos.mod"} {
		if have[name] == 0 {
			s.facts.Boot.Modules = path.Join(at, name) + " is missing or empty"
			return
		}
	}
}

// noRoom is what a boot needs to write at least, bytes.
const noRoom = 1 << 20

func (s *scene) full() {
	for _, f := range s.facts.Filesystems {
		boot := slices.Contains(f.Mounts, "/boot") || slices.Contains(f.Mounts, "/") || slices.Contains(f.Mounts, "/var")
		if f.Readable && boot && f.Bytes > 0 && f.Free < max(noRoom, min(f.Bytes/100, 16<<20)) {
			s.facts.Boot.Full = append(s.facts.Boot.Full, Place{Mount: f.Mounts[0], Free: f.Free, Bytes: f.Bytes})
		}
	}
}

// tools names what a repair would run and the installed system lacks.
func (s *scene) tools() {
	lack := func(name, use string) {
		for _, d := range []string{"usr/sbin", "usr/bin", "sbin", "bin", "usr/local/sbin", "usr/local/bin"} {
			if st, err := s.tree.Stat(path.Join(d, name)); err == nil && st.Mode().IsRegular() {
				return
			}
		}
		s.facts.Boot.NoTools = append(s.facts.Boot.NoTools, Tool{name, use})
	}
	if g := s.m.Boot.GRUB; g != nil {
		prefix := orText(g.Prefix, "grub")
		lack(prefix+"-install", ToolGRUB)
		lack(prefix+"-mkconfig", ToolConfig)
	} else if s.m.Boot.Loader != "none" {
		s.facts.Boot.NoTools = append(s.facts.Boot.NoTools, Tool{"a loader of type " + s.m.Boot.Loader + " that this version installs", ToolGRUB})
	}
	if name := initramfsPrograms[s.m.System.Initramfs]; name != "" {
		lack(name, ToolInitramfs)
	}
}

var initramfsPrograms = map[string]string{manifest.InitramfsTools: "update-initramfs", manifest.Dracut: "dracut",
	manifest.Mkinitcpio: "mkinitcpio", manifest.Booster: "booster"}
