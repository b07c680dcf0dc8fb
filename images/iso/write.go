package iso

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/internal/diskimg"
	"lifeboat/internal/loaders"
	"lifeboat/report"
)

// Write writes the medium that s describes to path. The file appears there
// complete, readable by its owner alone, or not at all.
func Write(ctx context.Context, path string, s Spec) (Result, error) {
	r, err := write(ctx, path, s)
	if err != nil {
		return r, fmt.Errorf("write the medium %s: %w", path, err)
	}
	return r, nil
}

func write(ctx context.Context, path string, s Spec) (Result, error) {
	modes, missing, notes, err := s.check()
	res := Result{Path: path, Modes: modes, Missing: missing, Problems: notes}
	if err != nil {
		return res, err
	}
	dir := filepath.Dir(path)
	b := &builder{spec: s, dir: dir}
	if err := b.collect(ctx, modes); err != nil {
		return res, err
	}
	note, err := loaders.CheckInitrd(b.initrd.size)
	if err != nil {
		return res, err
	}
	if note != nil {
		res.Problems = append(res.Problems, *note)
	}
	if err := b.room(); err != nil {
		return res, err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".")
	if err != nil {
		return res, err
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	defer f.Close()
	if res.Bytes, err = b.fill(ctx, f); err != nil {
		return res, err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return res, err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return res, err
	}
	res.Sizes = map[string]int64{}
	for _, p := range b.pieces {
		res.Sizes[p.name] = p.size
	}
	return res, syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// builder is one run of Write.
type builder struct {
	spec   Spec
	dir    string // of the image; scratch files lie beside it
	pieces []*piece

	initrd, bios, efi, sums *piece // of pieces; bios and efi may be nil
}

// collect makes the list of all files of the medium.
func (b *builder) collect(ctx context.Context, modes []loaders.Mode) error {
	m := b.spec.Menu
	info := fmt.Sprintf("Lifeboat rescue medium of %s, %s, build %s\n", m.Host, m.Built.UTC().Format("2006-01-02 15:04 UTC"), m.BuildID)
	b.add(loaders.KernelPath, Source{Path: b.spec.Kernel})
	b.initrd = b.add(loaders.InitrdPath, b.spec.Initrd...)
	b.add(menuPath, Source{Data: []byte(m.Config())})
	b.add(BuildIDPath, Source{Data: []byte(m.BuildID + "\n")})
	b.add(loaders.IDFile(m.BuildID), Source{Data: []byte(m.BuildID + "\n")})
	b.add(ManifestPath, Source{Data: b.spec.Manifest})
	b.add(loaders.CDSearchFile, Source{Data: []byte(info)})
	for _, mode := range modes {
		var err error
		switch mode {
		case loaders.BIOS:
			var img []byte
			img, err = b.spec.Loaders.BIOSImage(ctx, b.spec.Runner, loaders.ElTorito, m.Early())
			img = append(img, make([]byte, align(int64(len(img)), 4)-int64(len(img)))...) // its sum counts words
			b.bios = b.add(biosPath, Source{Data: img})
		case loaders.UEFI:
			var img []byte
			img, err = b.makeEFI()
			b.efi = b.add(efiPath, Source{Data: img})
		}
		if err != nil {
			return err
		}
	}
	for _, f := range b.spec.Files {
		if !strings.HasPrefix(f.Name, "/") || strings.HasSuffix(f.Name, "/") {
			return fmt.Errorf("file %q of the medium: use an absolute name of a file", f.Name)
		}
		b.add(f.Name, f.Source)
	}
	b.sums = b.add(SumsPath) // its size follows from the names
	return b.measure()
}

func (b *builder) add(name string, src ...Source) *piece {
	p := &piece{name: name, src: src}
	b.pieces = append(b.pieces, p)
	return p
}

// makeEFI packs the EFI loaders and a menu that goes on to the real one.
func (b *builder) makeEFI() ([]byte, error) {
	m := b.spec.Menu
	files, err := b.spec.Loaders.EFIFiles(m.BuildID)
	if err != nil {
		return nil, err
	}
	h := sha256.Sum256([]byte(m.BuildID))
	return diskimg.FAT(b.dir, files, 0, binary.LittleEndian.Uint32(h[:]), m.Built)
}

// measure sorts the pieces and fixes all sizes.
func (b *builder) measure() error {
	sort.Slice(b.pieces, func(i, j int) bool { return b.pieces[i].name < b.pieces[j].name })
	var sums int64
	for i, p := range b.pieces {
		if i > 0 && b.pieces[i-1].name == p.name {
			return fmt.Errorf("file %s would be on the medium twice", p.name)
		}
		if p == b.sums {
			continue
		}
		measured, err := newPiece(p.name, p.src...)
		if err != nil {
			return err
		}
		if measured.name != p.name || strings.ContainsAny(p.name, "\n\\~") {
			return fmt.Errorf("file %q cannot be on the medium: the name is not plain", p.name)
		}
		p.size = measured.size
		sums += int64(len(sumLine(p)))
	}
	sums += int64(len(sumLine(&piece{name: catalogPath})))
	b.sums.size = sums
	return nil
}

// sumLine is a line as sha256sum writes it, with names from the medium's top.
func sumLine(p *piece) string { return fmt.Sprintf("%x  %s\n", p.sum, strings.TrimPrefix(p.name, "/")) }

// room refuses before anything is written when the disk is too small.
func (b *builder) room() error {
	need := int64(4*mib) + tailBytes
	for _, p := range b.pieces {
		need += align(p.size, sector) + sector
	}
	var st unix.Statfs_t
	if err := unix.Statfs(b.dir, &st); err != nil {
		return fmt.Errorf("look for free space in %s: %w", b.dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return report.Errorf(report.CodeNoSpace, "make room, or set output_dir to another disk",
			"%s has %d MiB free and the medium needs %d MiB", b.dir, free/mib, (need+mib-1)/mib)
	}
	return nil
}

// fill writes everything into the empty file f and returns its length.
func (b *builder) fill(ctx context.Context, f *os.File) (int64, error) {
	m := b.spec.Menu
	if err := layOut(f, b.pieces, label(m.Host), b.bios != nil, b.efi != nil); err != nil {
		return 0, fmt.Errorf("lay out the image: %w", err)
	}
	img, err := locate(f, b.pieces)
	if err != nil {
		return 0, err
	}
	if err := stamp(f, img, m.Built); err != nil {
		return 0, err
	}
	total := align(img.VolumeBytes(), mib) + tailBytes
	if err := f.Truncate(total); err != nil {
		return 0, err
	}
	if b.bios != nil {
		b.patchBIOS()
	}
	for _, p := range b.pieces {
		if p == b.sums {
			continue
		}
		if err := b.put(ctx, f, p); err != nil {
			return 0, err
		}
	}
	if err := b.putSums(ctx, f, img); err != nil {
		return 0, err
	}
	if err := makeHybrid(f, total, b.spec.Loaders, b.bios, b.efi, m.BuildID); err != nil {
		return 0, err
	}
	done, err := Read(f)
	if err == nil {
		err = done.Verify(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("read back what was written: %w", err)
	}
	return total, nil
}

// put writes one piece to its place and takes its sum.
func (b *builder) put(ctx context.Context, f *os.File, p *piece) error {
	h := sha256.New()
	w := &extentWriter{f: f, list: p.extent}
	if err := p.copyTo(ctx, io.MultiWriter(w, h)); err != nil {
		return err
	}
	h.Sum(p.sum[:0])
	return nil
}

// extentWriter writes to the parts of a file one after the other.
type extentWriter struct {
	f    *os.File
	list []extent
	done int64 // in list[0]
}

func (w *extentWriter) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(w.list) == 0 {
			return n, errors.New("more bytes than were measured")
		}
		e := w.list[0]
		m := int(min(int64(len(p)-n), e.size-w.done))
		if m == 0 {
			w.list, w.done = w.list[1:], 0
			continue
		}
		k, err := w.f.WriteAt(p[n:n+m], e.off+w.done)
		n += k
		w.done += int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// patchBIOS tells GRUB's El Torito image where it lies: by the boot
// information table for CDs, and by GRUB's own fields for sticks.
func (b *builder) patchBIOS() {
	img := b.bios.src[0].Data
	le := binary.LittleEndian
	at := b.bios.extent[0].off
	off, info := loaders.ElToritoBootInfo(uint64(at / 512))
	copy(img[off:], info)
	var sum uint32
	for i := 64; i+4 <= len(img); i += 4 {
		sum += le.Uint32(img[i:])
	}
	le.PutUint32(img[8:], 16) // where the volume descriptor is
	le.PutUint32(img[12:], uint32(at/sector))
	le.PutUint32(img[16:], uint32(len(img)))
	le.PutUint32(img[20:], sum)
	clear(img[24:64])
}

// putSums writes the list of sums, and its own sum into the volume descriptor.
func (b *builder) putSums(ctx context.Context, f *os.File, img *Image) error {
	cat, err := img.ReadFile(catalogPath, sector)
	if err != nil {
		return err
	}
	list := append([]*piece{{name: catalogPath, sum: sha256.Sum256(cat)}}, b.pieces...)
	sort.Slice(list, func(i, j int) bool { return list[i].name < list[j].name })
	var text bytes.Buffer
	for _, p := range list {
		if p != b.sums {
			text.WriteString(sumLine(p))
		}
	}
	b.sums.src = []Source{{Data: text.Bytes()}}
	if err := b.put(ctx, f, b.sums); err != nil {
		return err
	}
	_, err = f.WriteAt(fmt.Appendf(nil, "%s%x\n", appMark, b.sums.sum), volApp)
	return err
}
