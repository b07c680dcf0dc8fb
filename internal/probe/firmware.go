package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"unicode/utf16"

	"lifeboat/manifest"
)

// efiGlobal is the vendor GUID of the boot variables (UEFI, section 3.3).
const efiGlobal = "-8be4df61-93ca-11d2-aa0d-00e098032b8c"

// Firmware reads by what the running system was started and, with UEFI, the
// boot variables.
func (r *Reading) Firmware() manifest.Firmware { return r.firmware() }

// firmware reads by what the running system was started and, with UEFI, the
// boot variables.
func (r *Reading) firmware() manifest.Firmware {
	efi := filepath.Join(r.opt.System.Sys, "firmware/efi")
	if _, err := os.Stat(efi); err != nil {
		return manifest.Firmware{Mode: manifest.FirmwareBIOS, NVRAM: "none"}
	}
	f := manifest.Firmware{Mode: manifest.FirmwareUEFI, Bits: 64, NVRAM: "none"}
	if n, err := strconv.Atoi(text(efi, "fw_platform_size")); err == nil {
		f.Bits = n
	}
	vars := filepath.Join(efi, "efivars")
	for _, m := range r.View.Mounts {
		if m.Type == "efivarfs" && m.Path == "/sys/firmware/efi/efivars" {
			f.NVRAM = "rw"
			if strings.HasPrefix(m.Options, "ro") || strings.HasPrefix(m.Super, "ro") {
				f.NVRAM = "ro"
			}
		}
	}
	if v, err := readVar(vars, "SecureBoot"); err == nil && len(v) > 0 {
		f.SecureBoot = v[0] == 1
	}
	if v, err := readVar(vars, "BootCurrent"); err == nil && len(v) >= 2 {
		f.Current = fmt.Sprintf("%04X", binary.LittleEndian.Uint16(v))
	}
	if v, err := readVar(vars, "BootOrder"); err == nil {
		for ; len(v) >= 2; v = v[2:] {
			f.Order = append(f.Order, fmt.Sprintf("%04X", binary.LittleEndian.Uint16(v)))
		}
	}
	f.Entries = BootEntries(r.opt.System.Sys)
	return f
}

// BootEntries reads the firmware's boot entries from a mounted sysfs, by
// number; none where there is no UEFI or its variables are not mounted.
func BootEntries(sys string) (out []manifest.EFIEntry) {
	vars := filepath.Join(sys, "firmware/efi/efivars")
	entries, _ := os.ReadDir(vars)
	for _, e := range entries {
		num, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), efiGlobal), "Boot")
		if !ok || !strings.HasSuffix(e.Name(), efiGlobal) || len(num) != 4 || strings.Trim(num, "0123456789ABCDEFabcdef") != "" {
			continue
		}
		v, err := readVar(vars, "Boot"+num)
		if err != nil {
			continue // the firmware gave it back while we looked
		}
		entry, err := ParseLoadOption(v)
		if err != nil {
			entry = manifest.EFIEntry{Label: "", Raw: v} // kept as it is: a firmware's own entries may be odd
		}
		entry.Num = strings.ToUpper(num)
		out = append(out, entry)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Num < out[j].Num })
	return out
}

// readVar reads an EFI variable of the global namespace without the four
// bytes of attributes that efivarfs puts before it.
func readVar(dir, name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(dir, name+efiGlobal))
	if err != nil {
		return nil, err
	}
	if len(b) < 4 {
		return nil, errors.New("the variable is cut short")
	}
	return b[4:], nil
}

// ParseLoadOption reads a boot entry (UEFI, EFI_LOAD_OPTION): attributes,
// length of the device path, label, device path, data.
func ParseLoadOption(b []byte) (manifest.EFIEntry, error) {
	e := manifest.EFIEntry{Raw: b}
	if len(b) < 6 {
		return e, errors.New("a boot entry is cut short")
	}
	const active = 1
	e.Active = binary.LittleEndian.Uint32(b)&active != 0
	pathLen := int(binary.LittleEndian.Uint16(b[4:]))
	label, rest, ok := utf16z(b[6:])
	if !ok || pathLen > len(rest) {
		return e, errors.New("a boot entry is cut short")
	}
	e.Label = label
	for path := rest[:pathLen]; len(path) >= 4; {
		n := int(binary.LittleEndian.Uint16(path[2:]))
		if n < 4 || n > len(path) {
			return e, errors.New("a boot entry's device path is broken")
		}
		pathNode(&e, path[0], path[1], path[4:n])
		path = path[n:]
	}
	return e, nil
}

// utf16z reads text up to its zero.
func utf16z(b []byte) (text string, rest []byte, ok bool) {
	var u []uint16
	for ; len(b) >= 2; b = b[2:] {
		c := binary.LittleEndian.Uint16(b)
		if c == 0 {
			return string(utf16.Decode(u)), b[2:], true
		}
		u = append(u, c)
	}
	return "", nil, false
}

// Device path nodes that say where a loader lies.
const (
	mediaPath      = 4
	mediaHardDrive = 1
	mediaFile      = 4
	signatureGUID  = 2
	signatureMBR   = 1
)

// pathNode takes partition and file from a device path.
func pathNode(e *manifest.EFIEntry, kind, sub byte, body []byte) {
	if kind != mediaPath {
		return
	}
	switch {
	case sub == mediaHardDrive && len(body) >= 38:
		// number u32, start u64, size u64, signature 16, format, kind of signature
		switch sig := body[20:36]; body[37] {
		case signatureGUID:
			e.PartUUID = guid(sig)
		case signatureMBR:
			e.PartUUID = fmt.Sprintf("%08x-%02x", binary.LittleEndian.Uint32(sig), binary.LittleEndian.Uint32(body))
		}
	case sub == mediaFile:
		text, _, ok := utf16z(body)
		if ok {
			e.Loader += text
		}
	}
}

// guid writes a GUID as UEFI stores it: the first three parts little endian.
func guid(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08X-%04X-%04X-%X-%X", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}
