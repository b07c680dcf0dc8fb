package iso

import (
	"encoding/binary"
	"fmt"
	"io/fs"
)

// fields splits a system use area and follows its continuations.
func (i *Image) fields(b []byte, off int64) ([]field, error) {
	var out []field
	for hops := 0; ; hops++ {
		var next []byte
		var nextOff int64
		for len(b) >= 4 {
			n := int(b[2])
			if n < 4 || n > len(b) {
				break // padding
			}
			f := field{string(b[:2]), off, b[:n]}
			if f.sig == "ST" {
				break
			}
			out = append(out, f)
			if f.sig == "CE" && n >= 28 {
				at := int64(binary.LittleEndian.Uint32(b[4:]))*sector + int64(binary.LittleEndian.Uint32(b[12:]))
				size := binary.LittleEndian.Uint32(b[20:])
				if size > sector || hops >= 16 {
					return nil, fmt.Errorf("a Rock Ridge continuation of %d bytes is damaged", size)
				}
				next, nextOff = make([]byte, size), at
				if _, err := i.r.ReadAt(next, at); err != nil {
					return nil, fmt.Errorf("read a Rock Ridge continuation: %w", err)
				}
			}
			b, off = b[n:], off+int64(n)
		}
		if next == nil {
			return out, nil
		}
		b, off = next, nextOff
	}
}

// rockRidge takes name and mode from the fields.
func rockRidge(fields []field, e *Entry) (name string) {
	for _, f := range fields {
		switch f.sig {
		case "NM":
			if len(f.data) > 5 && f.data[4]&6 == 0 {
				name += string(f.data[5:])
			}
		case "PX":
			if len(f.data) < 12 {
				continue
			}
			m := binary.LittleEndian.Uint32(f.data[4:])
			e.Mode = fs.FileMode(m & 0o777)
			switch m & 0o170000 {
			case 0o040000:
				e.Mode |= fs.ModeDir
			case 0o120000:
				e.Mode |= fs.ModeSymlink
			case 0o100000, 0:
			default:
				e.Mode |= fs.ModeIrregular
			}
		}
	}
	return name
}
