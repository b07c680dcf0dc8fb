package loaders

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path"
	"slices"

	"lifeboat/report"
)

const (
	// LargeInitrd is the size in bytes above which CheckInitrd warns: firmware
	// and loaders of real machines have been seen to fail with more.
	LargeInitrd = 400 << 20
	// The boot protocol counts the initramfs in 32 bits.
	maxInitrd = 4<<30 - 1
)

// Judge says in which modes a medium with this set and the kernel at that
// path starts, what other modes lack, and what a person should know. No mode
// at all is an error.
func (s Set) Judge(kernel string) (modes []Mode, missing []Missing, notes []report.Problem, err error) {
	for _, m := range Modes {
		if lack := s.Missing(m); len(lack) > 0 {
			missing = append(missing, lack...)
			notes = append(notes, cannot(m, lack))
			continue
		}
		modes = append(modes, m)
	}
	if len(modes) == 0 {
		return nil, missing, nil, report.Errorf(report.CodeLoaderMissing, "install the packages "+Packages(missing),
			"this host has no boot loader files that a medium could start with")
	}
	modes, note, err := WithKernel(modes, kernel)
	if err != nil {
		return nil, nil, nil, err
	}
	if note != nil {
		notes = append(notes, *note)
	}
	return modes, missing, notes, nil
}

// WithKernel takes Secure Boot away from the modes of a medium when the kernel
// at that path is not signed, and then says so.
func WithKernel(modes []Mode, kernel string) ([]Mode, *report.Problem, error) {
	i := slices.Index(modes, SecureBoot)
	if i < 0 {
		return modes, nil, nil
	}
	signed, err := Signed(kernel)
	if err != nil || signed {
		return modes, nil, err
	}
	return slices.Delete(slices.Clone(modes), i, i+1), &report.Problem{Code: report.CodeLoaderMissing, Severity: report.Warning, Object: kernel,
		Text: "the kernel " + kernel + " is not signed, so the medium does not start under Secure Boot",
		Next: "switch Secure Boot off for a recovery, or install a signed kernel"}, nil
}

// cannot says in one warning why the medium does not start in a mode.
func cannot(m Mode, lack []Missing) report.Problem {
	p := report.Problem{Code: report.CodeLoaderMissing, Severity: report.Warning, Object: lack[0].Path,
		Text: fmt.Sprintf("the medium does not start by %s: %s is missing", m, lack[0].Path),
		Next: "install " + Packages(lack)}
	for _, l := range lack[1:] {
		p.Details = append(p.Details, l.Path+" is missing, too")
	}
	return p
}

// CheckInitrd judges the size of a medium's initramfs: a warning, an error, or
// nothing.
func CheckInitrd(size int64) (*report.Problem, error) {
	if size > maxInitrd {
		return nil, report.Errorf(report.CodeSize, "leave out modules or files",
			"the initramfs has %d bytes; no boot loader loads more than 4 GiB", size)
	}
	if size > LargeInitrd {
		return &report.Problem{Code: report.CodeSize, Severity: report.Warning, Object: InitrdPath,
			Text: fmt.Sprintf("the initramfs has %d MiB; some machines load no more than %d MiB, and under Secure Boot fewer", size>>20, LargeInitrd>>20),
			Next: "set modules: host, or take large files out of copy:"}, nil
	}
	return nil, nil
}

// MediumGUID makes an identity that follows from the build, so that equal
// builds are equal and different media never clash.
func MediumGUID(buildID, what string) string {
	h := sha256.Sum256([]byte("lifeboat medium " + buildID + " " + what))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80 // version 8, RFC 9562
	return fmt.Sprintf("%X-%X-%X-%X-%X", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// EFIFiles are the files of the FAT image that UEFI starts, by absolute path:
// the loaders, a menu that goes on to the one of the medium with that id, and
// the mark of a medium.
func (s Set) EFIFiles(id string) (map[string][]byte, error) {
	files := map[string][]byte{
		GrubCDPrefix + "/grub.cfg": []byte(Menu{BuildID: id}.Stub()),
		MediumMark:                 []byte(id + "\n"),
	}
	for name, host := range s.MediumFiles() {
		b, err := os.ReadFile(host)
		if err != nil {
			return nil, fmt.Errorf("read a boot loader file: %w", err)
		}
		files[path.Join(FallbackDir, name)] = b
	}
	return files, nil
}
