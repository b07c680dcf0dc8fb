package iso

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// largest list of sums, manifest and build id that are read.
const maxSmall = 64 << 20

// BuildID is the build that this medium is of.
func (i *Image) BuildID() (string, error) {
	b, err := i.ReadFile(BuildIDPath, 256)
	if err != nil {
		return "", fmt.Errorf("this is no rescue medium: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// Manifest is the manifest on the medium.
func (i *Image) Manifest() ([]byte, error) { return i.ReadFile(ManifestPath, maxSmall) }

// Verify reads every file of the image and compares it with the list of sums,
// and the list with the sum in the volume descriptor. All faults are in the
// error, one a line.
func (i *Image) Verify(ctx context.Context) error {
	list, err := i.ReadFile(SumsPath, maxSmall)
	if err != nil {
		return err
	}
	want, ok := bytes.CutPrefix(i.volume[volApp-16*sector:], []byte(appMark))
	if have := sha256.Sum256(list); !ok || !bytes.HasPrefix(want, []byte(hex.EncodeToString(have[:]))) {
		return fmt.Errorf("%s differs from its sum in the volume descriptor: the image is damaged", SumsPath)
	}
	known := map[string]bool{SumsPath: true}
	var faults []error
	for _, l := range strings.Split(strings.TrimSuffix(string(list), "\n"), "\n") {
		sum, name, ok := strings.Cut(l, "  ")
		if !ok {
			return fmt.Errorf("%s: the line %q is damaged", SumsPath, l)
		}
		name = path.Clean("/" + name)
		known[name] = true
		if err := i.verifyFile(ctx, name, sum); err != nil {
			if ctx.Err() != nil {
				return err
			}
			faults = append(faults, err)
		}
	}
	for _, e := range i.List() {
		if e.Mode.IsRegular() && !known[e.Path] {
			faults = append(faults, fmt.Errorf("%s is not in the list of sums: it was added later", e.Path))
		}
	}
	if err := i.verifyTable(); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

func (i *Image) verifyFile(ctx context.Context, name, sum string) error {
	r, err := i.File(name)
	if err != nil {
		return err
	}
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := r.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
	}
	if have := hex.EncodeToString(h.Sum(nil)); have != sum {
		return fmt.Errorf("%s is damaged: its SHA-256 is %s instead of %s", name, have, sum)
	}
	return nil
}

// verifyTable checks the header and the entries of the partition table that a
// stick's firmware reads.
func (i *Image) verifyTable() error {
	head := make([]byte, 16*sector)
	if _, err := i.r.ReadAt(head, 0); err != nil {
		return fmt.Errorf("read the partition table: %w", err)
	}
	t, err := gpt.Read(&memory{Reader: bytes.NewReader(head)}, 512, 512)
	if err != nil {
		return fmt.Errorf("the partition table is damaged: %w", err)
	}
	efi, err := i.Stat(efiPath)
	if err != nil {
		return nil // a medium for BIOS alone
	}
	for _, p := range t.Partitions {
		if p.Type == gpt.EFISystemPartition && int64(p.Start)*512 == efi.extents[0].off {
			return nil
		}
	}
	return fmt.Errorf("the partition table does not name %s: no stick made of this image starts in UEFI", efiPath)
}
