package usb

import (
	"fmt"
	"path"
	"slices"

	"lifeboat/internal/loaders"
	"lifeboat/report"
)

// Judge says in which modes a stick with this mark starts the kernel (path on
// this host) of a distribution, and what a person should know. What the host
// has of boot loaders does not count, since the stick brings its own; it is
// asked for a stick that does not say what it has.
func (m Mark) Judge(os, kernel string, host loaders.Set) ([]loaders.Mode, []report.Problem, error) {
	if len(m.Boots) == 0 {
		modes, _, notes, err := host.Judge(kernel)
		return modes, notes, err
	}
	var modes []loaders.Mode
	var notes []report.Problem
	for _, x := range loaders.Modes {
		switch {
		case !slices.Contains(m.Boots, x):
			notes = append(notes, lacks(x, host))
		case x == loaders.SecureBoot && m.OS != "" && os != "" && os != m.OS: // Add says why
		default:
			modes = append(modes, x)
		}
	}
	modes, note, err := loaders.WithKernel(modes, kernel)
	if note != nil {
		notes = append(notes, *note)
	}
	return modes, notes, err
}

// lacks says that the stick was made without the loaders of a mode.
func lacks(x loaders.Mode, host loaders.Set) report.Problem {
	next := "write the stick again with `lifeboat usb write --fresh` and an image of this host"
	if lack := host.Missing(x); len(lack) > 0 {
		next = "install " + loaders.Packages(lack) + ", make the image again, and write the stick again with `lifeboat usb write --fresh`"
	}
	return report.Problem{Code: report.CodeLoaderMissing, Severity: report.Warning, Object: string(x),
		Text: fmt.Sprintf("the stick does not start by %s: it was made without boot loaders for it", x), Next: next}
}

// checkInitrd judges the size of the initramfs among the files of a host.
func checkInitrd(files []source) (*report.Problem, error) {
	for _, f := range files {
		if path.Base(f.name) == fileInit {
			return loaders.CheckInitrd(f.size)
		}
	}
	return nil, nil
}
