package disklabel

import (
	"fmt"
	"hash/crc32"
	"sort"
	"strconv"
	"unicode/utf16"

	"lifeboat/manifest"
)

// Run is a run of bytes to be written at an offset.
type Run struct {
	Offset int64
	Data   []byte
}

// Encode returns the bytes of the table on a disk of size bytes with logical
// sectors of sector bytes: the backup first, what makes the table valid last.
// The boot code area is left zero: the boot loader's installer fills it. An
// FirstLBA, LastLBA or Entries of 0 is chosen as the specification says; ids
// are never invented.
func (l *Label) Encode(size, sector int64) ([]Run, error) {
	if err := checkGeometry(size, sector); err != nil {
		return nil, err
	}
	c := &Label{Table: l.Table, Partitions: append([]manifest.Partition(nil), l.Partitions...)}
	sort.Slice(c.Partitions, func(i, j int) bool { return c.Partitions[i].Number < c.Partitions[j].Number })
	var runs []Run
	var err error
	switch l.Table.Type {
	case GPT:
		runs, err = c.encodeGPT(size, sector)
	case DOS:
		runs, err = c.encodeMBR(size, sector)
	default:
		err = fmt.Errorf("tables of type %q are not known", l.Table.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("make the %s table: %w", l.Table.Type, err)
	}
	return runs, nil
}

// layout chooses what the table leaves open and returns the sectors that the
// entries take and those that are reserved for them.
func (l *Label) layout(sectors, sector int64) (need, room int64, err error) {
	t := &l.Table
	if t.Entries == 0 {
		t.Entries = 128
	}
	bytes := int64(t.Entries) * entrySize
	if t.Entries < 0 || bytes > maxArrayBytes {
		return 0, 0, fmt.Errorf("%d entries are too many", t.Entries)
	}
	need = (bytes + sector - 1) / sector
	room = max(need, (minArrayBytes+sector-1)/sector)
	if t.FirstLBA == 0 {
		t.FirstLBA = (2 + room) * sector
	}
	if t.LastLBA == 0 {
		t.LastLBA = (sectors - 2 - room) * sector
	}
	if t.FirstLBA%sector != 0 || t.LastLBA%sector != 0 {
		return 0, 0, fmt.Errorf("the usable bytes %d to %d do not begin on sectors of %d bytes", t.FirstLBA, t.LastLBA, sector)
	}
	if t.FirstLBA < (2+need)*sector || t.LastLBA < t.FirstLBA || t.LastLBA > (sectors-2-need)*sector {
		return 0, 0, fmt.Errorf("the usable bytes %d to %d leave no room for %d entries on %d bytes", t.FirstLBA, t.LastLBA, t.Entries, sectors*sector)
	}
	return need, room, nil
}

func (l *Label) encodeGPT(size, sector int64) ([]Run, error) {
	sectors := size / sector
	need, room, err := l.layout(sectors, sector)
	if err != nil {
		return nil, err
	}
	if err := l.check(size, sector); err != nil {
		return nil, err
	}
	guid, err := parseGUID(l.Table.UUID)
	if err != nil {
		return nil, fmt.Errorf("the disk's id: %w", err)
	}
	array := make([]byte, need*sector)
	for _, p := range l.Partitions {
		if err := encodeEntry(array[(p.Number-1)*entrySize:], p, sector); err != nil {
			return nil, fmt.Errorf("partition %d: %w", p.Number, err)
		}
	}
	used := array[:l.Table.Entries*entrySize]
	backup := sectors - 1 - room
	if l.Table.LastLBA/sector >= backup {
		backup = sectors - 1 - need
	}
	h := header{
		first: l.Table.FirstLBA / sector, last: l.Table.LastLBA / sector, guid: guid,
		entries: int64(l.Table.Entries), arrayCRC: crc32.ChecksumIEEE(used),
	}
	first, second := h, h
	first.self, first.other, first.array = 1, sectors-1, 2
	second.self, second.other, second.array = sectors-1, 1, backup
	return []Run{
		{backup * sector, array}, {(sectors - 1) * sector, second.encode(sector)},
		{2 * sector, array}, {sector, first.encode(sector)},
		{0, protectiveMBR(sectors, sector, l.Table.PMBRBoot)},
	}, nil
}

func (h header) encode(sector int64) []byte {
	b := make([]byte, sector)
	copy(b, gptMagic)
	le.PutUint32(b[8:], gptRevision)
	le.PutUint32(b[12:], headerSize)
	for i, v := range []int64{h.self, h.other, h.first, h.last} {
		le.PutUint64(b[24+8*i:], uint64(v))
	}
	copy(b[56:], h.guid[:])
	le.PutUint64(b[72:], uint64(h.array))
	le.PutUint32(b[80:], uint32(h.entries))
	le.PutUint32(b[84:], entrySize)
	le.PutUint32(b[88:], h.arrayCRC)
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:headerSize]))
	return b
}

func encodeEntry(b []byte, p manifest.Partition, sector int64) error {
	kind, err := parseGUID(p.Type)
	if err != nil {
		return fmt.Errorf("type: %w", err)
	}
	if kind == [16]byte{} {
		return fmt.Errorf("type %s means that the entry is free", p.Type)
	}
	id, err := parseGUID(p.UUID)
	if err != nil {
		return fmt.Errorf("PARTUUID: %w", err)
	}
	name := utf16.Encode([]rune(p.Name))
	if len(name) > nameUnits {
		return fmt.Errorf("the name %q has %d UTF-16 units; %d fit", p.Name, len(name), nameUnits)
	}
	copy(b, kind[:])
	copy(b[16:], id[:])
	le.PutUint64(b[32:], uint64(p.Start/sector))
	le.PutUint64(b[40:], uint64((p.Start+p.Size)/sector-1))
	le.PutUint64(b[48:], p.Attrs)
	for i, u := range name {
		le.PutUint16(b[56+2*i:], u)
	}
	return nil
}

