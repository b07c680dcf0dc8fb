package archive

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Entry is one file, directory, link or device as the archive records it.
type Entry struct {
	Path   string // as recorded, absolute: "/etc/fstab"; "/" is the root itself
	Type   byte   // tar's type: '0' file, '1' hard link, '2' link, '3' char, '4' block device, '5' directory, '6' fifo
	Mode   uint32 // permission bits with set-id and sticky: 07777
	UID    uint32
	GID    uint32
	Sec    int64 // time of last change of content: seconds since 1970
	Nsec   int64 // and nanoseconds, 0 to 999999999
	Size   int64 // bytes, holes included
	Link   string
	Major  uint32
	Minor  uint32
	Xattrs []Xattr // all but ACLs and the SELinux label, sorted as the kernel lists them

	ACL        string // POSIX ACL, text with numeric ids, entries divided by commas; "" is none
	DefaultACL string
	SELinux    string  // label without its final zero byte
	Flags      uint32  // inode flags of FS_IOC_GETFLAGS that can be set again
	Sparse     []Range // where the data is; nil for a file without holes

	stored int64 // bytes of data in the tar stream, the sparse map included
	mapLen int64 // bytes of the sparse map
}

// Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Keys of pax records beyond the standard ones. The first four are those of GNU tar
// and star; GNU tar passes over the last with a warning.
const (
	paxXattr      = "SCHILY.xattr."
	paxACL        = "SCHILY.acl.access"
	paxDefaultACL = "SCHILY.acl.default"
	paxSELinux    = "RHT.security.selinux"
	paxFlags      = "LIFEBOAT.flags"
)

// Limits of the numbers in a ustar header; what is larger goes into a pax record.
const (
	maxOctal7  = 1<<21 - 1
	maxOctal11 = 1<<33 - 1
	// maxPax bounds the pax records of one entry. ext4 and btrfs stay far below; XFS
	// can hold more in attributes than anybody has.
	maxPax = 2 << 20
)

// tarWriter makes headers; it keeps its buffers.
type tarWriter struct {
	pax []byte
	num []byte
}

// appendHeader appends the header blocks of e (pax records first, where needed) to b.
// The sparse map, which is data to tar, is not included.
func (w *tarWriter) appendHeader(b []byte, e *Entry) ([]byte, error) {
	name := tarName(e.Path, e.Type == '5')
	link := e.Link
	if e.Type == '1' {
		link = tarName(e.Link, false)
	}
	if max(len(name), len(link)) > maxPath {
		return b, fmt.Errorf("its path or target has more than %d bytes", maxPath)
	}
	w.pax = w.pax[:0]
	if e.Sparse != nil {
		w.record("GNU.sparse.major", "1")
		w.record("GNU.sparse.minor", "0")
		w.name("GNU.sparse.name", name)
		w.record("GNU.sparse.realsize", strconv.FormatInt(e.Size, 10))
		name = "GNUSparseFile.0/" + lastPart(name)
	}
	head, tail, fits := splitName(name)
	if !fits {
		if e.Sparse == nil {
			w.name("path", name)
		}
		head, tail = "", shorten(lastPart(name))
	}
	if len(link) > 100 {
		w.name("linkpath", link)
		link = link[:100]
	}
	w.numbers(e)
	w.extras(e)
	if len(w.pax) > maxPax {
		return b, fmt.Errorf("its attributes take %d bytes, more than the %d that one entry may have", len(w.pax), maxPax)
	}
	if len(w.pax) > 0 {
		x := Entry{Type: 'x', Mode: 0644, Sec: e.Sec, stored: int64(len(w.pax))}
		b = appendUstar(b, &x, "", "PaxHeaders/"+shorten(lastPart(name)), "")
		b = append(b, w.pax...)
		b = appendZeros(b, int(padded(int64(len(w.pax))))-len(w.pax))
	}
	return appendUstar(b, e, head, tail, link), nil
}

// numbers writes those that a ustar header cannot hold.
func (w *tarWriter) numbers(e *Entry) {
	if e.stored > maxOctal11 {
		w.record("size", strconv.FormatInt(e.stored, 10))
	}
	if e.UID > maxOctal7 {
		w.record("uid", strconv.FormatUint(uint64(e.UID), 10))
	}
	if e.GID > maxOctal7 {
		w.record("gid", strconv.FormatUint(uint64(e.GID), 10))
	}
	if e.Nsec != 0 || e.Sec < 0 || e.Sec > maxOctal11 {
		w.record("mtime", paxTime(e.Sec, e.Nsec))
	}
}

func (w *tarWriter) extras(e *Entry) {
	if e.SELinux != "" {
		w.record(paxSELinux, e.SELinux)
	}
	if e.ACL != "" {
		w.record(paxACL, e.ACL)
	}
	if e.DefaultACL != "" {
		w.record(paxDefaultACL, e.DefaultACL)
	}
	for _, x := range e.Xattrs {
		w.record(paxXattr+xattrKey.Replace(x.Name), string(x.Value))
	}
	if e.Flags != 0 {
		w.record(paxFlags, "0x"+strconv.FormatUint(uint64(e.Flags), 16))
	}
}

