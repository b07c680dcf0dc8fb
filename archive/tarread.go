package archive

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// tarReader takes the members of one frame apart. It reads what tarWriter writes, and
// refuses the rest: a frame whose digest is right never holds anything else.
type tarReader struct {
	rest []byte
	paxValues
}

// paxValues are the records in front of a member that change its header.
type paxValues struct {
	path, link, size, uid, gid, mtime   string
	hasPath, hasSize, hasUID, hasGID    bool
	hasLink, hasTime, isSparse, realSet bool
	sparseName                          string
	realSize                            int64
}

// next returns the next member and its data (for a sparse file behind the map). cut is
// true if the frame ends before the data does: then it is a split file, and data is
// its first part. At the end of the frame e is nil.
func (t *tarReader) next() (e *Entry, data []byte, cut bool, err error) {
	t.paxValues = paxValues{}
	e = &Entry{}
	for {
		if len(t.rest) == 0 {
			return nil, nil, false, nil
		}
		if len(t.rest) < block {
			return nil, nil, false, fmt.Errorf("%d bytes where a tar header should be", len(t.rest))
		}
		h := t.rest[:block]
		t.rest = t.rest[block:]
		var path string
		if path, err = parseUstar(h, e); err != nil {
			return nil, nil, false, err
		}
		if e.Type == 'x' {
			if e.stored > int64(len(t.rest)) || padded(e.stored) > int64(len(t.rest)) {
				return nil, nil, false, fmt.Errorf("pax records of %d bytes are longer than their frame", e.stored)
			}
			records := t.rest[:e.stored]
			t.rest = t.rest[padded(e.stored):]
			*e = Entry{}
			if err := t.parsePax(records, e); err != nil {
				return nil, nil, false, err
			}
			continue
		}
		if err := t.apply(e, path); err != nil {
			return nil, nil, false, err
		}
		break
	}
	if data, cut, err = t.data(e); err != nil {
		return nil, nil, false, fmt.Errorf("%q: %w", e.Path, err)
	}
	return e, data, cut, nil
}

// data takes the member's data off the stream.
func (t *tarReader) data(e *Entry) (data []byte, cut bool, err error) {
	if e.Type != '0' {
		if e.stored != 0 {
			return nil, false, fmt.Errorf("data behind an entry of type %q", e.Type)
		}
		return nil, false, nil
	}
	if e.stored > int64(len(t.rest)) {
		data, t.rest, cut = t.rest, nil, true
	} else {
		data = t.rest[:e.stored]
		t.rest = t.rest[min(padded(e.stored), int64(len(t.rest))):]
	}
	if !t.isSparse {
		e.Size = e.stored
		return data, cut, nil
	}
	n, err := e.parseSparseMap(data)
	if err != nil {
		return nil, false, err
	}
	e.mapLen = int64(n)
	return data[n:], cut, nil
}

// apply puts the pax values in the place of the header's.
func (t *tarReader) apply(e *Entry, path string) (err error) {
	if t.hasPath {
		path = t.path
	}
	if t.isSparse {
		if !t.realSet || t.sparseName == "" {
			return fmt.Errorf("%q: a sparse file without its name or size", path)
		}
		path, e.Size = t.sparseName, t.realSize
	}
	if t.hasLink {
		e.Link = t.link
	}
	if t.hasSize {
		if e.stored, err = strconv.ParseInt(t.size, 10, 64); err != nil || e.stored < 0 || e.stored > math.MaxInt64/2 {
			return fmt.Errorf("%q: the size is %q", path, t.size)
		}
	}
	for _, id := range []struct {
		has  bool
		text string
		to   *uint32
	}{{t.hasUID, t.uid, &e.UID}, {t.hasGID, t.gid, &e.GID}} {
		if id.has {
			n, err := strconv.ParseUint(id.text, 10, 32)
			if err != nil {
				return fmt.Errorf("%q: the owner is %q", path, id.text)
			}
			*id.to = uint32(n)
		}
	}
	if t.hasTime {
		if e.Sec, e.Nsec, err = parsePaxTime(t.mtime); err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
	}
	if e.Path, err = cleanName(path); err != nil {
		return err
	}
	if e.Type == '1' {
		e.Link, err = cleanName(e.Link)
	}
	return err
}

// cleanName turns a name of the stream into an absolute path without ".", "..", or
// doubled slashes. Names that would climb are refused: none of ours does.
func cleanName(name string) (string, error) {
	name = strings.TrimRight(strings.TrimPrefix(name, "./"), "/")
	if name == "" || name == "." {
		return "/", nil
	}
	if len(name) > maxPath {
		return "", fmt.Errorf("a name of %d bytes", len(name))
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("the name %q holds a zero byte", name)
	}
	for part := range strings.SplitSeq(strings.TrimLeft(name, "/"), "/") {
		if part == "" || part == "." || part == ".." {
			return "", fmt.Errorf("the name %q is not a plain path", name)
		}
	}
	return "/" + strings.TrimLeft(name, "/"), nil
}

// maxPath is far beyond what the kernel takes in one call, since trees can be deeper
// than that, and small enough to go down one directory at a time.
const maxPath = 256 << 10

