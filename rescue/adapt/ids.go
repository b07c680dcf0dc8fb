// Package adapt fits a restored system to the machine that it was restored
// on: identities by one old→new table, initramfs by what it really holds.
// Level 4.
package adapt

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"

	"lifeboat/internal/chroot"
	"lifeboat/internal/hostconf/devname"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// Adapter adapts one restored system.
type Adapter struct {
	Root     *chroot.Root
	Manifest *manifest.Manifest
	Plan     *plan.Plan
	Machine  *manifest.Machine
	Renames  []plan.Rename // of the plan, and what storage could not keep
	Sink     report.Sink
	// Sys is where sysfs is; empty means /sys.
	Sys string

	stale bool // a file that initramfs images hold a copy of was changed
}

// idFiles are the places that hold ids of devices, as globs below the root.
var idFiles = []string{
	"etc/fstab", "etc/crypttab", "etc/mdadm.conf", "etc/mdadm/mdadm.conf", "etc/multipath/bindings", "etc/multipath/wwids", "etc/multipath.conf",
	"etc/default/grub", "etc/default/grub.d/*.cfg", "boot/grub/grub.cfg", "boot/grub2/grub.cfg", "boot/grub/custom.cfg", "boot/grub2/custom.cfg",
	"boot/grub/grubenv", "boot/grub2/grubenv", "boot/loader/entries/*.conf", "boot/efi/loader/entries/*.conf", "efi/loader/entries/*.conf",
	"boot/efi/EFI/*/grub.cfg", "efi/EFI/*/grub.cfg", "etc/kernel/cmdline", "etc/cmdline.d/*", "etc/initramfs-tools/conf.d/*",
	"etc/dracut.conf", "etc/dracut.conf.d/*", "etc/kdump.conf", "etc/zipl.conf", "etc/udev/rules.d/*", "etc/systemd/network/*.link",
	"boot/grub/device.map", "boot/grub2/device.map",
}

// inInitramfs are files that initramfs images hold copies of.
var inInitramfs = []string{"etc/fstab", "etc/crypttab", "etc/mdadm", "etc/multipath", "etc/initramfs-tools", "etc/dracut", "etc/udev", "etc/kernel/cmdline", "etc/cmdline.d", "etc/lvm"}

// IDs rewrites every reference to an identity that changed, token by token,
// and lists what still names an old one (plan.VerbIDs).
func (a *Adapter) IDs(ctx context.Context, _ plan.Step) error {
	if err := a.lvmDevices(); err != nil {
		return err
	}
	if err := a.dropUncovered(); err != nil {
		return err
	}
	var table []plan.Rename
	for _, r := range a.Renames {
		// What a card is set to is not what it is found by: see Network.
		if r.Old != "" && r.New != "" && r.Old != r.New && telling(r.Old) && r.Kind != plan.RenameMAC {
			table = append(table, r)
		}
	}
	files, err := a.files()
	if err != nil {
		return err
	}
	if err := a.kernelNames(files); err != nil {
		return err
	}
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.rewrite(f, table); err != nil {
			return err
		}
	}
	return a.leftovers(ctx, files)
}

// telling tells whether an identity is none that could be an ordinary word or
// number of a configuration file: a serial may be "1" or "root".
func telling(id string) bool {
	return len(id) >= 8 && strings.ContainsAny(id, "0123456789")
}

func (a *Adapter) files() ([]string, error) {
	var out []string
	fsys := a.Root.FS.FS()
	for _, g := range idFiles {
		m, err := fs.Glob(fsys, g)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", g, err)
		}
		out = append(out, m...)
	}
	sort.Strings(out)
	return out, nil
}

func (a *Adapter) rewrite(name string, table []plan.Rename) error {
	st, err := a.Root.FS.Stat(name)
	if err != nil || !st.Mode().IsRegular() || st.Size() > 16<<20 || len(table) == 0 {
		return nil // a dangling link is the host's own business
	}
	old, err := a.Root.FS.ReadFile(name)
	if err != nil {
		return fmt.Errorf("adapt: %w", err)
	}
	text, changes := Replace(old, table)
	if changes == 0 {
		return nil
	}
	if path.Base(name) == "grubenv" {
		text = padEnv(text, len(old))
	}
	return a.replaced(name, text, st.Raw.Mode&0o7777, changes)
}

// replaced writes an edited file, says so, and notes whether initramfs images
// hold a copy of the old one.
func (a *Adapter) replaced(name string, text []byte, mode uint32, changes int) error {
	if err := a.Root.FS.WriteFile(name, text, mode); err != nil {
		return fmt.Errorf("adapt: %w", err)
	}
	for _, p := range inInitramfs {
		if strings.HasPrefix(name, p) {
			a.stale = true
		}
	}
	a.Sink.Emit(report.Event{Kind: report.Note, Text: fmt.Sprintf("/%s: %d identities rewritten", name, changes)})
	return nil
}

