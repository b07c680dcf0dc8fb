package diskimg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"sort"
	"time"

	"github.com/diskfs/go-diskfs/filesystem/fat16"
)

const (
	mib = 1 << 20
	// The smallest image that can be FAT16: 4085 clusters of 1 KiB.
	minFAT = 5 * mib
	// Folders, tables and the ends of clusters.
	margin = mib
)

// FAT makes the FAT image that UEFI starts: files by absolute path, all with
// the time built. Its size follows from its content and is least bytes or
// more; dir takes a scratch file. Equal input gives equal bytes.
func FAT(dir string, files map[string][]byte, least int64, serial uint32, built time.Time) ([]byte, error) {
	var names []string
	size := int64(margin)
	for n, b := range files {
		names = append(names, n)
		size += align(int64(len(b)), 4096)
	}
	sort.Strings(names)
	size = align(max(size, minFAT, least), mib)
	f, err := os.CreateTemp(dir, ".lifeboat-efi-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return nil, err
	}
	g := &File{File: f}
	vol, err := fat16.Create(g, size, 0, 512, "LIFEBOAT", true)
	if err != nil {
		return nil, fmt.Errorf("make the EFI image: %w", err)
	}
	for _, n := range names {
		if err := vol.Mkdir(path.Dir(n)); err != nil {
			return nil, fmt.Errorf("make %s in the EFI image: %w", path.Dir(n), err)
		}
		w, err := vol.OpenFile(n, os.O_CREATE|os.O_RDWR|os.O_TRUNC)
		if err == nil {
			_, err = w.Write(files[n])
			err = errors.Join(err, w.Close())
		}
		if err != nil {
			return nil, fmt.Errorf("write %s into the EFI image: %w", n, err)
		}
	}
	if g.Err != nil {
		return nil, fmt.Errorf("write the EFI image: %w", g.Err)
	}
	img, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	if err != nil {
		return nil, err
	}
	return img, stampFAT(img, serial, built)
}

// fat is a FAT16 image in memory.
type fat struct {
	b             []byte
	reserved, n   int // sectors before the tables, tables
	perFAT        int // sectors
	root, data    int // offsets
	cluster       int // bytes
	used          map[int]bool
	date, clock16 uint16
}

// stampFAT gives the image a serial of its own and every entry the same time,
// and frees clusters that go-diskfs took and gave to no file.
func stampFAT(b []byte, serial uint32, built time.Time) error {
	le := binary.LittleEndian
	f := &fat{b: b, reserved: int(le.Uint16(b[14:])), n: int(b[16]), perFAT: int(le.Uint16(b[22:])), cluster: int(b[13]) * 512, used: map[int]bool{}}
	entries := int(le.Uint16(b[17:]))
	if le.Uint16(b[11:]) != 512 || f.cluster == 0 || f.n == 0 || f.perFAT == 0 || entries == 0 {
		return errors.New("the new EFI image is no FAT16")
	}
	f.root = (f.reserved + f.n*f.perFAT) * 512
	f.data = f.root + entries*32
	built = built.UTC()
	f.date = uint16(built.Year()-1980)<<9 | uint16(built.Month())<<5 | uint16(built.Day())
	f.clock16 = uint16(built.Hour())<<11 | uint16(built.Minute())<<5 | uint16(built.Second()/2)
	le.PutUint32(b[39:], serial)
	if err := f.folder(b[f.root:f.data], 0); err != nil {
		return err
	}
	for c := 2; c < (len(b)-f.data)/f.cluster+2; c++ {
		for t := range f.n {
			if !f.used[c] {
				le.PutUint16(b[(f.reserved+t*f.perFAT)*512+2*c:], 0)
			}
		}
	}
	return nil
}

// folder stamps the entries of one folder, or of one cluster of it.
func (f *fat) folder(dir []byte, depth int) error {
	le := binary.LittleEndian
	for ; len(dir) >= 32 && dir[0] != 0; dir = dir[32:] {
		attr := dir[11]
		if attr&0x0f == 0x0f || dir[0] == 0xe5 { // a long name, or nothing
			continue
		}
		dir[13] = 0
		for _, o := range []int{14, 22} {
			le.PutUint16(dir[o:], f.clock16)
			le.PutUint16(dir[o+2:], f.date)
		}
		le.PutUint16(dir[18:], f.date)
		if dir[0] == '.' || attr&8 != 0 {
			continue
		}
		for c := int(le.Uint16(dir[26:])); c >= 2 && c < 0xfff0; c = int(le.Uint16(f.b[f.reserved*512+2*c:])) {
			at := f.data + (c-2)*f.cluster
			if at+f.cluster > len(f.b) || 2*c+2 > f.perFAT*512 || depth > 8 || f.used[c] {
				return errors.New("the new EFI image is damaged")
			}
			f.used[c] = true
			if attr&0x10 != 0 {
				if err := f.folder(f.b[at:at+f.cluster], depth+1); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func align(n, to int64) int64 { return (n + to - 1) / to * to }
