package lvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrNone: the device is no physical volume.
var ErrNone = errors.New("no LVM physical volume")

// Label is what a physical volume says of itself, read without lvm: which
// group it belongs to and what else belongs to that group. It answers, with
// nothing but the disk, whether wiping one disk would tear a group apart.
type Label struct {
	UUID   string
	VG     string // name of its group, "" when it has none or keeps no metadata
	VGUUID string
	PVs    []string // ids of all physical volumes of the group
}

var le = binary.LittleEndian

// maxMetadata bounds the text of one group; LVM's own areas are about 1 MiB.
const maxMetadata = 64 << 20

// ReadLabel reads the label and the newest metadata of a physical volume.
func ReadLabel(r io.ReaderAt) (*Label, error) {
	b := make([]byte, 4*lvmSector)
	n, err := r.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	for i := 0; i+lvmSector <= n; i += lvmSector {
		s := b[i : i+lvmSector]
		if string(s[:8]) == "LABELONE" && string(s[24:32]) == "LVM2 001" {
			return readPV(r, s)
		}
	}
	return nil, ErrNone
}

// readPV reads the header behind a label: id, size, two lists of areas, each
// ended by a zero entry; the second one names the metadata areas.
func readPV(r io.ReaderAt, s []byte) (*Label, error) {
	at := int64(le.Uint32(s[20:]))
	if at < 32 || at > lvmSector-40 {
		return nil, fmt.Errorf("the label places its header at byte %d: %w", at, ErrNone)
	}
	h := s[at:]
	l := &Label{UUID: dashes(h[:32])}
	lists := 0
	for h = h[40:]; len(h) >= 16 && lists < 2; h = h[16:] {
		off := int64(le.Uint64(h))
		if off == 0 {
			lists++
			continue
		}
		if lists == 0 {
			continue
		}
		text, err := readMetadata(r, off)
		if err != nil {
			return nil, err
		}
		if text != "" {
			l.VG, l.VGUUID, l.PVs = parseGroup(text)
		}
	}
	return l, nil
}

// dashes writes an id as LVM shows it.
func dashes(b []byte) string {
	var parts []string
	for _, n := range []int{6, 4, 4, 4, 4, 4, 6} {
		parts = append(parts, string(b[:n]))
		b = b[n:]
	}
	return strings.Join(parts, "-")
}

// readMetadata returns the text of a metadata area, "" when it holds none.
// The area is a ring behind its own header sector.
func readMetadata(r io.ReaderAt, area int64) (string, error) {
	h := make([]byte, lvmSector)
	if area < 0 {
		return "", fmt.Errorf("a metadata area at byte %d is nonsense", area)
	}
	if _, err := r.ReadAt(h, area); err != nil {
		return "", fmt.Errorf("read the metadata area at byte %d: %w", area, err)
	}
	if string(h[4:20]) != " LVM2 x[5A%r0N*>" {
		return "", fmt.Errorf("no metadata area lies at byte %d", area)
	}
	ring := int64(le.Uint64(h[32:]))
	off, size := int64(le.Uint64(h[40:])), int64(le.Uint64(h[48:]))
	if off == 0 || size == 0 || le.Uint32(h[60:])&1 != 0 {
		return "", nil // unused, or ignored on purpose
	}
	if off < lvmSector || size < 0 || size > maxMetadata || ring < off || size > ring-lvmSector {
		return "", fmt.Errorf("the metadata area at byte %d places %d bytes at %d", area, size, off)
	}
	text := make([]byte, size)
	first := min(size, ring-off)
	if _, err := r.ReadAt(text[:first], area+off); err != nil {
		return "", fmt.Errorf("read LVM metadata: %w", err)
	}
	if first < size {
		if _, err := r.ReadAt(text[first:], area+lvmSector); err != nil {
			return "", fmt.Errorf("read LVM metadata: %w", err)
		}
	}
	return strings.TrimRight(string(text), "\x00"), nil
}

// parseGroup finds name, id and physical volumes in metadata text. Sections
// are enough: values other than ids are passed over.
func parseGroup(text string) (name, id string, pvs []string) {
	var path []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(cutComment(line))
		switch {
		case strings.HasSuffix(line, "{"):
			path = append(path, strings.TrimSpace(strings.TrimSuffix(line, "{")))
			if len(path) == 1 {
				name = path[0]
			}
		case line == "}" && len(path) > 0:
			path = path[:len(path)-1]
		default:
			key, value, ok := strings.Cut(line, " = ")
			if !ok || key != "id" {
				continue
			}
			value = strings.Trim(value, `"`)
			switch {
			case len(path) == 1:
				id = value
			case len(path) == 3 && path[1] == "physical_volumes":
				pvs = append(pvs, value)
			}
		}
	}
	return name, id, pvs
}

// cutComment cuts a comment that is not inside quotes.
func cutComment(line string) string {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '\\':
			i++
		case '"':
			quoted = !quoted
		case '#':
			if !quoted {
				return line[:i]
			}
		}
	}
	return line
}