// Replace puts the new identity for every old one that stands alone: between
// characters that cannot be part of an identity. Hexadecimal ids are found in
// either case.
func Replace(text []byte, table []plan.Rename) (out []byte, changes int) {
	for _, r := range table {
		var b bytes.Buffer
		rest := text
		hay, needle := text, []byte(r.Old)
		if hexID(r.Old) {
			hay, needle = bytes.ToLower(text), bytes.ToLower(needle)
		}
		if len(hay) != len(text) { // lower case of odd UTF-8 may differ in length
			hay, needle = text, []byte(r.Old)
		}
		pos := 0
		for {
			i := bytes.Index(hay[pos:], needle)
			if i < 0 {
				break
			}
			i += pos
			end := i + len(needle)
			if (i > 0 && idByte(hay[i-1])) || (end < len(hay) && idByte(hay[end])) {
				pos = i + 1
				continue
			}
			b.Write(text[len(text)-len(rest) : i])
			b.WriteString(r.New)
			rest, pos = text[end:], end
			changes++
		}
		b.Write(rest)
		text = append([]byte(nil), b.Bytes()...)
	}
	return text, changes
}

func hexID(s string) bool {
	return strings.Trim(s, "0123456789abcdefABCDEFx-:") == ""
}

// idByte tells whether a byte next to a match would make it part of a longer
// word. A dash is none: by-id names end in -part1.
func idByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}

// padEnv keeps GRUB's environment block at its exact size.
func padEnv(text []byte, size int) []byte {
	t := bytes.TrimRight(text, "#")
	if len(t) > size {
		return text
	}
	return append(append([]byte(nil), t...), bytes.Repeat([]byte("#"), size-len(t))...)
}

// lvmDevices moves LVM's list of allowed devices aside when a disk has
// another identity: it would hide the volume group from the restored host.
func (a *Adapter) lvmDevices() error {
	const list = "/etc/lvm/devices/system.devices"
	if !a.Root.FS.Exists(list) {
		return nil
	}
	changed := false
	for _, as := range a.Plan.Assignments {
		changed = changed || as.Rule != plan.ByWWN && as.Rule != plan.BySerial
	}
	if !changed {
		return nil
	}
	if err := a.Root.FS.Rename(list, list+".before-recovery"); err != nil {
		return fmt.Errorf("move LVM's list of devices aside: %w", err)
	}
	a.stale = true
	p := report.Problem{Code: report.CodeIdentity, Severity: report.Warning, Object: list,
		Text: "LVM's list of devices names the old disks; it was moved to " + list + ".before-recovery",
		Next: "write a new one with vgimportdevices --all when the host runs"}
	a.Sink.Emit(report.Event{Kind: report.Trouble, Text: p.Text, Problem: &p})
	return nil
}

// hints tells of LVM's own copies of its metadata: the device that they name
// is a comment, and volumes are found by their ids.
func hints(name string) bool {
	return strings.HasPrefix(name, "etc/lvm/backup/") || strings.HasPrefix(name, "etc/lvm/archive/")
}

// leftovers greps /etc and /boot for identities that are gone.
func (a *Adapter) leftovers(ctx context.Context, edited []string) error {
	gone := map[string][]string{}
	named := []string{}
	devices := a.captured()
	fsys := a.Root.FS.FS()
	for _, top := range []string{"etc", "boot"} {
		err := fs.WalkDir(fsys, top, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil // unreadable folders were reported when they were restored
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if !d.Type().IsRegular() {
				return nil
			}
			if st, err := d.Info(); err != nil || st.Size() > 1<<20 {
				return nil
			}
			data, err := a.Root.FS.ReadFile(name)
			if err != nil || bytes.IndexByte(data, 0) >= 0 {
				return nil
			}
			if !slices.Contains(edited, name) && !hints(name) { // those were told of one by one
				for _, dev := range devname.Named(data) {
					if devices[dev] {
						named = append(named, "/"+name+" ("+dev+")")
					}
				}
			}
			for _, r := range a.Renames {
				if len(r.Old) < 4 || r.Old == r.New {
					continue
				}
				if _, n := Replace(data, []plan.Rename{{Old: r.Old, New: ""}}); n > 0 {
					gone[r.Old] = append(gone[r.Old], "/"+name)
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("look for old identities below /%s: %w", top, err)
		}
	}
	if len(named) > 0 {
		p := report.Problem{Code: report.CodeLeftover, Severity: report.Info, Text: fmt.Sprintf("%d settings name disks by the kernel's number, which may be another disk's here", len(named)),
			Next: "look whether it matters", Details: named}
		a.Sink.Emit(report.Event{Kind: report.Trouble, Text: p.Text, Problem: &p})
	}
	for id, files := range gone {
		p := report.Problem{Code: report.CodeLeftover, Severity: report.Warning, Object: id,
			Text: fmt.Sprintf("the old identity %s is still named in %s", id, strings.Join(files, ", ")), Next: "look whether it matters"}
		a.Sink.Emit(report.Event{Kind: report.Trouble, Text: p.Text, Problem: &p})
	}
	return nil
}
