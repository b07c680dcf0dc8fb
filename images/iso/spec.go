// Package iso writes and reads the rescue medium: one image that boots as CD
// and as stick, in BIOS and UEFI.
// Level 3: one container format of images.
package iso

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"lifeboat/internal/loaders"
	"lifeboat/internal/run"
	"lifeboat/report"
)

// Places on the medium besides kernel, initramfs and loader files.
const (
	BuildIDPath  = "/lifeboat/build-id"
	ManifestPath = "/lifeboat/manifest.json"
	SumsPath     = "/lifeboat/sha256sums" // for sha256sum -c from the top of the medium
	menuPath     = "/boot/grub/grub.cfg"
	biosPath     = "/boot/grub/eltorito.img"
	efiPath      = "/boot/efi.img"
	catalogPath  = "/boot/boot.cat"
)

const (
	// Firmware and loaders of real machines have been seen to fail with more.
	largeInitrd = 400 << 20
	// The boot protocol counts the initramfs in 32 bits.
	maxInitrd = 4<<30 - 1
)

// Source is where the bytes of a file come from: a file of this host, or Data.
type Source struct {
	Path string
	Data []byte
}

// File is one more file for the medium.
type File struct {
	Name string // absolute path on the medium
	Source
}

// Spec is everything that a medium is made from. Equal specs give equal
// images.
type Spec struct {
	Kernel   string   // path on this host
	Initrd   []Source // segments in order; each is padded to 4 bytes, as the kernel wants them
	Manifest []byte
	Files    []File
	Menu     loaders.Menu
	Loaders  loaders.Set
	Runner   run.Runner // starts grub-mkimage
}

// Result tells what was written.
type Result struct {
	Path     string            `json:"path"`
	Bytes    int64             `json:"bytes"`
	Modes    []loaders.Mode    `json:"modes"` // in which it boots
	Problems []report.Problem  `json:"problems,omitempty"`
	Sizes    map[string]int64  `json:"sizes"`             // of each file on the medium
	Missing  []loaders.Missing `json:"missing,omitempty"` // why other modes are not possible
}

// piece is one file of the medium while it is written.
type piece struct {
	name   string // absolute
	src    []Source
	size   int64
	sum    [32]byte
	extent []extent // where go-diskfs put it
}

// extent is a run of bytes of the image.
type extent struct{ off, size int64 }

// newPiece measures the sources. Segments after the first begin on a multiple
// of 4 bytes.
func newPiece(name string, src ...Source) (*piece, error) {
	p := &piece{name: path.Clean("/" + name), src: src}
	for _, s := range src {
		p.size = align(p.size, 4)
		n := int64(len(s.Data))
		if s.Path != "" {
			st, err := os.Stat(s.Path)
			if err != nil {
				return nil, fmt.Errorf("file %s of the medium: %w", p.name, err)
			}
			if !st.Mode().IsRegular() {
				return nil, fmt.Errorf("file %s of the medium: %s is not a regular file", p.name, s.Path)
			}
			n = st.Size()
		}
		p.size += n
	}
	return p, nil
}

func align(n, to int64) int64 { return (n + to - 1) / to * to }

// copyTo writes exactly p.size bytes to w. A source that changed its size
// since it was measured is an error: the medium would be wrong.
func (p *piece) copyTo(ctx context.Context, w io.Writer) error {
	var done int64
	buf := make([]byte, 1<<20)
	for _, s := range p.src {
		if pad := align(done, 4) - done; pad > 0 {
			if _, err := w.Write(make([]byte, pad)); err != nil {
				return err
			}
			done += pad
		}
		if s.Path == "" {
			n, err := w.Write(s.Data)
			if err != nil {
				return err
			}
			done += int64(n)
			continue
		}
		n, err := copyFile(ctx, w, s.Path, buf)
		if err != nil {
			return err
		}
		done += n
	}
	if done != p.size {
		return fmt.Errorf("file %s of the medium: its source changed from %d to %d bytes while it was copied; try again", p.name, p.size, done)
	}
	return nil
}

func copyFile(ctx context.Context, w io.Writer, from string, buf []byte) (int64, error) {
	f, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var done int64
	for {
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
		n, err := f.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return done, err
			}
			done += int64(n)
		}
		if err == io.EOF {
			return done, nil
		}
		if err != nil {
			return done, fmt.Errorf("read %s: %w", from, err)
		}
	}
}

// check finds what is wrong with a spec before anything is written, and what
// a person should know about it.
func (s Spec) check() (modes []loaders.Mode, missing []loaders.Missing, notes []report.Problem, err error) {
	if err := s.Menu.Check(); err != nil {
		return nil, nil, nil, err
	}
	if len(s.Initrd) == 0 {
		return nil, nil, nil, errors.New("a medium needs an initramfs")
	}
	for _, m := range loaders.Modes {
		if lack := s.Loaders.Missing(m); len(lack) > 0 {
			missing = append(missing, lack...)
			notes = append(notes, cannot(m, lack))
			continue
		}
		modes = append(modes, m)
	}
	if len(modes) == 0 {
		return nil, missing, nil, report.Errorf(report.CodeLoaderMissing, "install the packages "+loaders.Packages(missing),
			"this host has no boot loader files that a medium could start with")
	}
	if i := len(modes) - 1; modes[i] == loaders.SecureBoot {
		signed, err := loaders.Signed(s.Kernel)
		if err != nil {
			return nil, nil, nil, err
		}
		if !signed {
			modes = modes[:i]
			notes = append(notes, report.Problem{Code: report.CodeLoaderMissing, Severity: report.Warning, Object: s.Kernel,
				Text: "the kernel " + s.Kernel + " is not signed, so the medium does not start under Secure Boot",
				Next: "switch Secure Boot off for a recovery, or install a signed kernel"})
		}
	}
	return modes, missing, notes, nil
}

// cannot says in one warning why the medium does not start in a mode.
func cannot(m loaders.Mode, lack []loaders.Missing) report.Problem {
	p := report.Problem{Code: report.CodeLoaderMissing, Severity: report.Warning, Object: lack[0].Path,
		Text: fmt.Sprintf("the medium does not start by %s: %s is missing", m, lack[0].Path),
		Next: "install " + loaders.Packages(lack)}
	for _, l := range lack[1:] {
		p.Details = append(p.Details, l.Path+" is missing, too")
	}
	return p
}

// checkInitrd judges its size.
func checkInitrd(size int64) (*report.Problem, error) {
	if size > maxInitrd {
		return nil, report.Errorf(report.CodeSize, "leave out modules or files",
			"the initramfs has %d bytes; no boot loader loads more than 4 GiB", size)
	}
	if size > largeInitrd {
		return &report.Problem{Code: report.CodeSize, Severity: report.Warning, Object: loaders.InitrdPath,
			Text: fmt.Sprintf("the initramfs has %d MiB; some machines load no more than %d MiB", size>>20, largeInitrd>>20),
			Next: "use modules: host, or leave out files"}, nil
	}
	return nil, nil
}

// label is the volume's name, for people only: the medium is found by its
// build id.
func label(host string) string {
	l := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z' || r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, "LIFEBOAT_"+host)
	return l[:min(len(l), 32)]
}
