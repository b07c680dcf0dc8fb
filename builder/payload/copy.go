package payload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"lifeboat/report"
)

// maxCopy warns of a `copy:` that makes the image too large for memory.
const maxCopy = 200 << 20

// Copy packs files and folders that the user names. A secret is packed only
// when it is named itself; one that merely lies in a named folder is left
// out, and said so. What is named and not there is an error: the user counts
// on it.
func (p *Packer) Copy(paths []string) error {
	var total int64
	for _, want := range paths {
		if !path.IsAbs(want) {
			return report.Errorf(report.CodeConfig, "write the whole path", "copy: %q does not begin with /", want)
		}
		matches := []string{path.Clean(want)}
		if strings.ContainsAny(want, "*?[") {
			matches = p.Host.Glob(path.Clean(want))
		}
		if len(matches) == 0 {
			return report.Errorf(report.CodeConfig, "correct copy: in the configuration", "copy: nothing matches %s", want)
		}
		for _, m := range matches {
			n, err := p.copyOne(m)
			if errors.Is(err, fs.ErrNotExist) {
				return report.Errorf(report.CodeConfig, "correct copy: in the configuration", "copy: %w", err)
			}
			if err != nil {
				return err
			}
			total += n
		}
	}
	if total > maxCopy {
		p.Problems = append(p.Problems, report.Problem{Code: report.CodeSize, Severity: report.Warning,
			Text: fmt.Sprintf("copy: adds %d MiB to the rescue system, which lives in memory", total>>20),
			Next: "put large files on the backup or on the stick's data partition"})
	}
	return nil
}

func (p *Packer) copyOne(want string) (int64, error) {
	canon, hops, err := p.Host.Follow(want)
	if err != nil {
		return 0, err
	}
	for _, l := range hops {
		if err := p.link(l, "copy"); err != nil {
			return 0, err
		}
	}
	if !p.Host.lstat(canon).mode.IsDir() {
		return p.copyFile(canon, true)
	}
	var total int64
	err = filepath.WalkDir(p.Host.Path(canon), func(full string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("copy %s: %w", want, err)
		}
		rel, err := filepath.Rel(p.Host.Path(canon), full)
		if err != nil {
			return err
		}
		at := path.Join(canon, rel)
		switch {
		case d.IsDir():
			fi, err := d.Info()
			if err != nil {
				return err
			}
			return p.Tree.Dir(at, fi.Mode().Perm(), "copy")
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(full)
			if err != nil {
				return err
			}
			return p.link(hop{at, target}, "copy")
		case d.Type().IsRegular():
			n, err := p.copyFile(at, false)
			total += n
			return err
		}
		return nil // sockets, pipes and devices mean nothing elsewhere
	})
	return total, err
}

// copyFile packs one file as it is, and what it needs if it is a program.
func (p *Packer) copyFile(at string, named bool) (int64, error) {
	st := p.Host.lstat(at)
	if st.err != nil {
		return 0, st.err
	}
	if !st.mode.IsRegular() {
		return 0, report.Errorf(report.CodeConfig, "name files and folders only", "copy: %s is neither a file nor a folder", at)
	}
	e := Entry{Path: at, Mode: st.mode.Perm(), Source: p.Host.Path(at), Why: "copy"}
	var content []byte
	if MayHoldSecret(at) && st.size <= 1<<20 {
		var err error
		if content, err = os.ReadFile(e.Source); err != nil {
			return 0, fmt.Errorf("copy: %w", err)
		}
	}
	if why := p.secrets.why(at, content); why != "" {
		if !named {
			p.Problems = append(p.Problems, report.Problem{Code: report.CodeSecret, Severity: report.Info, Object: at,
				Text: fmt.Sprintf("%s is left out of the image: %s", at, why), Next: "name the file itself in copy: to pack it"})
			return 0, nil
		}
		e.Mode = private(e.Mode)
		p.Problems = append(p.Problems, report.Problem{Code: report.CodeSecret, Severity: report.Warning, Object: at,
			Text: fmt.Sprintf("the image holds %s: %s, as the configuration asks", at, why), Next: "keep the image as safe as the file"})
	}
	if err := p.needs(at, "copy"); err != nil {
		return 0, err
	}
	return st.size, p.Tree.Put(e)
}
