package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
)

// The fixed records. Every number is little-endian. docs/archive-format.md has the
// same tables for readers written elsewhere: change both.
const (
	version = 1

	skipMagic  = 0x184D2A5B // a zstd skippable frame; the other fifteen are not ours
	skipHeader = 8          // magic, length

	headTag   = "LIFEBOAT"
	prefixTag = "LBpf"
	manTag    = "LBmf"
	indexTag  = "LBix"
	footTag   = "LBA1"

	headBytes   = 256 // whole skippable frame
	headHost    = 40  // offset of the host id in the payload
	maxHostID   = headBytes - skipHeader - headHost
	prefixBytes = skipHeader + 96
	footBytes   = skipHeader + 64

	// frameTar is when a frame is closed; maxFrame is what none exceeds, so a reader's
	// buffers have a known size. maxStored leaves room for data that does not compress.
	frameTar  = 4 << 20
	maxFrame  = 8 << 20
	maxStored = maxFrame + 64<<10
	block     = 512
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// head opens the file.
type head struct {
	uuid    UUID
	started time.Time
	host    string
}

func (h *head) encode() []byte {
	b := skippable(headBytes - skipHeader)
	p := b[skipHeader:]
	copy(p, headTag)
	binary.LittleEndian.PutUint16(p[8:], version)
	binary.LittleEndian.PutUint16(p[10:], uint16(len(h.host)))
	copy(p[16:], h.uuid[:])
	binary.LittleEndian.PutUint64(p[32:], uint64(h.started.UnixNano()))
	copy(p[headHost:], h.host)
	binary.LittleEndian.PutUint32(p[12:], crc32.Checksum(p, crcTable)) // over zeros in its own place
	return b
}

// decodeHead reads the first headBytes of a file. A damaged head is told from a
// strange file by its magic.
func decodeHead(b []byte) (*head, error) {
	if len(b) < headBytes {
		return nil, ErrNotArchive
	}
	b = bytes.Clone(b[:headBytes])
	p := b[skipHeader:]
	tagged := string(p[:8]) == headTag
	framed := isSkippable(b, headBytes-skipHeader)
	if !tagged && !framed {
		return nil, ErrNotArchive
	}
	// The version comes before the checksum: only its own format knows where that is.
	if v := binary.LittleEndian.Uint16(p[8:]); tagged && framed && v != version && headSumWrong(p) {
		return nil, fmt.Errorf("%w: its version is %d, this program reads version %d", ErrVersion, v, version)
	}
	n := int(binary.LittleEndian.Uint16(p[10:]))
	if !tagged || !framed || n > maxHostID || headSumWrong(p) {
		return nil, fmt.Errorf("%w: the checksum of its head is wrong", ErrDamaged)
	}
	if v := binary.LittleEndian.Uint16(p[8:]); v != version {
		return nil, fmt.Errorf("%w: its version is %d, this program reads version %d", ErrVersion, v, version)
	}
	h := &head{host: string(p[headHost : headHost+n])}
	copy(h.uuid[:], p[16:])
	h.started = time.Unix(0, int64(binary.LittleEndian.Uint64(p[32:])))
	return h, nil
}

// headSumWrong checks the payload's checksum and leaves the payload as it was.
func headSumWrong(p []byte) bool {
	sum := binary.LittleEndian.Uint32(p[12:])
	binary.LittleEndian.PutUint32(p[12:], 0)
	wrong := crc32.Checksum(p, crcTable) != sum
	binary.LittleEndian.PutUint32(p[12:], sum)
	return wrong
}

// prefix stands before each frame. With it alone a file without an index can be read.
type prefix struct {
	kind   Kind
	flags  byte
	mount  int   // index into the index's mounts
	seq    int   // 0 for the first frame
	stored int   // bytes of the frame that follows
	tar    int   // bytes of tar in it
	owner  int   // continuation: seq of the entries frame with the file's header
	skip   int64 // continuation: bytes of the file's stored data that come before it
	uuid   UUID
	sha    [sha256.Size]byte // of the stored bytes
}

func (x *prefix) encode() []byte {
	b := skippable(prefixBytes - skipHeader)
	p := b[skipHeader:]
	copy(p, prefixTag)
	p[4], p[5] = byte(x.kind), x.flags
	binary.LittleEndian.PutUint16(p[6:], uint16(x.mount))
	binary.LittleEndian.PutUint64(p[8:], uint64(x.seq))
	binary.LittleEndian.PutUint32(p[16:], uint32(x.stored))
	binary.LittleEndian.PutUint32(p[20:], uint32(x.tar))
	binary.LittleEndian.PutUint64(p[24:], uint64(x.owner))
	binary.LittleEndian.PutUint64(p[32:], uint64(x.skip))
	copy(p[40:], x.uuid[:])
	copy(p[56:], x.sha[:])
	binary.LittleEndian.PutUint32(p[92:], crc32.Checksum(p[:92], crcTable)) // p[88:92] is reserved, zero
	return b
}

// decodePrefix tells whether b begins with a whole, undamaged prefix of archive uuid.
func decodePrefix(b []byte, uuid UUID) (*prefix, bool) {
	if len(b) < prefixBytes || !isSkippable(b, prefixBytes-skipHeader) {
		return nil, false
	}
	p := b[skipHeader:prefixBytes]
	if string(p[:4]) != prefixTag || binary.LittleEndian.Uint32(p[92:]) != crc32.Checksum(p[:92], crcTable) {
		return nil, false
	}
	x := &prefix{kind: Kind(p[4]), flags: p[5]}
	x.mount = int(binary.LittleEndian.Uint16(p[6:]))
	x.seq = int(binary.LittleEndian.Uint64(p[8:]))
	x.stored = int(binary.LittleEndian.Uint32(p[16:]))
	x.tar = int(binary.LittleEndian.Uint32(p[20:]))
	x.owner = int(binary.LittleEndian.Uint64(p[24:]))
	x.skip = int64(binary.LittleEndian.Uint64(p[32:]))
	copy(x.uuid[:], p[40:])
	copy(x.sha[:], p[56:])
	// The uuid tells our frames from those of an archive that was packed as a file:
	// data that does not compress is stored as it is.
	sane := x.uuid == uuid && x.seq >= 0 && x.owner >= 0 && x.skip >= 0 &&
		(x.stored <= maxStored || x.kind == KindManifest) && x.tar <= maxFrame
	return x, sane
}

// foot ends the file.
type foot struct {
	index int64 // offset of the index's payload
	size  int64 // its length
	sha   [sha256.Size]byte
	uuid  UUID
}

func (f *foot) encode() []byte {
	b := skippable(footBytes - skipHeader)
	p := b[skipHeader:]
	binary.LittleEndian.PutUint64(p, uint64(f.index))
	binary.LittleEndian.PutUint32(p[8:], uint32(f.size))
	copy(p[12:], f.sha[:])
	copy(p[44:], f.uuid[:])
	copy(p[60:], footTag)
	return b
}

// decodeFoot reads the last footBytes of a file of size bytes.
func decodeFoot(b []byte, size int64) (*foot, error) {
	if len(b) != footBytes || string(b[footBytes-4:]) != footTag {
		return nil, ErrCutShort
	}
	p := b[skipHeader:]
	f := &foot{index: int64(binary.LittleEndian.Uint64(p)), size: int64(binary.LittleEndian.Uint32(p[8:]))}
	copy(f.sha[:], p[12:])
	copy(f.uuid[:], p[44:])
	if !isSkippable(b, footBytes-skipHeader) || f.index < headBytes+skipHeader || f.index > size || f.index+f.size+footBytes != size {
		return nil, fmt.Errorf("%w: its footer contradicts the length of the file", ErrDamaged)
	}
	return f, nil
}

// skippable makes an empty skippable frame with n bytes of payload.
func skippable(n int) []byte {
	b := make([]byte, skipHeader+n)
	binary.LittleEndian.PutUint32(b, skipMagic)
	binary.LittleEndian.PutUint32(b[4:], uint32(n))
	return b
}

func isSkippable(b []byte, n int) bool {
	return len(b) >= skipHeader && binary.LittleEndian.Uint32(b) == skipMagic && int64(binary.LittleEndian.Uint32(b[4:])) == int64(n)
}

// padded is n rounded up to whole tar blocks.
func padded(n int64) int64 { return (n + block - 1) &^ (block - 1) }
