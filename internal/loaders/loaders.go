// Package loaders knows which shim and GRUB file comes from which package,
// the names that signed files must keep, and the paths that are built into
// them, so that a medium boots with what the host already has.
// Level 2: boot loader files of packages.
package loaders

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Mode is a way in which a PC starts a medium.
type Mode string

// The modes.
const (
	BIOS       Mode = "bios"
	UEFI       Mode = "uefi"
	SecureBoot Mode = "uefi-secureboot"
)

// Modes are all modes, the plainest first.
var Modes = []Mode{BIOS, UEFI, SecureBoot}

// Role is what a file does on a medium.
type Role string

// The roles.
const (
	Shim           Role = "shim"          // signed by Microsoft; starts what the distribution signed
	MokManager     Role = "mok-manager"   // shim starts it to enrol a machine owner's key
	GrubCD         Role = "grub-cd"       // GRUB that finds its configuration on a CD or stick; signed
	GrubCDPlain    Role = "grub-cd-plain" // the same, not signed
	GrubDisk       Role = "grub-disk"     // GRUB with the prefix of an installed system; signed
	GrubNet        Role = "grub-net"      // GRUB that reads its configuration by TFTP; signed
	GrubPC         Role = "grub-pc"       // folder of GRUB's modules for BIOS
	HybridBoot     Role = "boot-hybrid"   // boot sector that starts an image's El Torito GRUB from a stick
	DiskBoot       Role = "boot-disk"     // boot sector of a GRUB that is written to a disk
	GrubMkimage    Role = "grub-mkimage"  // program that joins modules to one image
	GrubCDPrefix        = "/boot/grub"    // built into GrubCD and GrubCDPlain
	CDSearchFile        = "/.disk/info"   // GrubCD looks for it when its own device has no GrubCDPrefix
	NetPrefix           = "/grub"         // built into GrubNet
	FallbackName        = "BOOTX64.EFI"   // what firmware starts from removable media
	GrubName            = "grubx64.efi"   // shim starts exactly this name beside itself
	MokManagerName      = "mmx64.efi"     // and this one
	FallbackDir         = "/EFI/BOOT"     // where all of them lie on removable media
)

// candidate is one place where a distribution keeps a file.
type candidate struct {
	path, pkg string
	ubuntu    bool // only Ubuntu's package has it there
}

// places lists for each role where it may lie, the best first. Debian and
// Ubuntu share most; Ubuntu's shim is an alternative with the newest behind
// ".latest", and its MokManager is signed without saying so in its name.
var places = map[Role][]candidate{
	Shim: {
		{"/usr/lib/shim/shimx64.efi.signed.latest", "shim-signed", true},
		{"/usr/lib/shim/shimx64.efi.signed", "shim-signed", false},
		{"/usr/lib/shim/shimx64.efi.dualsigned", "shim-signed", true},
	},
	MokManager: {
		{"/usr/lib/shim/mmx64.efi.signed", "shim-helpers-amd64-signed", false},
		{"/usr/lib/shim/mmx64.efi", "shim-signed", true},
	},
	GrubCD:      {{"/usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed", "grub-efi-amd64-signed", false}},
	GrubCDPlain: {{"/usr/lib/grub/x86_64-efi/monolithic/gcdx64.efi", "grub-efi-amd64-bin", false}},
	GrubDisk:    {{"/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", "grub-efi-amd64-signed", false}},
	GrubNet:     {{"/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed", "grub-efi-amd64-signed", false}},
	GrubPC:      {{"/usr/lib/grub/i386-pc/kernel.img", "grub-pc-bin", false}},
	HybridBoot:  {{"/usr/lib/grub/i386-pc/boot_hybrid.img", "grub-pc-bin", false}},
	DiskBoot:    {{"/usr/lib/grub/i386-pc/boot.img", "grub-pc-bin", false}},
	GrubMkimage: {{"/usr/bin/grub-mkimage", "grub-common", false}},
}

// needs lists for each mode the roles that a medium for it is made of.
var needs = map[Mode][]Role{
	BIOS:       {GrubPC, HybridBoot, GrubMkimage},
	UEFI:       {GrubCDPlain},
	SecureBoot: {Shim, GrubCD, MokManager},
}