// protectiveMBR covers the disk, as far as 32 bits reach.
func protectiveMBR(sectors, sector int64, boot bool) []byte {
	b := make([]byte, sector)
	e := b[entryOffset:]
	if boot {
		e[0] = 0x80
	}
	e[2], e[4] = 2, typeGPT // begins at cylinder 0, head 0, sector 2
	e[5], e[6], e[7] = 0xff, 0xff, 0xff
	le.PutUint32(e[8:], 1)
	le.PutUint32(e[12:], uint32(min(sectors-1, 0xffffffff)))
	b[510], b[511] = 0x55, 0xaa
	return b
}

func (l *Label) encodeMBR(size, sector int64) ([]Run, error) {
	if err := l.check(size, sector); err != nil {
		return nil, err
	}
	id, err := strconv.ParseUint(l.Table.UUID, 0, 32)
	if err != nil {
		return nil, fmt.Errorf("the disk's id %q is no 32-bit number", l.Table.UUID)
	}
	mbr := make([]byte, sector)
	le.PutUint32(mbr[idOffset:], uint32(id))
	mbr[510], mbr[511] = 0x55, 0xaa
	var extended manifest.Partition
	var logical []manifest.Partition
	for _, p := range l.Partitions {
		if p.Number > 4 {
			logical = append(logical, p)
			continue
		}
		if isExtended(p.Type) {
			extended = p
		}
		if err := putEntry(mbr, p.Number-1, p, 0, sector); err != nil {
			return nil, fmt.Errorf("partition %d: %w", p.Number, err)
		}
	}
	var runs []Run
	if extended.Size > 0 {
		if runs, err = encodeChain(extended, logical, sector); err != nil {
			return nil, err
		}
	}
	return append(runs, Run{0, mbr}), nil
}

// encodeChain makes one boot record for each logical partition, the first at
// the beginning of the extended partition. An extended partition without any
// gets an empty record.
func encodeChain(ext manifest.Partition, logical []manifest.Partition, sector int64) ([]Run, error) {
	if len(logical) == 0 {
		b := make([]byte, sector)
		b[510], b[511] = 0x55, 0xaa
		return []Run{{ext.Start, b}}, nil
	}
	var runs []Run
	at := make([]int64, len(logical))
	for i, p := range logical {
		at[i] = ext.Start
		if i > 0 {
			gap := gapBefore(p, ext, logical, sector)
			if gap == 0 {
				return nil, fmt.Errorf("no sector is free before logical partition %d for its boot record", p.Number)
			}
			at[i] = p.Start - gap*sector
		}
	}
	for i, p := range logical {
		b := make([]byte, sector)
		b[510], b[511] = 0x55, 0xaa
		if err := putEntry(b, 0, p, at[i], sector); err != nil {
			return nil, fmt.Errorf("partition %d: %w", p.Number, err)
		}
		if i+1 < len(logical) {
			next := manifest.Partition{Type: "05", Start: at[i+1], Size: logical[i+1].Start + logical[i+1].Size - at[i+1]}
			if err := putEntry(b, 1, next, ext.Start, sector); err != nil {
				return nil, err
			}
		}
		runs = append(runs, Run{at[i], b})
	}
	return runs, nil
}

// gapBefore tells how many sectors before a logical partition its boot record
// goes: where partitioning programs put it, 1 MiB before or 63 sectors, or
// else directly before; 0 when nothing is free.
func gapBefore(p, ext manifest.Partition, logical []manifest.Partition, sector int64) int64 {
	free := p.Start - ext.Start - sector // the first record lies at the begin
	for _, q := range logical {
		if q.Start < p.Start {
			free = min(free, p.Start-q.Start-q.Size)
		}
	}
	for _, want := range []int64{1 << 20 / sector, 63, 1} {
		if want*sector <= free {
			return want
		}
	}
	return 0
}

// putEntry writes entry i of a sector; base is the byte that starts count from.
func putEntry(b []byte, i int, p manifest.Partition, base, sector int64) error {
	kind, err := strconv.ParseUint(p.Type, 16, 8)
	if err != nil || kind == 0 || kind == typeGPT {
		return fmt.Errorf("%q is no type of a partition", p.Type)
	}
	start, size := (p.Start-base)/sector, p.Size/sector
	if start > 0xffffffff || size > 0xffffffff {
		return fmt.Errorf("start %d and size %d do not fit into 32 bits of sectors of %d bytes", p.Start, p.Size, sector)
	}
	e := b[entryOffset+16*i:][:16]
	if p.Active {
		e[0] = 0x80
	}
	putCHS(e[1:4], p.Start/sector)
	e[4] = byte(kind)
	putCHS(e[5:8], (p.Start+p.Size)/sector-1)
	le.PutUint32(e[8:], uint32(start))
	le.PutUint32(e[12:], uint32(size))
	return nil
}

// putCHS writes an address for old BIOSes, by the usual 255 heads of 63
// sectors; what is too far gets the largest address.
func putCHS(b []byte, lba int64) {
	const heads, perTrack = 255, 63
	c, h, s := lba/(heads*perTrack), lba/perTrack%heads, lba%perTrack+1
	if c > 1023 {
		c, h, s = 1023, 254, 63
	}
	b[0], b[1], b[2] = byte(h), byte(s)|byte(c>>8)<<6, byte(c)
}
