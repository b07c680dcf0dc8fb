package probe

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/jaypipes/ghw"
	"github.com/jaypipes/pcidb"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"lifeboat/internal/kmod"
	"lifeboat/manifest"
)

// Machine reads everything that the planner sees of a machine. Nothing of
// what this reading found is read again but the signatures.
func (r *Reading) Machine(ctx context.Context) (*manifest.Machine, error) {
	m := &manifest.Machine{Rescue: r.opt.Rescue}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { m.DMI, m.CPU = r.summary(); return nil })
	g.Go(func() (err error) { m.Memory, err = r.memory(); return err })
	g.Go(func() error { m.PCI = r.pci(); return nil })
	g.Go(func() error { m.NICs = r.nics(); return nil })
	g.Go(func() error { m.Firmware = r.firmware(); return nil })
	g.Go(func() (err error) {
		m.Modalias, err = kmod.Modaliases(r.opt.System.Sys)
		if err != nil {
			err = fmt.Errorf("read modaliases: %w", err)
		}
		return err
	})
	g.Go(func() (err error) { m.Disks, err = r.disks(gctx); return err })
	g.Go(func() (err error) { m.Kernel, err = r.kernel(); return err })
	if r.opt.Rescue {
		g.Go(func() error { m.Tools = r.tools(gctx); return nil })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if r.opt.Rescue {
		r.marks(ctx, m.Disks) // not gctx, which ended with the group
	}
	return m, ctx.Err()
}

// known drops what ghw writes where firmware and kernel say nothing.
func known(s string) string {
	if s = strings.TrimSpace(s); s == "unknown" {
		return ""
	}
	return s
}

// summary reads DMI and CPU by ghw, without its tools and warnings. What is
// not there stays empty: machines without DMI are common.
func (r *Reading) summary() (manifest.DMI, manifest.CPU) {
	quiet := []any{ghw.WithDisableTools(), ghw.WithDisableWarnings()}
	var d manifest.DMI
	if p, err := ghw.Product(quiet...); err == nil {
		d.Vendor, d.Product, d.Version, d.Serial, d.UUID = known(p.Vendor), known(p.Name), known(p.Version), known(p.SerialNumber), known(p.UUID)
	}
	if b, err := ghw.Baseboard(quiet...); err == nil {
		d.Board = strings.TrimSpace(known(b.Vendor) + " " + known(b.Product))
	}
	if b, err := ghw.BIOS(quiet...); err == nil {
		d.BIOS = strings.Join(strings.Fields(known(b.Vendor)+" "+known(b.Version)+" "+known(b.Date)), " ")
	}
	if c, err := ghw.Chassis(quiet...); err == nil {
		d.ChassisType, d.ChassisSerial = known(c.TypeDescription), known(c.SerialNumber)
	}
	var cpu manifest.CPU
	if c, err := ghw.CPU(quiet...); err == nil {
		cpu = manifest.CPU{Sockets: len(c.Processors), Cores: int(c.TotalCores), Threads: int(c.TotalHardwareThreads)}
		if len(c.Processors) > 0 {
			cpu.Model = known(c.Processors[0].Model)
		}
	}
	return d, cpu
}

// memory is what the kernel can use, bytes.
func (r *Reading) memory() (int64, error) {
	path := filepath.Join(r.opt.System.Proc, "meminfo")
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("read the memory size: %w", err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if f := strings.Fields(sc.Text()); len(f) >= 2 && f[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil || kib < 0 || kib > 1<<50 {
				return 0, fmt.Errorf("read the memory size: %s holds %q", path, sc.Text())
			}
			return kib * 1024, nil
		}
	}
	return 0, fmt.Errorf("read the memory size: %s has no MemTotal", path)
}

// pci reads the PCI functions from sysfs, with names where pci.ids is there.
func (r *Reading) pci() []manifest.PCIDevice {
	dir := filepath.Join(r.opt.System.Sys, "bus/pci/devices")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // no PCI bus
	}
	names := r.pciNames()
	var out []manifest.PCIDevice
	for _, e := range entries {
		at := filepath.Join(dir, e.Name())
		hex := func(a string) string { return strings.TrimPrefix(text(at, a), "0x") }
		p := manifest.PCIDevice{Address: e.Name(), Class: hex("class"), Vendor: hex("vendor"), Device: hex("device"), Driver: linkName(at, "driver")}
		if p.Vendor == "" {
			continue // gone meanwhile
		}
		p.Name = names(p.Vendor, p.Device)
		out = append(out, p)
	}
	return out
}

// pciNames finds names by pci.ids, which is read once.
func (r *Reading) pciNames() func(vendor, device string) string {
	r.pciOnce.Do(func() { r.pciName = r.readPCIIDs() })
	return r.pciName
}

