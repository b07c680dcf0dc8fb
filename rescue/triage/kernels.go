package triage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"lifeboat/internal/cpio"
	"lifeboat/manifest"
)

// kernels judges GRUB's configuration and every kernel that it starts.
func (s *scene) kernels() {
	b := &s.facts.Boot
	list := s.captured()
	if g := s.m.Boot.GRUB; g != nil {
		b.ConfigPath = string(g.Config)
		text, err := s.tree.ReadFile(b.ConfigPath)
		var named []Kernel
		b.Config, named = s.judgeConfig(text, err)
		if b.Config == "" && len(named) > 0 {
			list = s.merge(named, list)
		}
	}
	for _, k := range list {
		s.judgeKernel(&k)
		b.Kernels = append(b.Kernels, k)
	}
}

// captured are the kernels of the manifest that are still installed, and
// those that came later.
func (s *scene) captured() []Kernel {
	var out []Kernel
	for _, k := range s.m.System.Kernels {
		// One that was removed since is no fault; the default one is looked for.
		if k.Default || s.tree.Exists(string(k.Image)) {
			out = append(out, Kernel{Version: k.Version, Image: k.Image, Initramfs: k.Initramfs, Default: k.Default})
		}
	}
	entries, _ := s.tree.ReadDir("/boot")
	for _, e := range entries {
		v, ok := strings.CutPrefix(e.Name(), "vmlinuz-")
		if !ok || !e.Mode().IsRegular() || slices.ContainsFunc(out, func(k Kernel) bool { return k.Version == v }) {
			continue
		}
		out = append(out, Kernel{Version: v, Image: manifest.Bytes("/boot/" + e.Name()), Initramfs: manifest.Bytes(s.initramfsOf(v))})
	}
	return out
}

// initramfsOf finds the initramfs of a kernel by the names in use.
func (s *scene) initramfsOf(version string) string {
	for _, p := range []string{"/boot/initrd.img-%s", "/boot/initramfs-%s.img", "/boot/initrd-%s"} {
		if name := fmt.Sprintf(p, version); s.tree.Exists(name) {
			return name
		}
	}
	return ""
}

// merge takes the kernels that the boot menu names, with what the manifest
// knows of them, then the others.
func (s *scene) merge(named, others []Kernel) []Kernel {
	for i := range named {
		named[i].Default = i == 0
		for _, o := range others {
			if o.Image == named[i].Image {
				named[i].Version = o.Version
				if named[i].Initramfs == "" {
					named[i].Initramfs = o.Initramfs
				}
			}
		}
	}
	for _, o := range others {
		if o.Default = false; !slices.ContainsFunc(named, func(k Kernel) bool { return k.Image == o.Image }) && s.tree.Exists(string(o.Image)) {
			named = append(named, o)
		}
	}
	return named
}

var (
	linuxLine  = regexp.MustCompile(`(?m)^[ \t]*(?:linux|linux16|linuxefi)[ \t]+(\S+)`)
	initrdLine = regexp.MustCompile(`^[ \t]*(?:initrd|initrd16|initrdefi)[ \t]+(.*)`)
)

// judgeConfig tells what is wrong with GRUB's configuration and which kernels
// it names, in order, each once.
func (s *scene) judgeConfig(text []byte, err error) (bad string, named []Kernel) {
	switch {
	case err != nil:
		return "it cannot be read: " + err.Error(), nil
	case len(bytes.TrimSpace(text)) == 0:
		return "it is empty", nil
	case bytes.IndexByte(text, 0) >= 0:
		return "it holds zero bytes", nil
	}
	str := string(text)
	if strings.Contains(str, "blscfg") {
		return "", nil // its entries are files of their own
	}
	lines := strings.Split(str, "\n")
	depth := strings.Count(str, "{") - strings.Count(str, "}")
	for i, line := range lines {
		m := linuxLine.FindStringSubmatch(line)
		if m == nil || strings.ContainsAny(m[1], "$(") {
			continue
		}
		k := Kernel{Image: manifest.Bytes(s.bootFile(m[1]))}
		k.Version = strings.TrimPrefix(path.Base(string(k.Image)), "vmlinuz-")
		for _, next := range lines[i+1:] {
			if linuxLine.MatchString(next) || strings.TrimSpace(next) == "}" {
				break
			}
			if r := initrdLine.FindStringSubmatch(next); r != nil {
				if f := strings.Fields(r[1]); len(f) > 0 && !strings.ContainsAny(f[len(f)-1], "$(") {
					k.Initramfs = manifest.Bytes(s.bootFile(f[len(f)-1])) // the last one; microcode comes before
				}
			}
		}
		if !slices.ContainsFunc(named, func(o Kernel) bool { return o.Image == k.Image }) {
			named = append(named, k)
		}
	}
	switch {
	case len(named) == 0:
		return "it starts no kernel", nil
	case depth != 0 && !strings.Contains(str, "menuentry"):
		return "it is cut short", named
	}
	if id := s.rootID(); id != "" && strings.Contains(str, "root=UUID=") && !strings.Contains(strings.ToLower(str), "root=uuid="+id) {
		return "it names another root filesystem than the one that is there", named
	}
	return "", named
}