// GNU tar's own escape for attribute names, since "=" ends a key.
var (
	xattrKey   = strings.NewReplacer("%", "%25", "=", "%3D")
	xattrUnkey = strings.NewReplacer("%3D", "=", "%25", "%")
)

// name writes a record whose value is a path. Paths are bytes; a record is UTF-8
// unless hdrcharset says otherwise, which must come before it.
func (w *tarWriter) name(key, value string) {
	if !utf8.ValidString(value) {
		w.record("hdrcharset", "BINARY")
	}
	w.record(key, value)
}

// record appends "LENGTH KEY=VALUE\n", where LENGTH counts itself.
func (w *tarWriter) record(key, value string) {
	rest := len(key) + len(value) + 3 // blank, "=", newline
	n := rest + decimals(rest)
	if decimals(n) > decimals(rest) {
		n++
	}
	w.num = strconv.AppendInt(w.num[:0], int64(n), 10)
	w.pax = append(w.pax, w.num...)
	w.pax = append(w.pax, ' ')
	w.pax = append(w.pax, key...)
	w.pax = append(w.pax, '=')
	w.pax = append(w.pax, value...)
	w.pax = append(w.pax, '\n')
}

func decimals(n int) int {
	d := 1
	for ; n > 9; n /= 10 {
		d++
	}
	return d
}

// paxTime writes a time as a decimal number; nsec counts up, also before 1970.
func paxTime(sec, nsec int64) string {
	sign := ""
	if sec < 0 {
		if nsec > 0 {
			sec, nsec = sec+1, 1e9-nsec
		}
		sign, sec = "-", -sec
	}
	return sign + strconv.FormatInt(sec, 10) + strings.TrimRight(fmt.Sprintf(".%09d", nsec), ".0")
}

// tarName is how a path stands in the stream: without the leading slash, the root as
// "./", directories with a slash at the end.
func tarName(path string, dir bool) string {
	name := strings.TrimPrefix(path, "/")
	if name == "" {
		return "./"
	}
	if dir {
		name += "/"
	}
	return name
}

// splitName divides a name over the two fields of a ustar header.
func splitName(name string) (head, tail string, fits bool) {
	if len(name) <= 100 {
		return "", name, true
	}
	if len(name) > 256 {
		return "", "", false
	}
	// The cut is a slash that leaves at most 100 bytes, and not the one at the end.
	i := strings.IndexByte(name[len(name)-101:len(name)-1], '/')
	if i < 0 || len(name)-101+i > 155 || len(name)-101+i == 0 {
		return "", "", false
	}
	cut := len(name) - 101 + i
	return name[:cut], name[cut+1:], true
}

func lastPart(name string) string {
	name = strings.TrimRight(name, "/")
	return name[strings.LastIndexByte(name, '/')+1:]
}

// shorten cuts what only serves people that look at the raw stream.
func shorten(s string) string { return s[:min(len(s), 80)] }

// appendUstar appends one header block.
func appendUstar(b []byte, e *Entry, head, tail, link string) []byte {
	at := len(b)
	b = appendZeros(b, block)
	h := b[at:]
	copy(h[0:100], tail)
	octal(h[100:108], uint64(e.Mode&07777))
	octal(h[108:116], fit(uint64(e.UID), maxOctal7))
	octal(h[116:124], fit(uint64(e.GID), maxOctal7))
	octal(h[124:136], fit(uint64(e.stored), maxOctal11))
	octal(h[136:148], fit(uint64(e.Sec), maxOctal11))
	h[156] = e.Type
	copy(h[157:257], link)
	copy(h[257:265], "ustar\x0000")
	octal(h[329:337], uint64(e.Major))
	octal(h[337:345], uint64(e.Minor))
	copy(h[345:500], head)
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	octal(h[148:155], uint64(sum))
	h[155] = ' '
	return b
}

// fit gives 0 for what the field cannot hold; a pax record then has it.
func fit(n, limit uint64) uint64 {
	if n > limit {
		return 0
	}
	return n
}

// octal fills a field but for its last byte, which stays zero.
func octal(field []byte, n uint64) {
	for i := len(field) - 2; i >= 0; i-- {
		field[i] = '0' + byte(n&7)
		n >>= 3
	}
}

var zeros [64 << 10]byte

func appendZeros(b []byte, n int) []byte {
	for n > len(zeros) {
		b = append(b, zeros[:]...)
		n -= len(zeros)
	}
	return append(b, zeros[:n]...)
}

// appendSparseMap appends the map of GNU.sparse 1.0: decimal numbers in lines, filled
// up to whole blocks.
func appendSparseMap(b []byte, data []Range, size int64) []byte {
	start := len(b)
	// tar wants to see the end of the file in the map, as an empty piece if need be.
	tail := len(data) == 0 || data[len(data)-1].Off+data[len(data)-1].Len < size
	n := len(data)
	if tail {
		n++
	}
	b = append(strconv.AppendInt(b, int64(n), 10), '\n')
	for _, r := range data {
		b = append(strconv.AppendInt(b, r.Off, 10), '\n')
		b = append(strconv.AppendInt(b, r.Len, 10), '\n')
	}
	if tail {
		b = append(strconv.AppendInt(b, size, 10), '\n', '0', '\n')
	}
	used := int64(len(b) - start)
	return appendZeros(b, int(padded(used)-used))
}