// Set is what a host has of the loader files.
type Set struct {
	root  string
	like  string          // ID= of its os-release
	files map[Role]string // path as seen by this process
}

// Find looks for all loader files below root, which is "/" on a running host.
func Find(root string) Set {
	s := Set{root: root, like: distribution(root), files: map[Role]string{}}
	for role, list := range places {
		for _, c := range list {
			p := filepath.Join(root, c.path)
			if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Size() > 0 {
				s.files[role] = p
				break
			}
		}
	}
	return s
}

// Path of the file with that role; "" when it is missing. For GrubPC it is
// the folder of modules.
func (s Set) Path(r Role) string {
	p := s.files[r]
	if r == GrubPC && p != "" {
		return filepath.Dir(p)
	}
	return p
}

// Read returns the bytes of the file with that role.
func (s Set) Read(r Role) ([]byte, error) {
	p := s.Path(r)
	if p == "" {
		return nil, s.absent(r)
	}
	b, err := os.ReadFile(p)
	if err != nil {
		return nil, fmt.Errorf("read the loader file %s: %w", r, err)
	}
	return b, nil
}

// distribution is the ID= of os-release below root; "" when it does not say.
func distribution(root string) string {
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			continue
		}
		for _, l := range strings.Split(string(b), "\n") {
			if v, ok := strings.CutPrefix(l, "ID="); ok {
				return strings.Trim(strings.TrimSpace(v), `"'`)
			}
		}
	}
	return ""
}

// expected is where this host's distribution would have the file: the package
// that is named must be one that it knows.
func (s Set) expected(r Role) candidate {
	list := places[r]
	for _, c := range list {
		if c.ubuntu == (s.like == "ubuntu") {
			return c
		}
	}
	return list[0]
}

func (s Set) absent(r Role) error {
	c := s.expected(r)
	return fmt.Errorf("%s is missing: install the package %s", filepath.Join(s.root, c.path), c.pkg)
}

// Missing is a file that a mode would need.
type Missing struct {
	Mode    Mode
	Role    Role
	Path    string // where it was looked for first
	Package string // that brings it
}

// String says what to install for what.
func (m Missing) String() string {
	return fmt.Sprintf("boot by %s is not possible: %s is missing; install the package %s", m.Mode, m.Path, m.Package)
}

// Missing lists what m needs and this host does not have.
func (s Set) Missing(m Mode) []Missing {
	var out []Missing
	for _, r := range needs[m] {
		if s.files[r] == "" {
			c := s.expected(r)
			out = append(out, Missing{Mode: m, Role: r, Path: c.path, Package: c.pkg})
		}
	}
	// A signed GRUB also starts where nobody checks signatures.
	if m == UEFI && s.files[GrubCD] != "" {
		return nil
	}
	return out
}

// Supports lists the modes that a medium made with this set boots in.
// Secure Boot also needs a signed kernel: see Signed.
func (s Set) Supports() []Mode {
	var out []Mode
	for _, m := range Modes {
		if len(s.Missing(m)) == 0 {
			out = append(out, m)
		}
	}
	return out
}

// Packages names what to install so that all given modes work, each once.
func Packages(missing []Missing) string {
	var names []string
	for _, m := range missing {
		if !strings.Contains(" "+strings.Join(names, " ")+" ", " "+m.Package+" ") {
			names = append(names, m.Package)
		}
	}
	return strings.Join(names, " ")
}

// MediumFiles are the EFI files of a removable medium: name below FallbackDir
// to path on the host. With shim where that chain is complete, else GRUB
// alone; nil when there is no GRUB at all.
func (s Set) MediumFiles() map[string]string {
	switch {
	case len(s.Missing(SecureBoot)) == 0:
		return map[string]string{
			FallbackName:   s.files[Shim],
			GrubName:       s.files[GrubCD],
			MokManagerName: s.files[MokManager],
		}
	case s.files[GrubCD] != "":
		return map[string]string{FallbackName: s.files[GrubCD]}
	case s.files[GrubCDPlain] != "":
		return map[string]string{FallbackName: s.files[GrubCDPlain]}
	}
	return nil
}