// parseUstar reads a header block into e (its own fields only: pax records that came
// before stay in e) and returns the name.
func parseUstar(h []byte, e *Entry) (string, error) {
	if string(h[257:265]) != "ustar\x0000" {
		return "", fmt.Errorf("no tar header where one should be")
	}
	var bad string
	num := func(what string, from, to int) uint64 {
		text := strings.Trim(string(h[from:to]), " \x00")
		if text == "" {
			return 0
		}
		n, err := strconv.ParseUint(text, 8, 63)
		if err != nil {
			bad = what
		}
		return n
	}
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	for _, c := range h[148:156] {
		sum += ' ' - int(c)
	}
	if num("checksum", 148, 156) != uint64(sum) {
		return "", fmt.Errorf("a tar header with a wrong checksum")
	}
	e.Mode = uint32(num("mode", 100, 108)) & 07777
	e.UID = uint32(num("uid", 108, 116))
	e.GID = uint32(num("gid", 116, 124))
	e.stored = int64(num("size", 124, 136))
	e.Sec = int64(num("mtime", 136, 148))
	e.Type = h[156]
	e.Link = cString(h[157:257])
	e.Major, e.Minor = uint32(num("major", 329, 337)), uint32(num("minor", 337, 345))
	if bad != "" {
		return "", fmt.Errorf("a tar header whose %s is no number", bad)
	}
	if strings.IndexByte("0123456x", e.Type) < 0 {
		return "", fmt.Errorf("a tar header of type %q", e.Type)
	}
	name := cString(h[0:100])
	if prefix := cString(h[345:500]); prefix != "" {
		name = prefix + "/" + name
	}
	return name, nil
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// parsePax reads the records in front of a member.
func (t *tarReader) parsePax(b []byte, e *Entry) error {
	for len(b) > 0 {
		blank := bytes.IndexByte(b[:min(len(b), 12)], ' ')
		if blank < 1 {
			return fmt.Errorf("a pax record without a length")
		}
		n, err := strconv.Atoi(string(b[:blank]))
		if err != nil || n <= blank+1 || n > len(b) || b[n-1] != '\n' {
			return fmt.Errorf("a pax record with a wrong length")
		}
		key, value, ok := bytes.Cut(b[blank+1:n-1], []byte("="))
		if !ok {
			return fmt.Errorf("a pax record without a value")
		}
		if err := t.paxRecord(string(key), value, e); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (t *tarReader) paxRecord(key string, value []byte, e *Entry) error {
	switch key {
	case "path":
		t.path, t.hasPath = string(value), true
	case "linkpath":
		t.link, t.hasLink = string(value), true
	case "size":
		t.size, t.hasSize = string(value), true
	case "uid":
		t.uid, t.hasUID = string(value), true
	case "gid":
		t.gid, t.hasGID = string(value), true
	case "mtime":
		t.mtime, t.hasTime = string(value), true
	case "hdrcharset", "GNU.sparse.minor":
	case "GNU.sparse.major":
		if string(value) != "1" {
			return fmt.Errorf("a sparse file of format %q", value)
		}
		t.isSparse = true
	case "GNU.sparse.name":
		t.sparseName = string(value)
	case "GNU.sparse.realsize":
		n, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("a sparse file of size %q", value)
		}
		t.realSize, t.realSet = n, true
	case paxACL:
		e.ACL = string(value)
	case paxDefaultACL:
		e.DefaultACL = string(value)
	case paxSELinux:
		e.SELinux = string(value)
	case paxFlags:
		n, err := strconv.ParseUint(string(value), 0, 32)
		if err != nil {
			return fmt.Errorf("inode flags %q", value)
		}
		e.Flags = uint32(n)
	default:
		name, isXattr := strings.CutPrefix(key, paxXattr)
		if !isXattr {
			return fmt.Errorf("an unknown pax record %q", key)
		}
		e.Xattrs = append(e.Xattrs, Xattr{xattrUnkey.Replace(name), bytes.Clone(value)})
	}
	return nil
}

// parsePaxTime is the reverse of paxTime.
func parsePaxTime(s string) (sec, nsec int64, err error) {
	whole, frac, _ := strings.Cut(s, ".")
	digits, negative := strings.CutPrefix(whole, "-")
	n, err1 := strconv.ParseUint(digits, 10, 62)
	if len(frac) > 9 {
		frac = frac[:9]
	}
	f, err2 := strconv.ParseUint((frac + "000000000")[:9], 10, 32)
	if err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("the time %q is no number", s)
	}
	sec, nsec = int64(n), int64(f)
	if negative {
		sec = -sec
		if nsec > 0 {
			sec, nsec = sec-1, 1e9-nsec
		}
	}
	return sec, nsec, nil
}

// parseSparseMap reads the map at the start of a sparse file's data into e.Sparse and
// returns how long it is in whole blocks.
func (e *Entry) parseSparseMap(data []byte) (int, error) {
	at := 0
	num := func() (int64, error) {
		line := bytes.IndexByte(data[at:min(len(data), at+21)], '\n')
		if line < 1 {
			return 0, fmt.Errorf("its sparse map is cut short or no number")
		}
		n, err := strconv.ParseInt(string(data[at:at+line]), 10, 64)
		at += line + 1
		if err != nil || n < 0 {
			return 0, fmt.Errorf("its sparse map holds a wrong number")
		}
		return n, nil
	}
	count, err := num()
	if err != nil || count > int64(len(data)/4) {
		return 0, fmt.Errorf("its sparse map has no count")
	}
	e.Sparse = make([]Range, 0, count)
	var end, sum int64
	for range count {
		off, err := num()
		if err != nil {
			return 0, err
		}
		n, err := num()
		if err != nil {
			return 0, err
		}
		if off < end || n > e.Size || off > e.Size-n {
			return 0, fmt.Errorf("its sparse map is not in order or leaves the file")
		}
		if end = off + n; n > 0 {
			e.Sparse = append(e.Sparse, Range{off, n})
			sum += n
		}
	}
	n := int(padded(int64(at)))
	if n > len(data) || int64(n)+sum != e.stored {
		return 0, fmt.Errorf("its sparse map does not fit its data")
	}
	return n, nil
}
