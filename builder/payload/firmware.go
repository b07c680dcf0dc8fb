package payload

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"lifeboat/report"
)

// Firmware is what was found for the packed modules.
type Firmware struct {
	Files   int
	Bytes   int64             // as stored on the host
	Missing []MissingFirmware // by module
}

// MissingFirmware are the files that one packed module may ask for and that
// the host does not have.
type MissingFirmware struct {
	Module  string
	Files   []string
	Package string // Debian package that brings them; "" when not known
	Used    bool   // this machine uses the driver now
}

// firmwareFolders are the kernel's classes of modules whose firmware is
// packed: network and storage. Everything else can do without.
var firmwareFolders = strings.Fields(`drivers/net drivers/scsi drivers/ata drivers/nvme drivers/block drivers/message
	drivers/infiniband drivers/target drivers/ufs drivers/mmc drivers/usb/host drivers/usb/storage drivers/crypto`)

// firmwarePackages names the Debian package by the beginning of the file's
// path below the firmware folder, by the package lists of firmware-nonfree.
// What is missing cannot be asked of dpkg.
var firmwarePackages = []struct{ prefix, pkg string }{
	{"bnx2/", "firmware-bnx2"}, {"bnx2x/", "firmware-bnx2x"}, {"bnx2x-", "firmware-bnx2x"},
	{"3com/", misc}, {"advansys/", misc}, {"cxgb3/", misc}, {"cxgb4/", misc}, {"ene-ub6250/", misc}, {"kaweth/", misc},
	{"microchip/", misc}, {"tehuti/", misc}, {"tigon/", misc}, {"r8a779x_usb3", misc},
	{"e100/", intel}, {"intel/ice/", intel}, {"hfi1_", intel}, {"qat_", intel},
	{"cbfw", "firmware-qlogic"}, {"ctfw", "firmware-qlogic"}, {"ct2fw", "firmware-qlogic"},
	{"qed/", "firmware-qlogic"}, {"qlogic/", "firmware-qlogic"}, {"ql2", "firmware-qlogic"},
	{"phanfw", "firmware-netxen"}, {"myri10ge", "firmware-myricom"}, {"netronome/", "firmware-netronome"},
	{"cavium/", "firmware-cavium"}, {"liquidio/", "firmware-cavium"}, {"rtl_nic/", "firmware-realtek"},
	{"mrvl/prestera/", "firmware-marvell-prestera"}, {"ti-connectivity/", "firmware-ti-connectivity"},
	{"isci/", "firmware-linux-free"},
}

const (
	misc  = "firmware-misc-nonfree"
	intel = "firmware-intel-misc (up to Debian 12: firmware-misc-nonfree)"
)

// firmwareDirs are the kernel's own search folders, in its order.
func firmwareDirs(release string) []string {
	return []string{"/lib/firmware/updates/" + release, "/lib/firmware/updates", "/lib/firmware/" + release, "/lib/firmware"}
}

// addFirmware packs what the modules say they may ask for. Used tells which
// drivers this machine has loaded.
func addFirmware(t *Tree, h *Host, k *Kernel, mods []moduleInfo, used map[string]bool) (Firmware, error) {
	f := Firmware{}
	done := map[string]bool{}
	for _, m := range mods {
		if len(m.info.Firmware) == 0 || !lowerFolder(m.Path, firmwareFolders) || lowerFolder(m.Path, neverFolders) {
			continue
		}
		var missing []string
		for _, want := range m.info.Firmware {
			found := findFirmware(h, k.Release, want)
			if len(found) == 0 && !strings.ContainsAny(want, "*?[") {
				missing = append(missing, want)
			}
			for _, p := range found {
				if done[p] {
					continue
				}
				done[p] = true
				if err := f.add(t, h, k, p, "firmware of "+m.Name); err != nil {
					return f, err
				}
			}
		}
		if len(missing) > 0 {
			slices.Sort(missing)
			f.Missing = append(f.Missing, MissingFirmware{m.Name, slices.Compact(missing), packageOf(missing[0]), used[m.Name]})
		}
	}
	slices.SortFunc(f.Missing, func(a, b MissingFirmware) int { return strings.Compare(a.Module, b.Module) })
	return f, nil
}

