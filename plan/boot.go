package plan

import (
	"slices"

	"lifeboat/manifest"
	"lifeboat/report"
)

// efiPlatforms are GRUB's names by GOARCH and firmware bits.
var efiPlatforms = map[string]string{"amd64/64": "x86_64-efi", "amd64/32": "i386-efi", "386/32": "i386-efi",
	"arm64/64": "arm64-efi", "arm/32": "arm-efi", "riscv64/64": "riscv64-efi"}

const biosPlatform = "i386-pc"

// platform is the GRUB platform by which the host starts, "" when there is
// none.
func (k *maker) platform() string {
	if k.m.Boot.Firmware == manifest.FirmwareBIOS {
		return biosPlatform
	}
	bits := "64"
	if k.m.Machine.Firmware.Bits == 32 {
		bits = "32"
	}
	arch := k.m.Host.OS.Arch
	if arch == "" {
		arch = "amd64"
	}
	return efiPlatforms[arch+"/"+bits]
}

// checkBoot refuses what would be restored and could not start.
func (k *maker) checkBoot() {
	b := &k.m.Boot
	if !k.in.Policy.OwnHardware {
		k.checkFirmware()
	}
	no := func(why string) {
		r := root{path: "boot loader", essential: true}
		k.p.Uncovered = append(k.p.Uncovered, manifest.Uncovered{Path: r.path, Reason: why})
		k.refuse(report.CodeUnsupported, r.path, "the system does not start without it", "the boot loader cannot be recovered: %s", why)
	}
	switch {
	case b.Firmware != manifest.FirmwareBIOS && b.Firmware != manifest.FirmwareUEFI:
		no("the firmware mode " + quote(b.Firmware) + " is not known")
	case b.Loader == "none":
		k.warn(report.CodeBootloader, "boot loader", "start the restored system by what started it before", "the host has no boot loader of its own, and none is installed")
	case b.Loader != "grub" || b.GRUB == nil:
		no("a loader of type " + quote(b.Loader) + " cannot be installed by this version")
	case !slices.Contains(b.GRUB.Platforms, k.platform()):
		no("GRUB's modules for " + k.platform() + " are not installed on the host")
	case !k.kept[b.RootFS]:
		// That is refused already; what follows from it is no news.
	case b.Firmware == manifest.FirmwareBIOS && len(k.bootDisks()) == 0:
		no("none of the disks that are rebuilt carries boot code")
	case b.Firmware == manifest.FirmwareUEFI && len(k.esps()) == 0:
		no("no EFI system partition is rebuilt")
	}
}

func (k *maker) checkFirmware() {
	f, b := k.mach.Firmware, &k.m.Boot
	if f.Mode != b.Firmware {
		k.refuse(report.CodeFirmwareMode, "firmware", firmwareNext(b.Firmware),
			"%s starts by %s, and this machine was started by %s", k.m.Host.Name, modeName(b.Firmware), modeName(f.Mode))
		return
	}
	if was := k.m.Machine.Firmware.Bits; f.Mode == manifest.FirmwareUEFI && f.Bits != 0 && was != 0 && f.Bits != was {
		k.refuse(report.CodeFirmwareMode, "firmware", "use a machine with the same kind of firmware",
			"%s starts by a %d-bit UEFI, and this machine's UEFI has %d bits", k.m.Host.Name, was, f.Bits)
	}
	if f.SecureBoot && b.Loader == "grub" && b.GRUB != nil && !b.GRUB.Signed {
		k.refuse(report.CodeFirmwareMode, "firmware", "switch Secure Boot off in the firmware's setup",
			"Secure Boot is on, and the boot loader of %s is not signed", k.m.Host.Name)
	}
}

func modeName(mode string) string {
	switch mode {
	case manifest.FirmwareBIOS:
		return "BIOS (legacy) firmware"
	case manifest.FirmwareUEFI:
		return "UEFI firmware"
	}
	return "firmware of unknown mode " + quote(mode)
}

func firmwareNext(want string) string {
	if want == manifest.FirmwareUEFI {
		return "start the medium again by its UEFI entry in the firmware's boot menu, or switch legacy boot (CSM) off in the setup"
	}
	return "start the medium again by its legacy (non-UEFI) entry in the firmware's boot menu, or switch legacy boot (CSM) on in the setup"
}

func quote(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// bootDisks are the rebuilt disks that get GRUB's boot code: those that had
// it, and those with a BIOS-boot partition.
func (k *maker) bootDisks() []*manifest.Node {
	want := map[manifest.ID]bool{}
	for _, id := range k.m.Boot.MBRCode {
		want[id] = true
	}
	for _, id := range k.m.Boot.BIOSBoot {
		for _, d := range k.g.Disks(id) {
			want[d.ID] = true
		}
	}
	var out []*manifest.Node
	for _, d := range k.p.Target.OfKind(manifest.KindDisk) {
		if want[d.ID] {
			out = append(out, d)
		}
	}
	return out
}

// esps are the EFI system partitions' filesystems that are rebuilt.
func (k *maker) esps() []*manifest.Node {
	var out []*manifest.Node
	for _, id := range k.m.Boot.ESPs {
		if n := k.p.Target.Node(id); n != nil && n.Kind == manifest.KindFS {
			out = append(out, n)
		}
	}
	return out
}
