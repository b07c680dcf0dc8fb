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
	return s.Loaders.Judge(s.Kernel)
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
