package bootlocal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/internal/hostconf/grubcfg"
	"lifeboat/manifest"
)

// Kernel is what an installed system starts by default.
type Kernel struct {
	Title, Device, Config string // the entry, and where its configuration lies
	grubcfg.Entry
}

// String tells a person what is started.
func (k *Kernel) String() string {
	return fmt.Sprintf("%q (%s on %s)", k.Title, path.Base(k.Entry.Kernel), k.Device)
}

// configs are where installations of GRUB keep their configuration, seen from
// the top of the filesystem that holds /boot.
var configs = []string{"/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/grub/grub.cfg", "/grub2/grub.cfg"}

// found is a configuration of GRUB on a filesystem.
type found struct {
	fs   *filesystem
	path string
}

// Kernel finds what the installed system itself would start. Of several
// systems only the manifest's own is taken: which other was meant is doubt.
func (d *Disks) Kernel() (*Kernel, error) {
	var all, own []found
	for _, f := range d.fs {
		for _, p := range configs {
			if st, err := f.root.Stat(p); err != nil || !st.Mode().IsRegular() {
				continue
			}
			all = append(all, found{f, p})
			if m := d.opt.Manifest; m != nil && (f.node.ID == m.Boot.BootFS || string(m.Boot.BootFS) == "fs:"+f.node.FS.UUID) {
				own = append(own, found{f, p})
			}
		}
	}
	if len(own) > 0 {
		all = own
	}
	switch {
	case len(all) == 0:
		return nil, errors.New("no disk holds a configuration of GRUB that can be read here")
	case len(all) > 1:
		var names []string
		for _, c := range all {
			names = append(names, c.path+" on "+c.fs.device())
		}
		return nil, fmt.Errorf("more than one system is installed, and none is known to be this host's: %s", strings.Join(names, ", "))
	}
	c := all[0]
	platform := "pc"
	if d.firmware.Mode == manifest.FirmwareUEFI {
		platform = "efi"
	}
	e, err := grubcfg.Default(world{d}, d.name(c.fs), c.path, platform)
	if err != nil {
		return nil, fmt.Errorf("%s on %s: %w", c.path, c.fs.device(), err)
	}
	return &Kernel{Title: e.Title, Device: c.fs.device(), Config: c.path, Entry: *e}, nil
}

// Load hands kernel, initramfs and arguments to the running kernel, which
// keeps copies: the disks may be closed afterwards.
func (d *Disks) Load(k *Kernel) error {
	kernel, err := d.file(k.FS, k.Entry.Kernel)
	if err != nil {
		return fmt.Errorf("open the installed kernel: %w", err)
	}
	defer kernel.Close()
	initrd, err := d.initrd(k.Initrd)
	if err != nil {
		return fmt.Errorf("read the installed initramfs: %w", err)
	}
	fd, flags := -1, unix.KEXEC_FILE_NO_INITRAMFS
	if initrd != nil {
		defer initrd.Close()
		fd, flags = int(initrd.Fd()), 0
	}
	if err := unix.KexecFileLoad(int(kernel.Fd()), fd, k.Args, flags); err != nil {
		return fmt.Errorf("load the installed kernel %s: kexec_file_load: %w", k.Entry.Kernel, err)
	}
	return nil
}

func (d *Disks) file(fs, name string) (*os.File, error) {
	f := d.byName(fs)
	if f == nil {
		return nil, fmt.Errorf("there is no filesystem %q", fs)
	}
	return f.root.Open(name)
}

// initrd is one file of all that the entry names: microcode often comes by
// itself. nil for none.
func (d *Disks) initrd(list []grubcfg.File) (*os.File, error) {
	switch len(list) {
	case 0:
		return nil, nil
	case 1:
		return d.file(list[0].FS, list[0].Path)
	}
	fd, err := unix.MemfdCreate("lifeboat-initrd", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	out := os.NewFile(uintptr(fd), "initrd")
	for _, l := range list {
		in, err := d.file(l.FS, l.Path)
		if err == nil {
			err = appendFile(out, in)
		}
		if err != nil {
			out.Close()
			return nil, err
		}
	}
	return out, nil
}

func appendFile(out, in *os.File) error {
	defer in.Close()
	n, err := io.Copy(out, in)
	if pad := -n & 3; err == nil && pad > 0 {
		_, err = out.Write(make([]byte, pad)) // segments begin at multiples of 4
	}
	return err
}

// world shows the open filesystems to GRUB's configuration.
type world struct{ d *Disks }

// name is how the world calls a filesystem.
func (d *Disks) name(f *filesystem) string {
	for i, x := range d.fs {
		if x == f {
			return "disk" + strconv.Itoa(i)
		}
	}
	return ""
}

func (d *Disks) byName(name string) *filesystem {
	for _, f := range d.fs {
		if d.name(f) == name {
			return f
		}
	}
	return nil
}

func (w world) Has(fs string) bool { return w.d.byName(fs) != nil }

func (w world) Search(by, what string) (string, bool) {
	for _, f := range w.d.fs {
		hit := false
		switch by {
		case "fs-uuid":
			hit = f.id == strings.ToLower(what)
		case "label":
			hit = f.label == what
		case "file":
			hit = f.root.Exists(what)
		}
		if hit {
			return w.d.name(f), true
		}
	}
	return "", false
}

// maxConfig bounds what is read for a configuration, which may ask whether a
// file is there that is no text.
const maxConfig = 4 << 20

func (w world) ReadFile(fs, name string) ([]byte, error) {
	f, err := w.d.file(fs, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: %w", name, errors.Join(err, os.ErrInvalid))
	}
	return io.ReadAll(io.LimitReader(f, maxConfig))
}

func (w world) List(fs, dir string) []string {
	f := w.d.byName(fs)
	if f == nil {
		return nil
	}
	entries, err := f.root.ReadDir(dir)
	if err != nil {
		return nil
	}
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}