func packageOf(file string) string {
	for _, r := range firmwarePackages {
		if strings.HasPrefix(file, r.prefix) {
			return r.pkg
		}
	}
	return ""
}

// findFirmware lists the files of the host that answer to a name or glob, in
// the first of the kernel's folders that has any.
func findFirmware(h *Host, release, want string) []string {
	want = strings.TrimPrefix(path.Clean("/"+want), "/")
	for _, d := range firmwareDirs(release) {
		var out []string
		for _, ext := range []string{"", ".xz", ".zst"} {
			p := path.Join(d, want+ext)
			if strings.ContainsAny(want, "*?[") {
				for _, g := range h.Glob(p) {
					if h.isFile(g) && !slices.Contains(out, g) {
						out = append(out, g)
					}
				}
			} else if h.isFile(p) {
				out = append(out, p)
				break
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

// add packs one file and the links that lead to it. A compressed file stays
// so only if the kernel's own loader unpacks it; else file and links lose the
// ending together.
func (f *Firmware) add(t *Tree, h *Host, k *Kernel, p, why string) error {
	canon, hops, err := h.Follow(p)
	if err != nil {
		return err
	}
	strip := func(s string) string {
		if ext := path.Ext(s); (ext == ".xz" || ext == ".zst") && !k.loadsCompressed(ext) {
			return strings.TrimSuffix(s, ext)
		}
		return s
	}
	st, err := os.Stat(h.Path(canon))
	if err != nil {
		return err
	}
	f.Files++
	f.Bytes += st.Size()
	e := Entry{Path: strip(canon), Mode: 0o644, Source: h.Path(canon), Unpack: strip(canon) != canon, Why: why, Part: PartModules}
	for _, l := range hops {
		if isTopLink(l.Path) {
			continue
		}
		// A link may carry an ending that its target lacks, or the reverse.
		if err := t.Add(Entry{Path: strip(l.Path), Mode: fs.ModeSymlink | 0o777, Target: strip(l.Target), Why: why, Part: PartModules}); err != nil {
			return err
		}
	}
	return t.Add(e)
}

// problems tells what is missing: one line for the drivers that this machine
// uses, which is a warning, and one for all others. A driver may carry
// firmware of its own and work all the same; a person should know beforehand.
func (f Firmware) problems() []report.Problem {
	var out []report.Problem
	for _, used := range []bool{true, false} {
		p := report.Problem{Code: report.CodeFirmwareFile, Severity: report.Info}
		var mods, pkgs []string
		for _, m := range f.Missing {
			if m.Used != used {
				continue
			}
			mods = append(mods, m.Module)
			line := m.Module + ": " + strings.Join(m.Files, " ")
			if m.Package != "" {
				line += " (" + m.Package + ")"
				pkgs = append(pkgs, m.Package)
			}
			p.Details = append(p.Details, line)
		}
		if len(mods) == 0 {
			continue
		}
		slices.Sort(pkgs)
		pkgs = slices.Compact(pkgs)
		p.Text = fmt.Sprintf("firmware of %d packed drivers is not installed: %s", len(mods), strings.Join(mods, ", "))
		p.Next = "needed only where a recovery meets such hardware"
		if used {
			p.Severity = report.Warning
			p.Text = "firmware of drivers that this machine uses is not installed: " + strings.Join(mods, ", ")
			p.Next = "find the package that brings it, and build again"
		}
		if len(pkgs) > 0 {
			p.Next = "install " + strings.Join(pkgs, ", ") + " where a recovery may meet such hardware"
			if used {
				p.Next = "install " + strings.Join(pkgs, ", ") + " and build again"
			}
		}
		out = append(out, p)
	}
	return out
}
