package disklabel

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"unicode/utf16"

	"lifeboat/manifest"
)

// Fixed by the UEFI specification, "GPT Disk Layout".
const (
	gptMagic      = "EFI PART"
	gptRevision   = 0x00010000
	headerSize    = 92
	entrySize     = 128
	nameUnits     = 36
	minArrayBytes = 16 << 10  // room for entries, whatever their number
	maxArrayBytes = 512 << 10 // more is nonsense: 4096 entries, Linux knows 256 partitions
)

var le = binary.LittleEndian

// header is a GPT header; numbers are sectors.
type header struct {
	self, other, first, last, array int64
	guid                            [16]byte
	entries, entrySize              int64
	arrayCRC                        uint32
}

// readHeader reads and judges the header at lba and its entries.
func (d *disk) readHeader(lba int64) (*header, []byte, error) {
	b, err := d.read(lba, 1)
	if err != nil {
		return nil, nil, err
	}
	if string(b[:8]) != gptMagic {
		return nil, nil, fmt.Errorf("sector %d holds no GPT header", lba)
	}
	n := int64(le.Uint32(b[12:]))
	if n < headerSize || n > d.sector {
		return nil, nil, fmt.Errorf("the GPT header at sector %d says that it is %d bytes long", lba, n)
	}
	sum := le.Uint32(b[16:])
	c := bytes.Clone(b[:n])
	copy(c[16:20], []byte{0, 0, 0, 0})
	if got := crc32.ChecksumIEEE(c); got != sum {
		return nil, nil, fmt.Errorf("the checksum of the GPT header at sector %d is %08x, not %08x", lba, got, sum)
	}
	h := &header{
		self: int64(le.Uint64(b[24:])), other: int64(le.Uint64(b[32:])), first: int64(le.Uint64(b[40:])), last: int64(le.Uint64(b[48:])),
		array: int64(le.Uint64(b[72:])), entries: int64(le.Uint32(b[80:])), entrySize: int64(le.Uint32(b[84:])), arrayCRC: le.Uint32(b[88:]),
	}
	copy(h.guid[:], b[56:72])
	switch {
	case h.self != lba:
		return nil, nil, fmt.Errorf("the GPT header at sector %d says that it lies at %d", lba, h.self)
	case h.first < 2 || h.last < h.first || h.last >= d.sectors:
		return nil, nil, fmt.Errorf("the GPT header at sector %d gives sectors %d to %d as usable, on a disk of %d", lba, h.first, h.last, d.sectors)
	case h.entrySize < entrySize || h.entrySize&(h.entrySize-1) != 0 || h.entries < 1 || h.entries > maxArrayBytes/h.entrySize:
		return nil, nil, fmt.Errorf("the GPT header at sector %d gives %d entries of %d bytes", lba, h.entries, h.entrySize)
	}
	array, err := d.read(h.array, (h.entries*h.entrySize+d.sector-1)/d.sector)
	if err != nil {
		return nil, nil, fmt.Errorf("read the GPT entries of the header at sector %d: %w", lba, err)
	}
	array = array[:h.entries*h.entrySize]
	if got := crc32.ChecksumIEEE(array); got != h.arrayCRC {
		return nil, nil, fmt.Errorf("the checksum of the GPT entries at sector %d is %08x, not %08x", h.array, got, h.arrayCRC)
	}
	return h, array, nil
}

