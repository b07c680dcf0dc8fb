package iso

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/diskfs/go-diskfs/filesystem/iso9660"

	"lifeboat/internal/diskimg"
)

// sectionBytes is the largest part of a file that one directory record holds:
// below 4 GiB, and whole sectors. Longer files get several records.
var sectionBytes int64 = 4<<30 - sector

// sectionMark follows the name of a section after the first while go-diskfs
// lays out the image. It is 4 bytes long, so that the 4
// bytes that end a Rock Ridge area fit in its place.
const sectionMark = "~%03d"

// layOut lets go-diskfs make the folders, the boot catalog and the places of
// all files. It is shown sparse files of the right sizes; the contents are
// written afterwards, from where they are, without a second copy.
func layOut(f *os.File, pieces []*piece, volume string, bios, efi bool) error {
	work, err := os.MkdirTemp(filepath.Dir(f.Name()), ".lifeboat-iso-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	for _, p := range pieces {
		for n, rest := 0, p.size; n == 0 || rest > 0; n, rest = n+1, rest-sectionBytes {
			name := filepath.Join(work, p.name)
			if n > 0 {
				name += fmt.Sprintf(sectionMark, n)
			}
			if err := hole(name, min(rest, sectionBytes)); err != nil {
				return err
			}
		}
	}
	file := &diskimg.File{File: f}
	image, err := iso9660.Create(file, 0, 0, sector, work)
	if err != nil {
		return err
	}
	boot := &iso9660.ElTorito{BootCatalog: strings.TrimPrefix(catalogPath, "/")}
	if bios {
		e := &iso9660.ElToritoEntry{Platform: iso9660.BIOS, Emulation: iso9660.NoEmulation, BootFile: strings.TrimPrefix(biosPath, "/")}
		e.SetLoadSize(4) // the first 2 KiB load the rest
		boot.Entries = append(boot.Entries, e)
	}
	if efi {
		boot.Entries = append(boot.Entries, &iso9660.ElToritoEntry{Platform: iso9660.EFI, Emulation: iso9660.NoEmulation, BootFile: strings.TrimPrefix(efiPath, "/")})
	}
	options := iso9660.FinalizeOptions{RockRidge: true, VolumeIdentifier: volume}
	if len(boot.Entries) > 0 {
		options.ElTorito = boot
	}
	err = image.Finalize(options)
	return errors.Join(err, file.Err)
}

// hole makes a sparse file and the folders above it.
func hole(name string, size int64) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Close()
}

// locate finds out where each piece lies, and joins the sections of long ones.
func locate(f *os.File, pieces []*piece) (*Image, error) {
	img, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("read back the folders: %w", err)
	}
	joined := false
	for _, p := range pieces {
		for n, rest := 0, p.size; n == 0 || rest > 0; n, rest = n+1, rest-sectionBytes {
			name := p.name
			if n > 0 {
				name += fmt.Sprintf(sectionMark, n)
			}
			e := img.entries[name]
			if e == nil || len(e.extents) != 1 || e.Size != min(rest, sectionBytes) {
				return nil, fmt.Errorf("read back the folders: %s is missing or has the wrong size", name)
			}
			p.extent = append(p.extent, e.extents[0])
		}
		if len(p.extent) > 1 {
			joined = true
			if err := joinSections(f, img, p); err != nil {
				return nil, fmt.Errorf("join the parts of %s: %w", p.name, err)
			}
		}
	}
	if !joined {
		return img, nil
	}
	return Read(f)
}

// joinSections turns the records of p's sections into those of one long file:
// equal names, and in all but the last the flag that more follows.
func joinSections(f *os.File, img *Image, p *piece) error {
	first := img.entries[p.name].records[0]
	head, err := readAt(f, first.off, first.size)
	if err != nil {
		return err
	}
	id := head[32 : 33+head[32]]
	at := first
	for n := range p.extent {
		if n > 0 {
			r := img.entries[p.name+fmt.Sprintf(sectionMark, n)].records[0]
			// Readers of such files expect their records side by side; only
			// the end of a sector may lie between.
			if next := at.off + at.size; r.off != next && r.off != align(next, sector) {
				return errors.New("another file came between; give it another name")
			}
			at = r
		}
		rec, err := readAt(f, at.off, at.size)
		if err != nil {
			return err
		}
		if n > 0 {
			if rec, err = renamed(rec, at, id, path.Base(p.name)); err != nil {
				return err
			}
		}
		if n < len(p.extent)-1 {
			rec[25] |= 0x80
		}
		if _, err := f.WriteAt(rec, at.off); err != nil {
			return err
		}
	}
	return nil
}

// renamed makes the record old of a section with another identifier (with its
// length in front) and another Rock Ridge name. The record keeps its length:
// the Rock Ridge area ends early.
func renamed(old []byte, r record, id []byte, name string) ([]byte, error) {
	rec := append(bytes.Clone(old[:32]), id...)
	if len(rec)%2 != 0 {
		rec = append(rec, 0)
	}
	for _, x := range r.fields {
		switch {
		case x.off < r.off || x.off >= r.off+r.size || x.sig == "CE":
			return nil, fmt.Errorf("the name %q is too long for a file of this size", name)
		case x.sig == "NM":
			rec = append(rec, 'N', 'M', byte(5+len(name)), 1, 0)
			rec = append(rec, name...)
		default:
			rec = append(rec, x.data...)
		}
	}
	rec = append(rec, 'S', 'T', 4, 1)
	if len(rec) > len(old) {
		return nil, fmt.Errorf("the name %q does not fit into the record of a part", name)
	}
	return append(rec, make([]byte, len(old)-len(rec))...), nil
}

func readAt(f *os.File, off, n int64) ([]byte, error) {
	b := make([]byte, n)
	_, err := f.ReadAt(b, off)
	return b, err
}
