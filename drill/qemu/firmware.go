package qemu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// firmwareFiles are the code and the variable template of one build.
type firmwareFiles struct{ code, vars string }

// The places of Debian and Ubuntu first, then those of other systems. The
// 4 MB builds come first: Microsoft's newer keys do not fit into 2 MB stores.
var (
	uefiFiles = []firmwareFiles{
		{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
		{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
		{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
		{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},
	}
	secureFiles = []firmwareFiles{
		{"/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"},
		{"/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"},
		{"/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd"},
		{"/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"},
	}
)

// findFirmware looks for the files of f below root.
func findFirmware(root string, f Firmware) (firmwareFiles, error) {
	list := uefiFiles
	switch f {
	case UEFI:
	case UEFISecureBoot:
		list = secureFiles
	default:
		return firmwareFiles{}, fmt.Errorf("unknown firmware %q: use %s, %s or %s", f, BIOS, UEFI, UEFISecureBoot)
	}
	for _, c := range list {
		c.code, c.vars = filepath.Join(root, c.code), filepath.Join(root, c.vars)
		if isFile(c.code) && isFile(c.vars) {
			return c, nil
		}
	}
	return firmwareFiles{}, fmt.Errorf("firmware %s is not installed: looked for %s and more; install the package ovmf", f, list[0].code)
}

func isFile(p string) bool {
	st, err := os.Stat(p)
	return err == nil && st.Mode().IsRegular()
}

// prepareVars makes the variable store at path unless it is there already.
func prepareVars(template, path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look at the EFI variable store: %w", err)
	}
	b, err := os.ReadFile(template)
	if err != nil {
		return fmt.Errorf("read the template of EFI variables: %w", err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return fmt.Errorf("make the EFI variable store: %w", err)
	}
	return nil
}

// Supported tells whether firmware f can be started here; the error says what
// to install.
func Supported(f Firmware) error {
	if f == BIOS || f == "" {
		return nil
	}
	_, err := findFirmware("/", f)
	return err
}

// firmwareArgs are the arguments for f; code and vars may be empty for BIOS.
func firmwareArgs(f Firmware, files firmwareFiles, vars string) []string {
	if f == BIOS || f == "" {
		return nil
	}
	a := []string{
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + comma(files.code),
		"-drive", "if=pflash,unit=1,format=raw,file=" + comma(vars),
	}
	if f == UEFISecureBoot {
		// Without these the guest could write its keys behind SMM's back,
		// and this OVMF build refuses to start.
		a = append(a, "-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1")
	}
	return a
}

// machineArg is the value of -machine.
func machineArg(c Config) string {
	m := c.Machine
	if m == "" {
		m = "q35"
	}
	if c.Firmware == UEFISecureBoot && !strings.Contains(m, "smm=") {
		m += ",smm=on"
	}
	return m
}
