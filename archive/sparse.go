package archive

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// maxPieces bounds the sparse map of one file to about 1.5 MB of text, so that it fits
// the frame of its header. A file in more pieces gets its smallest holes filled.
const maxPieces = 50_000

// findData asks the filesystem where the data of a file is. It returns the pieces to
// store, and the same as the sparse map, which is nil if the file has no holes.
func findData(fd int, size int64) (data, sparse []Range) {
	whole := []Range{{0, size}}
	data = []Range{}
	least := int64(0) // holes not larger than this are stored as zeros
	for at := int64(0); at < size; {
		start, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if err == unix.ENXIO { // nothing but a hole up to the end
			break
		}
		if err != nil {
			return whole, nil
		}
		end, err := unix.Seek(fd, start, unix.SEEK_HOLE)
		if err != nil {
			return whole, nil
		}
		// tar starts each piece with a new block, so pieces are whole blocks.
		r := Range{Off: start &^ (block - 1)}
		r.Len = min(padded(end), size) - r.Off
		if end <= at || r.Len <= 0 {
			break // the file shrank
		}
		data = addPiece(data, r, least)
		if len(data) > maxPieces {
			data, least = fillHoles(data, max(least, 2048))
		}
		at = end
	}
	if len(data) == 1 && data[0] == whole[0] {
		return whole, nil
	}
	return data, data
}

func addPiece(data []Range, r Range, least int64) []Range {
	if n := len(data); n > 0 && r.Off-(data[n-1].Off+data[n-1].Len) <= least {
		data[n-1].Len = r.Off + r.Len - data[n-1].Off
		return data
	}
	return append(data, r)
}

// fillHoles takes ever larger holes as data until half of the pieces are left.
func fillHoles(data []Range, least int64) ([]Range, int64) {
	for len(data) > maxPieces/2 {
		least *= 2
		kept := data[:1]
		for _, r := range data[1:] {
			kept = addPiece(kept, r, least)
		}
		data = kept
	}
	return data, least
}

// take cuts the next n bytes off the front of a list of pieces.
func take(ranges []Range, n int64) (taken, rest []Range) {
	for n > 0 && len(ranges) > 0 {
		r := ranges[0]
		if r.Len > n {
			taken = append(taken, Range{r.Off, n})
			rest = append([]Range{{r.Off + n, r.Len - n}}, ranges[1:]...)
			return taken, rest
		}
		taken = append(taken, r)
		n -= r.Len
		ranges = ranges[1:]
	}
	return taken, ranges
}

// dataReader reads the stored bytes of a file in order. What cannot be had, because
// the file was cut or the disk is bad, is zeros: the header has promised a length.
type dataReader struct {
	fd     int
	ranges []Range
	used   int64 // bytes of ranges[0] that are read
	short  bool
	err    error // the first
	errAt  int64
	errs   int
}

// maxReadErrors is when a disk that fails is not asked again for the rest of a file:
// each question may take it many seconds.
const maxReadErrors = 50

// appendTo appends the next n bytes to b, filled up to whole blocks, and notes where
// in the file they belong.
func (d *dataReader) appendTo(b []byte, n int64, where *[]Range) []byte {
	start := len(b)
	for n > 0 {
		r := d.ranges[0]
		piece := Range{Off: r.Off + d.used, Len: min(n, r.Len-d.used)}
		if where != nil && piece.Len > 0 {
			*where = append(*where, piece)
		}
		b = d.read(b, piece)
		n -= piece.Len
		if d.used += piece.Len; d.used == r.Len {
			d.ranges, d.used = d.ranges[1:], 0
		}
	}
	stored := int64(len(b) - start)
	return appendZeros(b, int(padded(stored)-stored))
}

func (d *dataReader) read(b []byte, r Range) []byte {
	at := len(b)
	b = b[:at+int(r.Len)] // the frame made room for it
	into := b[at:]
	for done := int64(0); done < r.Len; {
		if d.short || d.errs >= maxReadErrors {
			clear(into[done:])
			break
		}
		n, err := unix.Pread(d.fd, into[done:], r.Off+done)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			if d.errs++; d.err == nil {
				d.err, d.errAt = err, r.Off+done
			}
			n = int(min(4096-(r.Off+done)%4096, r.Len-done)) // the next block may be good
			clear(into[done : done+int64(n)])
		}
		d.short = n == 0
		done += int64(n)
	}
	return b
}

func (d *dataReader) fault() string {
	return fmt.Sprintf("could not be read in %d places, first at byte %d: zeros there", d.errs, d.errAt)
}

// writePieces writes data, the bytes of pieces one after another, to their places.
func writePieces(fd int, pieces []Range, data []byte) error {
	for _, r := range pieces {
		if r.Len > int64(len(data)) {
			return io.ErrUnexpectedEOF
		}
		if err := pwriteAll(fd, data[:r.Len], r.Off); err != nil {
			return err
		}
		data = data[r.Len:]
	}
	return nil
}

func pwriteAll(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}