func (d *disk) readGPT(mbr []byte) (*Label, error) {
	l := &Label{Table: manifest.Table{Type: GPT, BootCode: hasBootCode(mbr)}}
	warn := func(f string, a ...any) { l.Warnings = append(l.Warnings, fmt.Sprintf(f, a...)) }
	at := protective(mbr)
	l.Table.PMBRBoot = mbr[446+16*at] == 0x80
	for i := range 4 {
		e := mbr[446+16*i : 462+16*i]
		l.Table.Hybrid = l.Table.Hybrid || i != at && e[4] != 0
	}
	h, array, err := d.readHeader(1)
	if err != nil {
		backup, entries, err2 := d.readHeader(d.sectors - 1)
		if err2 != nil {
			return nil, fmt.Errorf("both GPT headers are damaged: %w", errors.Join(err, err2))
		}
		warn("the first GPT is damaged and its backup was read: %v", err)
		h, array = backup, entries
	} else if h.other != d.sectors-1 {
		warn("the backup GPT lies at sector %d, not at the end of the disk (%d)", h.other, d.sectors-1)
	} else if _, backup, err := d.readHeader(d.sectors - 1); err != nil {
		warn("the backup GPT is damaged: %v", err)
	} else if !bytes.Equal(array, backup) {
		warn("the backup GPT differs from the first")
	}
	l.Table.UUID = formatGUID(h.guid[:])
	l.Table.FirstLBA, l.Table.LastLBA, l.Table.Entries = h.first*d.sector, h.last*d.sector, int(h.entries)
	for i := int64(0); i < h.entries; i++ {
		e := array[i*h.entrySize:][:entrySize]
		if bytes.Count(e[:16], []byte{0}) == 16 {
			continue
		}
		first, last := int64(le.Uint64(e[32:])), int64(le.Uint64(e[40:]))
		if first < h.first || last < first || last > h.last {
			return nil, fmt.Errorf("GPT entry %d spans sectors %d to %d; usable are %d to %d", i+1, first, last, h.first, h.last)
		}
		name, exact := decodeName(e[56:entrySize])
		if !exact {
			warn("the name of partition %d is no valid UTF-16 and is kept as %q", i+1, name)
		}
		l.Partitions = append(l.Partitions, manifest.Partition{
			Number: int(i + 1), Start: first * d.sector, Size: (last - first + 1) * d.sector,
			Type: formatGUID(e[:16]), UUID: formatGUID(e[16:32]), Name: name, Attrs: le.Uint64(e[48:]),
		})
	}
	return l, nil
}

func (l *Label) checkGPT(sector int64) error {
	seen := map[string]int{}
	for _, p := range l.Partitions {
		if l.Table.Entries > 0 && p.Number > l.Table.Entries {
			return fmt.Errorf("partition %d is past the %d entries", p.Number, l.Table.Entries)
		}
		if p.Start < l.Table.FirstLBA || l.Table.LastLBA > 0 && p.Start+p.Size > l.Table.LastLBA+sector {
			return fmt.Errorf("partition %d lies outside the usable bytes %d to %d", p.Number, l.Table.FirstLBA, l.Table.LastLBA+sector-1)
		}
		if other, twice := seen[p.UUID]; twice && p.UUID != "" {
			return fmt.Errorf("partitions %d and %d have the same PARTUUID %s", other, p.Number, p.UUID)
		}
		seen[p.UUID] = p.Number
	}
	return nil
}

// decodeName reads UTF-16 up to the first zero; exact is false when it could
// not be written back the same.
func decodeName(b []byte) (name string, exact bool) {
	var u []uint16
	for i := 0; i+1 < len(b); i += 2 {
		c := le.Uint16(b[i:])
		if c == 0 {
			break
		}
		u = append(u, c)
	}
	name = string(utf16.Decode(u))
	back := utf16.Encode([]rune(name))
	exact = len(back) == len(u)
	for i := 0; exact && i < len(u); i++ {
		exact = back[i] == u[i]
	}
	return name, exact
}

// formatGUID writes a GUID upper case; the first three groups are
// little-endian on disk.
func formatGUID(b []byte) string {
	return fmt.Sprintf("%08X-%04X-%04X-%X-%X", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

func parseGUID(s string) ([16]byte, error) {
	var g [16]byte
	raw, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(raw) != 16 || len(s) != 36 {
		return g, fmt.Errorf("%q is no GUID", s)
	}
	for i, j := range []int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15} {
		g[i] = raw[j]
	}
	return g, nil
}
