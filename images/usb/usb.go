// Package usb writes and reads rescue sticks: a GPT disk that starts in BIOS
// and UEFI, with an ext4 data partition that holds the rescue systems of one or
// more hosts, their backups and the journals of recoveries.
// Level 3: one container format of images.
package usb

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"sort"
	"strings"
	"time"

	"lifeboat/internal/disklabel"
	"lifeboat/internal/loaders"
	"lifeboat/manifest"
	"lifeboat/report"
)

// The layout is the same for every image and stick. Boot loaders of the
// firmware's world lie in the second partition and are written once; what is
// renewed lies in the third, where a journal keeps it whole.
const (
	mib       = int64(1) << 20
	coreStart = 1 * mib // GRUB for BIOS
	coreBytes = 1 * mib
	efiStart  = 2 * mib // FAT16 with shim and GRUB for UEFI
	efiBytes  = 32 * mib
	DataStart = efiStart + efiBytes // ext4; ends with the disk
	DataPart  = 3                   // its number; loaders' menu for BIOS knows it, too
	tailBytes = mib                 // second table

	coreSector  = coreStart / 512
	typeLinux   = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
	minDataSize = 128 * mib
)

// Places on the data partition. Archives are HOST/DATE.lba at its top, where a
// store of backups has them; journals HOST/recover-TIME.
const (
	MarkPath  = "/lifeboat/stick.json" // what makes a stick ours
	menuPath  = "/boot/grub/grub.cfg"
	hostsPath = "/lifeboat/hosts" // HOST/BUILD below
	fileMenu  = "menu.json"
	fileSums  = "sha256sums" // for sha256sum -c in the folder
	fileKern  = "vmlinuz"
	fileInit  = "initrd.img"
	fileMan   = "manifest.json"
)

// Format of the mark; readers of this version know no other.
const Format = "lifeboat.stick/1"

// Mark is what MarkPath holds.
type Mark struct {
	Format string `json:"format"`
	ID     string `json:"id"` // the boot loaders find the stick by it
	OS     string `json:"os"` // whose loaders these are, such as "debian"
	// Boots are the modes for which the stick has boot loaders: they are written
	// once, by a host that had them. Sticks of earlier versions do not say.
	Boots []loaders.Mode `json:"boots,omitempty"`
}

var safeHost = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,200}$`)

// CheckHost tells whether a host's name can be a folder of a stick.
func CheckHost(name string) error {
	if !safeHost.MatchString(name) || strings.Contains(name, "..") {
		return fmt.Errorf("host name %q cannot be a folder on a stick: use letters, digits, dots and dashes", name)
	}
	return nil
}

func decodeMark(b []byte) (Mark, error) {
	var m Mark
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%s: %w", MarkPath, err)
	}
	if m.Format != Format {
		return m, fmt.Errorf("%s: format %q is not %s: a newer lifeboat made this stick", MarkPath, m.Format, Format)
	}
	if err := (loaders.Menu{BuildID: m.ID}).Check(); err != nil {
		return m, fmt.Errorf("%s: %w", MarkPath, err)
	}
	return m, nil
}

// Host is one host's rescue system on a stick.
type Host struct {
	Name string       `json:"host"`
	Dir  string       `json:"dir"` // on the data partition
	Menu loaders.Menu `json:"-"`
}

// hostDir is where a build lies.
func hostDir(m loaders.Menu) string { return path.Join(hostsPath, m.Host, m.BuildID) }

// decodeHost reads menu.json of one folder. It says which host it is; the
// folder must agree, so that a menu never leads elsewhere.
func decodeHost(dir string, b []byte) (*Host, error) {
	var m loaders.Menu
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", path.Join(dir, fileMenu), err)
	}
	if err := errors.Join(CheckHost(m.Host), m.Check()); err != nil {
		return nil, fmt.Errorf("%s: %w", path.Join(dir, fileMenu), err)
	}
	if hostDir(m) != dir || m.Dir != dir {
		return nil, fmt.Errorf("%s: it is the menu of %s", path.Join(dir, fileMenu), hostDir(m))
	}
	return &Host{Name: m.Host, Dir: dir, Menu: m}, nil
}

// newest keeps the newest build of each host, by name.
func newest(all []Host) []Host {
	best := map[string]Host{}
	for _, h := range all {
		if o, ok := best[h.Name]; !ok || h.Menu.Built.After(o.Menu.Built) || h.Menu.Built.Equal(o.Menu.Built) && h.Menu.BuildID > o.Menu.BuildID {
			best[h.Name] = h
		}
	}
	out := make([]Host, 0, len(best))
	for _, h := range best {
		out = append(out, h)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// menuOf is the grub.cfg of a stick with these hosts.
func menuOf(id string, hosts []Host) (string, error) {
	s := loaders.Stick{ID: id}
	for _, h := range hosts {
		s.Hosts = append(s.Hosts, h.Menu)
	}
	if err := s.Check(); err != nil {
		return "", err
	}
	return s.Config(), nil
}

// Table is the partition table of a stick of size bytes. Identities follow
// from id.
func Table(id string, size int64) (*disklabel.Label, error) {
	if size < DataStart+minDataSize+tailBytes {
		return nil, report.Errorf(report.CodeDiskTooSmall, "use a larger stick", "the stick has %d MiB, and at least %d MiB are needed",
			size/mib, (DataStart+minDataSize+tailBytes)/mib)
	}
	return table(id, size), nil
}

func table(id string, size int64) *disklabel.Label {
	p := func(n int, start, bytes int64, typ, name string) manifest.Partition {
		return manifest.Partition{Number: n, Start: start, Size: bytes, Type: typ, Name: name, UUID: loaders.MediumGUID(id, name)}
	}
	end := (size - tailBytes) / mib * mib
	return &disklabel.Label{
		Table: manifest.Table{Type: disklabel.GPT, UUID: loaders.MediumGUID(id, "disk"), Entries: 128},
		Partitions: []manifest.Partition{
			p(1, coreStart, coreBytes, manifest.TypeBIOSBoot, "BIOS boot"),
			p(2, efiStart, efiBytes, manifest.TypeESP, "EFI system"),
			p(DataPart, DataStart, end-DataStart, typeLinux, "Lifeboat data"),
		},
	}
}

// dataOf finds the data partition in a table.
func dataOf(l *disklabel.Label) (manifest.Partition, bool) {
	for _, p := range l.Partitions {
		if p.Number == DataPart && p.Start == DataStart && p.Type == typeLinux {
			return p, true
		}
	}
	return manifest.Partition{}, false
}

// extFeatures are what GRUB's reader and every kernel of the last ten years
// know.
const extFeatures = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"

// MkfsArgs are mke2fs's arguments for a data partition, without the device.
func MkfsArgs(id string) []string {
	uuid := strings.ToLower(loaders.MediumGUID(id, "filesystem"))
	return []string{"-q", "-F", "-O", extFeatures, "-b", "4096", "-I", "256", "-m", "0", "-U", uuid, "-L", "LIFEBOAT"}
}

// fixedTime makes e2fsprogs use this time instead of the clock.
func fixedTime(t time.Time) string { return fmt.Sprintf("E2FSPROGS_FAKE_TIME=%d", t.Unix()) }
