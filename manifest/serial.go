package manifest

import "strings"

// placeholders are serials that firmware, enclosures and hypervisors give to
// every device alike. Compared in lower case.
var placeholders = map[string]bool{
	"none": true, "n/a": true, "na": true, "null": true, "unknown": true, "default": true,
	"default string": true, "not specified": true, "not available": true, "not applicable": true,
	"empty": true, "invalid": true, "serial": true, "serial number": true, "serialnumber": true,
	"system serial number": true, "to be filled by o.e.m.": true, "to be filled by oem": true,
	"tobefilledbyo.e.m.": true, "o.e.m.": true, "oem": true, "test": true, "0123456789": true,
	"1234567890": true, "123456789": true, "12345678": true, "1234567": true, "123456": true, "12345": true,
	"0123456789abcdef": true, "123456789abcdef": true, "1234567890abcdef": true, "abcdef": true,
	"000000000001": true, "deadbeef": true, "0xdeadbeef": true,
}

// UsableSerial returns the serial without outer blanks, or "" when it cannot
// tell one disk from another: empty, one repeated character, a placeholder
// text, or the counter that QEMU and libvirt give where nobody set a serial.
// Two disks of one machine with the same serial are for the caller to find.
func UsableSerial(serial string) string {
	s := strings.TrimSpace(strings.Trim(strings.TrimSpace(serial), "\x00"))
	low := strings.ToLower(s)
	if s == "" || placeholders[low] || strings.Trim(low, low[:1]) == "" {
		return ""
	}
	if strings.Trim(low, "0 -._:") == "" || strings.HasPrefix(low, "to be filled") {
		return ""
	}
	// QEMU: QM00001; libvirt: drive-scsi0-0-0-1, drive-ide0-0-0; Proxmox:
	// drive-scsi0; Google: persistent-disk-0.
	if n, ok := strings.CutPrefix(low, "persistent-disk-"); ok && digits(n) {
		return ""
	}
	if n, ok := strings.CutPrefix(low, "qm"); ok && len(n) == 5 && digits(n) {
		return ""
	}
	if n, ok := strings.CutPrefix(low, "drive-"); ok && driveName(n) {
		return ""
	}
	return s
}

// UsableWWN returns the world wide name, or "" when it is no identity: its
// digits are all the same, or it is made of a serial that is a placeholder.
func UsableWWN(wwn string) string {
	w := strings.TrimSpace(wwn)
	kind, rest, ok := strings.Cut(strings.ToLower(w), ".")
	if !ok {
		kind, rest = "", strings.TrimPrefix(strings.ToLower(w), "0x")
	}
	switch kind {
	case "t10": // vendor, model and serial, parted by blanks or underscores
		f := strings.FieldsFunc(rest, func(r rune) bool { return r == ' ' || r == '_' })
		if len(f) < 2 || UsableSerial(f[len(f)-1]) == "" {
			return ""
		}
	case "nvme": // vendor-serial-model-namespace, serial and model in hex
		f := strings.Split(rest, "-")
		if len(f) < 2 || UsableSerial(unhex(f[1])) == "" {
			return ""
		}
	default:
		if rest == "" || strings.Trim(rest, rest[:1]) == "" || strings.Trim(rest, "0-") == "" {
			return ""
		}
	}
	return w
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// driveName tells whether s is what libvirt and Proxmox make of bus and
// address: letters and a number, then perhaps numbers, parted by dashes.
func driveName(s string) bool {
	f := strings.Split(s, "-")
	if !digits(strings.TrimLeft(f[0], "abcdefghijklmnopqrstuvwxyz")) {
		return false
	}
	for _, n := range f[1:] {
		if !digits(n) {
			return false
		}
	}
	return true
}

// unhex reads hex digits as text; what is no hex stays as it is.
func unhex(s string) string {
	var out []byte
	const hex = "0123456789abcdef"
	for i := 0; i+1 < len(s); i += 2 {
		hi, lo := strings.IndexByte(hex, s[i]), strings.IndexByte(hex, s[i+1])
		if hi < 0 || lo < 0 {
			return s
		}
		out = append(out, byte(hi<<4|lo))
	}
	return string(out)
}
