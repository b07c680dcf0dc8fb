// Package disklabel reads, judges and writes partition tables: GPT, MBR with
// EBR, disk ids.
// Level 2: GPT, MBR with EBR, disk ids.
package disklabel

import (
	"errors"
	"fmt"
	"io"
	"sort"

	"lifeboat/manifest"
)

// ErrNone: there is no partition table.
var ErrNone = errors.New("no partition table")

// Types of tables.
const (
	GPT = "gpt"
	DOS = "dos"
)

// Label is a partition table with its partitions, sorted by number.
type Label struct {
	Table      manifest.Table
	Partitions []manifest.Partition
	Warnings   []string // what a reader met and could mend: one line each
}

// Read reads the table of a disk of size bytes with logical sectors of sector
// bytes (512 to 4096). No table is ErrNone. A table that is damaged beyond
// its backup, or that contradicts itself, is an error: nothing may be built
// on a guess.
func Read(r io.ReaderAt, size, sector int64) (*Label, error) {
	if err := checkGeometry(size, sector); err != nil {
		return nil, err
	}
	d := &disk{r: r, sector: sector, sectors: size / sector}
	mbr, err := d.read(0, 1)
	if err != nil {
		return nil, fmt.Errorf("read the first sector: %w", err)
	}
	if !isMBR(mbr) {
		return nil, ErrNone
	}
	var l *Label
	if protective(mbr) >= 0 {
		l, err = d.readGPT(mbr)
	} else {
		l, err = d.readMBR(mbr)
	}
	if err != nil {
		return nil, err
	}
	sort.Slice(l.Partitions, func(i, j int) bool { return l.Partitions[i].Number < l.Partitions[j].Number })
	if err := l.check(size, sector); err != nil {
		return nil, fmt.Errorf("the %s table contradicts itself: %w", l.Table.Type, err)
	}
	return l, nil
}

func checkGeometry(size, sector int64) error {
	if sector < 512 || sector > 64<<10 || sector&(sector-1) != 0 {
		return fmt.Errorf("a logical sector of %d bytes is no power of two from 512 to 65536", sector)
	}
	if size < sector*8 {
		return fmt.Errorf("a disk of %d bytes is too small for a partition table", size)
	}
	return nil
}

// disk reads whole sectors.
type disk struct {
	r       io.ReaderAt
	sector  int64
	sectors int64
	chain   []int64 // sectors of the boot records that were read
}

// Records are the places, in bytes, of the boot records by which the logical
// partitions of an MBR are found, as far as they can be followed; none for any
// other disk.
func Records(r io.ReaderAt, size, sector int64) []int64 {
	if checkGeometry(size, sector) != nil {
		return nil
	}
	d := &disk{r: r, sector: sector, sectors: size / sector}
	mbr, err := d.read(0, 1)
	if err != nil || !isMBR(mbr) || protective(mbr) >= 0 {
		return nil
	}
	_, _ = d.readMBR(mbr) // what is broken ends the list
	out := make([]int64, len(d.chain))
	for i, s := range d.chain {
		out[i] = s * sector
	}
	return out
}

func (d *disk) read(lba, n int64) ([]byte, error) {
	if lba < 0 || n < 1 || lba > d.sectors-n {
		return nil, fmt.Errorf("sectors %d to %d do not lie on the disk of %d sectors", lba, lba+n-1, d.sectors)
	}
	b := make([]byte, n*d.sector)
	if _, err := d.r.ReadAt(b, lba*d.sector); err != nil {
		return nil, err
	}
	return b, nil
}

// check judges what a table must be before it is believed or written.
func (l *Label) check(size, sector int64) error {
	sectors := size / sector
	for i, p := range l.Partitions {
		if p.Number < 1 {
			return fmt.Errorf("a partition has the number %d", p.Number)
		}
		if p.Start%sector != 0 || p.Size%sector != 0 || p.Size <= 0 {
			return fmt.Errorf("partition %d (start %d, size %d bytes) is not made of whole sectors of %d bytes", p.Number, p.Start, p.Size, sector)
		}
		if p.Start < sector || p.Start/sector > sectors-p.Size/sector {
			return fmt.Errorf("partition %d (start %d, size %d bytes) does not lie on the disk of %d bytes", p.Number, p.Start, p.Size, size)
		}
		for _, q := range l.Partitions[i+1:] {
			if p.Number == q.Number {
				return fmt.Errorf("the number %d is there twice", p.Number)
			}
			if p.Start < q.Start+q.Size && q.Start < p.Start+p.Size && !contains(p, q) && !contains(q, p) {
				return fmt.Errorf("partitions %d and %d overlap", p.Number, q.Number)
			}
		}
	}
	if l.Table.Type == GPT {
		return l.checkGPT(sector)
	}
	return l.checkMBR()
}

// contains tells whether q is a logical partition inside the extended p.
func contains(p, q manifest.Partition) bool {
	return isExtended(p.Type) && p.Number <= 4 && q.Number > 4 && q.Start > p.Start && q.Start+q.Size <= p.Start+p.Size
}
