package backup

import (
	"path"
	"strings"

	"lifeboat/report"
)

// USB is the URL of a store on the rescue stick, wherever that is mounted:
// "usb:", or "usb:HOST/DATE.lba" for one archive.
const USB = "usb:"

// IsUSB tells whether a URL means the rescue stick.
func IsUSB(raw string) bool { return strings.HasPrefix(raw, USB) }

// OnStick turns a URL of the rescue stick into the path below its mount point.
func OnStick(raw, mounted string) (string, error) {
	rest := strings.Trim(strings.TrimPrefix(raw, USB), "/")
	if rest == "" {
		return mounted, nil
	}
	if !strings.HasSuffix(rest, Suffix) || checkName(rest) != nil {
		return "", report.Errorf(report.CodeConfig, "write usb: for the newest backup, or usb:HOST/DATE"+Suffix, "backup URL %q names no archive on the stick", raw)
	}
	return path.Join(mounted, rest), nil
}
