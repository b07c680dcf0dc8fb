package disklabel

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"lifeboat/manifest"
)

// Places in the first sector.
const (
	bootCodeEnd = 440
	idOffset    = 440
	entryOffset = 446
	typeGPT     = 0xee
)

// maxLogical bounds a chain of logical partitions; Linux knows 256 at most.
const maxLogical = 256

// isMBR tells whether the first sector is a table. A filesystem without a
// table may end its boot sector with the same mark.
func isMBR(b []byte) bool {
	if b[510] != 0x55 || b[511] != 0xaa {
		return false
	}
	used := false
	for i := range 4 {
		e := b[entryOffset+16*i:][:16]
		if e[0] != 0 && e[0] != 0x80 {
			return false
		}
		used = used || e[4] != 0 && le.Uint32(e[12:]) != 0
	}
	return used || !isBootSector(b)
}

// isBootSector tells whether a filesystem's boot sector lies there: FAT, NTFS
// and exFAT are known by name.
func isBootSector(b []byte) bool {
	return bytes.HasPrefix(b[54:], []byte("FAT")) || bytes.HasPrefix(b[82:], []byte("FAT32")) ||
		bytes.HasPrefix(b[3:], []byte("NTFS    ")) || bytes.HasPrefix(b[3:], []byte("EXFAT   "))
}

func hasBootCode(b []byte) bool { return bytes.Count(b[:bootCodeEnd], []byte{0}) != bootCodeEnd }

// protective returns which entry protects a GPT, or -1.
func protective(b []byte) int {
	for i := range 4 {
		if b[entryOffset+16*i+4] == typeGPT {
			return i
		}
	}
	return -1
}

func isExtended(t string) bool {
	switch strings.ToLower(t) {
	case "05", "0f", "85":
		return true
	}
	return false
}

// entry is one of the four entries of a sector; numbers are sectors.
type entry struct {
	active      bool
	kind        byte
	start, size int64
}

func parseEntry(b []byte, i int) entry {
	e := b[entryOffset+16*i:][:16]
	return entry{e[0] == 0x80, e[4], int64(le.Uint32(e[8:])), int64(le.Uint32(e[12:]))}
}

func (e entry) partition(number int, base, sector int64) manifest.Partition {
	return manifest.Partition{
		Number: number, Start: (base + e.start) * sector, Size: e.size * sector, Type: fmt.Sprintf("%02x", e.kind), Active: e.active,
	}
}

func (d *disk) readMBR(b []byte) (*Label, error) {
	l := &Label{Table: manifest.Table{Type: DOS, UUID: fmt.Sprintf("0x%08x", le.Uint32(b[idOffset:])), BootCode: hasBootCode(b)}}
	extended := -1
	for i := range 4 {
		e := parseEntry(b, i)
		if e.kind == 0 || e.size == 0 {
			continue
		}
		p := e.partition(i+1, 0, d.sector)
		if isExtended(p.Type) {
			if extended >= 0 {
				return nil, fmt.Errorf("entries %d and %d are both extended partitions", extended+1, i+1)
			}
			extended = i
		}
		l.Partitions = append(l.Partitions, p)
	}
	if extended < 0 {
		return l, nil
	}
	e := parseEntry(b, extended)
	if e.start > d.sectors-e.size {
		return nil, fmt.Errorf("the extended partition %d ends at sector %d of %d", extended+1, e.start+e.size-1, d.sectors)
	}
	return l, d.readChain(l, e)
}

// readChain follows the boot records of an extended partition. Each holds
// one logical partition, counted from the record, and the place of the next
// record, counted from the extended partition.
func (d *disk) readChain(l *Label, ext entry) error {
	at, number := ext.start, 5
	seen := map[int64]bool{}
	for {
		if seen[at] || number-5 >= maxLogical {
			return errors.New("the chain of logical partitions runs in a ring")
		}
		seen[at] = true
		b, err := d.read(at, 1)
		if err != nil {
			return fmt.Errorf("read the boot record of logical partition %d: %w", number, err)
		}
		d.chain = append(d.chain, at)
		if b[510] != 0x55 || b[511] != 0xaa {
			if number == 5 {
				l.Warnings = append(l.Warnings, "the extended partition holds no boot record: no logical partitions")
				return nil
			}
			return fmt.Errorf("sector %d, the boot record of logical partition %d, lacks its mark", at, number)
		}
		next := int64(-1)
		for i := range 4 {
			e := parseEntry(b, i)
			if e.kind == 0 || e.size == 0 {
				continue
			}
			if isExtended(fmt.Sprintf("%02x", e.kind)) {
				if next < 0 {
					next = ext.start + e.start
				}
				continue
			}
			p := e.partition(number, at, d.sector)
			if p.Start <= ext.start*d.sector || p.Start+p.Size > (ext.start+ext.size)*d.sector {
				return fmt.Errorf("logical partition %d (start %d, size %d bytes) lies outside the extended partition", number, p.Start, p.Size)
			}
			l.Partitions = append(l.Partitions, p)
			number++
		}
		if next < 0 {
			return nil
		}
		if next < ext.start || next >= ext.start+ext.size {
			return fmt.Errorf("the boot record after logical partition %d would lie outside the extended partition", number-1)
		}
		at = next
	}
}

func (l *Label) checkMBR() error {
	extended := false
	for _, p := range l.Partitions {
		if isExtended(p.Type) && p.Number <= 4 {
			extended = true
		}
	}
	for i, p := range l.Partitions {
		if p.Number <= 4 {
			continue
		}
		if !extended {
			return fmt.Errorf("logical partition %d has no extended partition", p.Number)
		}
		// Linux counts logical partitions along the chain: no hole can be kept.
		if i > 0 && p.Number > 5 && l.Partitions[i-1].Number != p.Number-1 {
			return fmt.Errorf("logical partition %d follows %d: their numbers have no holes", p.Number, l.Partitions[i-1].Number)
		}
		inside := false
		for _, e := range l.Partitions {
			inside = inside || contains(e, p)
		}
		if !inside {
			return fmt.Errorf("logical partition %d lies outside the extended partition", p.Number)
		}
	}
	return nil
}