// readPCIIDs reads pci.ids; without the file there are no names, and nothing
// is fetched from anywhere.
func (r *Reading) readPCIIDs() func(vendor, device string) string {
	for _, p := range []string{"usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "usr/share/pci.ids"} {
		path := r.path(p)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		db, err := pcidb.New(pcidb.WithPath(path))
		if err != nil {
			continue
		}
		return func(vendor, device string) string {
			v := db.Vendors[vendor]
			if v == nil {
				return ""
			}
			if d := db.Products[vendor+device]; d != nil {
				return v.Name + " " + d.Name
			}
			return v.Name
		}
	}
	return func(string, string) string { return "" }
}

// kernel tells what the running kernel offers. In the rescue system every
// module counts that is in the image.
func (r *Reading) kernel() (manifest.KernelInfo, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return manifest.KernelInfo{}, fmt.Errorf("uname: %w", err)
	}
	k := manifest.KernelInfo{Release: unix.ByteSliceToString(u.Release[:])}
	have := map[string]bool{}
	data, err := os.ReadFile(filepath.Join(r.opt.System.Proc, "filesystems"))
	if err != nil {
		return k, fmt.Errorf("read which filesystems the kernel has: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 0 {
			have[f[len(f)-1]] = true
		}
	}
	if !r.opt.Rescue {
		k.Filesystems = sorted(have)
		return k, nil
	}
	mods := map[string]bool{}
	entries, _ := os.ReadDir(filepath.Join(r.opt.System.Sys, "module"))
	for _, e := range entries {
		mods[kmod.Name(e.Name())] = true
	}
	// Without a module folder only what is built in counts.
	if dir, err := kmod.Folder(r.opt.Root, k.Release); err == nil {
		if err := r.loadable(dir, mods, have); err != nil {
			return k, err
		}
	}
	k.Filesystems, k.Modules = sorted(have), sorted(mods)
	return k, nil
}

// mountable are filesystems that a recovery may mount.
var mountable = []string{"ext2", "ext3", "ext4", "xfs", "vfat", "btrfs", "efivarfs", "iso9660", "nfs", "nfs4", "cifs", "f2fs", "jfs", "reiserfs", "ntfs3", "exfat", "udf", "squashfs", "overlay"}

func (r *Reading) loadable(dir string, mods, filesystems map[string]bool) error {
	set, err := kmod.Open(dir)
	if err != nil {
		return err
	}
	for _, m := range set.Modules() {
		mods[m.Name] = true
	}
	builtin, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("read what is built into the kernel: %w", err)
	}
	for line := range strings.Lines(string(builtin)) {
		if n, ok := kmod.NameOfPath(strings.TrimSpace(line)); ok {
			mods[n] = true
		}
	}
	for _, fs := range mountable {
		if m, b, err := set.Resolve("fs-" + fs); err == nil && len(m)+len(b) > 0 {
			filesystems[fs] = true
		}
	}
	return nil
}

// text reads a small file of sysfs without outer blanks, "" when there is
// none.
func text(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// linkName is the last part of what a link leads to.
func linkName(dir, name string) string {
	t, err := os.Readlink(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return filepath.Base(t)
}

// nics reads the network cards: interfaces with a device under them.
func (r *Reading) nics() []manifest.NIC {
	dir := filepath.Join(r.opt.System.Sys, "class/net")
	entries, _ := os.ReadDir(dir)
	names := r.pciNames()
	var out []manifest.NIC
	for _, e := range entries {
		at := filepath.Join(dir, e.Name())
		dev, err := filepath.EvalSymlinks(filepath.Join(at, "device"))
		if err != nil {
			continue
		}
		n := manifest.NIC{Name: e.Name(), MAC: text(at, "address"), Driver: linkName(dev, "driver"), BusPath: r.BusPath(dev), Carrier: text(at, "carrier") == "1"}
		if perm := text(at, "bonding_slave/perm_hwaddr"); perm != "" {
			n.MAC = perm // members of a bond all show the bond's address
		}
		for up := dev; strings.Contains(up, "/devices/"); up = filepath.Dir(up) {
			if linkName(up, "subsystem") == "pci" {
				n.Model = names(strings.TrimPrefix(text(up, "vendor"), "0x"), strings.TrimPrefix(text(up, "device"), "0x"))
				break
			}
		}
		out = append(out, n)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// BusPath is a device's folder below /sys/devices.
func (r *Reading) BusPath(dev string) string {
	top, err := filepath.EvalSymlinks(filepath.Join(r.opt.System.Sys, "devices"))
	if err != nil {
		return ""
	}
	rel, err := filepath.Rel(top, dev)
	if err != nil || strings.HasPrefix(rel, "..") {
		return ""
	}
	return rel
}
