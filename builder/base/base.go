// Package base holds the part of the rescue system that is the same for every
// host: init, lifeboat-rescue and the u-root commands, made by mkbase.
// Level 3.5: part of builder.
package base

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"math"

	"lifeboat/internal/cpio"
)

// The folder is embedded, not the file: it always exists, so the module builds
// before the first make.
//
//go:embed data
var data embed.FS

// ErrMissing says that this program holds no rescue base.
var ErrMissing = errors.New("built without the rescue base: run make")

// Segment is the base as an initramfs segment compressed with zstd, ready to
// be the first of an image whose kernel unpacks zstd.
func Segment() ([]byte, error) {
	b, err := data.ReadFile("data/base.cpio.zst")
	if err != nil {
		return nil, ErrMissing
	}
	return b, nil
}

// Write puts every entry of the base into an archive, for a segment with
// another compression.
func Write(w *cpio.Writer) error {
	b, err := Segment()
	if err != nil {
		return err
	}
	r := cpio.NewReader(bytes.NewReader(b))
	defer r.Close()
	for {
		e, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("rescue base: %w", err)
		}
		if err := w.Add(*e, r); err != nil {
			return fmt.Errorf("rescue base: %w", err)
		}
	}
}

// Entries lists what is in the base.
func Entries() ([]cpio.Entry, error) {
	b, err := Segment()
	if err != nil {
		return nil, err
	}
	e, _, err := cpio.List(bytes.NewReader(b))
	return e, err
}

// Open returns the contents of the regular files by path without leading
// slash.
func Open() (map[string][]byte, error) {
	b, err := Segment()
	if err != nil {
		return nil, err
	}
	return cpio.ReadFiles(bytes.NewReader(b), cpio.Entry.Regular, math.MaxInt32)
}