// rootID is the id under which the root filesystem lies on the disk.
func (s *scene) rootID() string {
	for _, f := range s.facts.Filesystems {
		if slices.Contains(f.Mounts, "/") {
			return strings.ToLower(orText(f.IsUUID, f.WasUUID))
		}
	}
	return ""
}

// bootFile is where a file that GRUB names lies in the installed system: GRUB
// sees /boot as the root of its filesystem when it is one of its own.
func (s *scene) bootFile(name string) string {
	own := slices.ContainsFunc(s.facts.Filesystems, func(f Filesystem) bool { return slices.Contains(f.Mounts, "/boot") })
	if own {
		return path.Join("/boot", name)
	}
	return path.Clean("/" + name)
}

func (s *scene) judgeKernel(k *Kernel) {
	k.ImageBad = s.judgeImage(string(k.Image))
	if k.Initramfs == "" {
		return
	}
	if st, err := s.tree.Stat(string(k.Initramfs)); err == nil {
		k.InitBytes = st.Raw.Size
	}
	k.InitBad = s.judgeInitramfs(k)
}

// Of a bzImage's header (Linux, x86 boot protocol): sectors of real-mode code,
// length of the rest in units of 16 bytes, and the magic.
const (
	setupSects = 0x1f1
	sysSize    = 0x1f4
	hdrMagic   = 0x202
)

// judgeImage tells whether a kernel is there and as long as it says.
func (s *scene) judgeImage(name string) string {
	f, err := s.tree.Open(name)
	if err != nil {
		return "it is not there"
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	head := make([]byte, 0x210)
	if _, err := f.ReadAt(head, 0); err != nil {
		return fmt.Sprintf("it is cut short (%d bytes)", st.Size())
	}
	if string(head[hdrMagic:hdrMagic+4]) == "HdrS" {
		setup := int64(head[setupSects])
		if setup == 0 {
			setup = 4
		}
		if want := (setup+1)*512 + int64(binary.LittleEndian.Uint32(head[sysSize:]))*16; st.Size() < want {
			return fmt.Sprintf("it is cut short (%d of %d bytes)", st.Size(), want)
		}
	} else if len(bytes.Trim(head, "\x00")) == 0 {
		return "it holds nothing but zeros"
	}
	if _, err := io.Copy(io.Discard, io.NewSectionReader(f, 0, st.Size())); err != nil {
		return "it cannot be read: " + err.Error()
	}
	return ""
}

// captured is the kernel as the manifest has them.
func (k *Kernel) captured() manifest.Kernel {
	return manifest.Kernel{Version: k.Version, Image: k.Image, Initramfs: k.Initramfs, Default: k.Default}
}

// fewest files of an initramfs that starts anything.
const fewest = 10

// judgeInitramfs reads the whole image as the kernel would.
func (s *scene) judgeInitramfs(k *Kernel) string {
	f, err := s.tree.Open(string(k.Initramfs))
	if err != nil {
		return "it is not there"
	}
	defer f.Close()
	entries, _, err := cpio.List(f)
	switch {
	case err != nil:
		return err.Error()
	case len(entries) < fewest || !slices.ContainsFunc(entries, func(e cpio.Entry) bool { return e.Name == "init" }):
		return "it holds no system that could start"
	case s.opt.Initramfs == nil || k.ImageBad != "":
		return ""
	}
	missing, err := s.opt.Initramfs(s.tree, k.captured(), s.facts.Disks())
	switch {
	case err != nil:
		s.facts.Unseen = append(s.facts.Unseen, fmt.Sprintf("drivers in %s: %v", k.Initramfs, err))
	case len(missing) > 0:
		return "it lacks " + strings.Join(missing, ", ")
	}
	return ""
}
