package usb

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"lifeboat/internal/loaders"
)

// Spec is everything that a host brings to a stick. Equal specs give equal
// images.
type Spec struct {
	Kernel   string   // path on this host
	Initrd   []string // segments on this host, in order; each is padded to 4 bytes, as the kernel wants them
	Manifest []byte
	Menu     loaders.Menu // Dir is set here
	OS       string       // id of the distribution whose loaders are used
	Loaders  loaders.Set
	Archives []Archive
	Room     int64 // bytes to leave free for journals and for archives to come
}

// Archive is a backup that goes onto the stick.
type Archive struct {
	Name string // HOST/DATE.lba
	Path string // on this host
}

// source is one file to be put on the data partition.
type source struct {
	name string // absolute there
	path string // file of this host; "" for data
	data []byte
	from io.ReaderAt // of another image; goes before path and data
	size int64
	sum  string
}

// collect makes the list of a host's own files, kernel and initramfs from
// scratch files in work.
func (s *Spec) collect(ctx context.Context, work string) ([]source, error) {
	if len(s.Initrd) == 0 {
		return nil, errors.New("a rescue system needs an initramfs")
	}
	if err := CheckHost(s.Menu.Host); err != nil {
		return nil, err
	}
	s.Menu.Dir = hostDir(s.Menu)
	if err := s.Menu.Check(); err != nil {
		return nil, err
	}
	menu, err := json.MarshalIndent(s.Menu, "", "  ")
	if err != nil {
		return nil, err
	}
	initrd := filepath.Join(work, fileInit)
	if err := join(ctx, initrd, s.Initrd); err != nil {
		return nil, fmt.Errorf("join the initramfs: %w", err)
	}
	files := []source{
		{name: fileKern, path: s.Kernel}, {name: fileInit, path: initrd},
		{name: fileMan, data: s.Manifest}, {name: fileMenu, data: append(menu, '\n')},
	}
	var sums bytes.Buffer
	sort.Slice(files, func(i, j int) bool { return files[i].name < files[j].name })
	for i := range files {
		f := &files[i]
		if err := f.measure(ctx); err != nil {
			return nil, err
		}
		fmt.Fprintf(&sums, "%s  %s\n", f.sum, f.name)
	}
	files = append(files, source{name: fileSums, data: sums.Bytes(), size: int64(sums.Len())})
	for i := range files {
		files[i].name = s.Menu.Dir + "/" + files[i].name
	}
	return files, nil
}

// measure takes size and digest.
func (f *source) measure(ctx context.Context) error {
	h := sha256.New()
	if f.path == "" {
		h.Write(f.data)
		f.size = int64(len(f.data))
	} else {
		r, err := os.Open(f.path)
		if err != nil {
			return fmt.Errorf("read a file for the stick: %w", err)
		}
		defer r.Close()
		if f.size, err = copyCtx(ctx, h, r); err != nil {
			return fmt.Errorf("read %s: %w", f.path, err)
		}
	}
	f.sum = hex.EncodeToString(h.Sum(nil))
	return nil
}

// join writes the segments one after the other, each on a multiple of 4 bytes.
func join(ctx context.Context, to string, segments []string) error {
	w, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer w.Close()
	for _, s := range segments {
		r, err := os.Open(s)
		if err != nil {
			return err
		}
		n, err := copyCtx(ctx, w, r)
		r.Close()
		if err == nil && n%4 != 0 {
			_, err = w.Write(make([]byte, 4-n%4))
		}
		if err != nil {
			return err
		}
	}
	return w.Close()
}

// copyCtx copies until the end or until ctx ends.
func copyCtx(ctx context.Context, w io.Writer, r io.Reader) (int64, error) {
	buf := make([]byte, 1<<20)
	var done int64
	for {
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
		n, err := r.Read(buf)
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
			return done, err
		}
	}
}

// bootParts are what lies outside of the data partition.
type bootParts struct {
	sector []byte // code of the first sector; nil without BIOS
	core   []byte
	efi    []byte // whole partition
}

// boot makes the boot loaders of a stick with that id.
func boot(ctx context.Context, s *Spec, id, work string, r runner) (*bootParts, error) {
	b := &bootParts{}
	modes := s.Loaders.Supports()
	for _, m := range modes {
		var err error
		switch m {
		case loaders.BIOS:
			if b.core, err = s.Loaders.BIOSImage(ctx, r, loaders.Core, (loaders.Menu{BuildID: id}).Early()); err == nil {
				b.sector, err = s.Loaders.DiskCode(b.core, uint64(coreSector))
			}
			if err == nil && int64(len(b.core)) > coreBytes {
				err = fmt.Errorf("GRUB's image for BIOS has %d bytes, more than its partition", len(b.core))
			}
		case loaders.UEFI:
			b.efi, err = makeEFI(s, id, work)
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}
