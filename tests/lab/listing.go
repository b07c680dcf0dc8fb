package lab

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"

	"lifeboat/internal/run"
)

// file is one entry of a listing, by the names of what is compared.
type file map[string]string

// comparePair reads the two listings PREFIX.a.* and PREFIX.b.*.
func comparePair(where, prefix string, a, b *Disk) (Differences, error) {
	fa, err := readListing(prefix + ".a")
	if err != nil {
		return nil, err
	}
	fb, err := readListing(prefix + ".b")
	if err != nil {
		return nil, err
	}
	var sides [2]map[string]string
	for i, s := range []string{".a", ".b"} {
		if sides[i], err = readSuper(where, prefix+s); err != nil {
			return nil, err
		}
	}
	ds := append(compareFacts(sides[0], sides[1]), compareFiles(where, fa, fb)...)
	return addTar(where, prefix+".tar", ds)
}

func compareFiles(where string, a, b map[string]file) Differences {
	var ds Differences
	for _, p := range slices.Sorted(maps.Keys(a)) {
		want, got := a[p], b[p]
		if got == nil {
			ds = append(ds, Difference{where, p, "missing", want["type"], "nothing"})
			continue
		}
		keys := map[string]bool{}
		for k := range want {
			keys[k] = true
		}
		for k := range got {
			keys[k] = true
		}
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			if k == "stored" && nearlyEqual(want, got) {
				continue
			}
			if want[k] != got[k] {
				ds = append(ds, Difference{where, p, k, want[k], got[k]})
			}
		}
	}
	for _, p := range slices.Sorted(maps.Keys(b)) {
		if a[p] == nil {
			ds = append(ds, Difference{where, p, "extra", "nothing", b[p]["type"]})
		}
	}
	return ds
}

// nearlyEqual compares how much of a file is stored. Holes must come back as
// holes, but file systems differ in how they round them.
func nearlyEqual(a, b file) bool {
	x, err1 := strconv.ParseInt(a["stored"], 10, 64)
	y, err2 := strconv.ParseInt(b["stored"], 10, 64)
	if err1 != nil || err2 != nil {
		return a["stored"] == b["stored"]
	}
	return max(x-y, y-x) <= max(64<<10, x/20)
}

// readListing puts together what listing.sh wrote.
func readListing(prefix string) (map[string]file, error) {
	b, err := os.ReadFile(prefix + ".find")
	if err != nil {
		return nil, err
	}
	files, err := parseFind(b)
	if err != nil {
		return nil, fmt.Errorf("%s.find: %w", prefix, err)
	}
	for _, part := range []struct {
		suffix string
		parse  func(files map[string]file, b []byte) error
	}{{"rdev", parseRdev}, {"sha256", parseSums}, {"xattr", parseXattrs}} {
		b, err := os.ReadFile(prefix + "." + part.suffix)
		if err == nil {
			err = part.parse(files, b)
		}
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", prefix, part.suffix, err)
		}
	}
	names, err := os.ReadFile(prefix + ".lsattr.names")
	if err != nil {
		return nil, err
	}
	b, err = os.ReadFile(prefix + ".lsattr")
	if err == nil {
		err = parseFlags(files, names, b)
	}
	return files, err
}

func fields(b []byte) []string {
	s := strings.Split(string(b), "\x00")
	return s[:len(s)-1] // the last one ends in a NUL too
}

// parseFind reads triples "numbers NUL path NUL link target NUL".
func parseFind(b []byte) (map[string]file, error) {
	files := map[string]file{}
	inodes := map[string][]string{}
	f := fields(b)
	if len(f)%3 != 0 {
		return nil, fmt.Errorf("%d fields are no triples", len(f))
	}
	for i := 0; i < len(f); i += 3 {
		n := strings.Fields(f[i])
		if len(n) != 9 {
			return nil, fmt.Errorf("find wrote %q", f[i])
		}
		e := file{"type": n[0], "mode": n[1], "uid": n[2], "gid": n[3], "mtime": n[5]}
		switch n[0] {
		case "f":
			blocks, err := strconv.ParseInt(n[7], 10, 64)
			if err != nil {
				return nil, err
			}
			e["size"], e["stored"] = n[4], strconv.FormatInt(blocks*512, 10)
		case "l":
			e["target"] = f[i+2]
		}
		if n[0] != "d" {
			e["links"] = n[6]
			inodes[n[8]] = append(inodes[n[8]], f[i+1])
		}
		files[f[i+1]] = e
	}
	for _, names := range inodes {
		sort.Strings(names)
		for _, n := range names {
			if len(names) > 1 {
				files[n]["linked with"] = names[0]
			}
		}
	}
	return files, nil
}

func entry(files map[string]file, name string) (file, error) {
	n := strings.TrimPrefix(name, "./")
	if n == "." {
		n = ""
	}
	if files[n] == nil {
		return nil, fmt.Errorf("%q is not in the listing of find", name)
	}
	return files[n], nil
}

func parseRdev(files map[string]file, b []byte) error {
	f := fields(b)
	for i := 0; i+1 < len(f); i += 2 {
		e, err := entry(files, f[i+1])
		if err != nil {
			return err
		}
		e["device"] = f[i]
	}
	return nil
}

func parseSums(files map[string]file, b []byte) error {
	for _, rec := range fields(b) {
		sum, name, ok := strings.Cut(rec, "  ")
		if !ok {
			return fmt.Errorf("sha256sum wrote %q", rec)
		}
		e, err := entry(files, name)
		if err != nil {
			return err
		}
		e["sha256"] = sum
	}
	return nil
}

func parseXattrs(files map[string]file, b []byte) error {
	var e file
	for _, line := range strings.Split(string(b), "\n") {
		if name, ok := strings.CutPrefix(line, "# file: "); ok {
			var err error
			if e, err = entry(files, unescape(name)); err != nil {
				return err
			}
			continue
		}
		if line == "" {
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		if e == nil {
			return fmt.Errorf("getfattr wrote %q", line)
		}
		e["xattr "+name] = "=" + value
	}
	return nil
}

// unescape undoes \ooo, in which getfattr writes odd bytes of names.
func unescape(s string) string {
	var o strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				o.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		o.WriteByte(s[i])
	}
	return o.String()
}

// kept are the flags of lsattr that somebody sets; the others (extents,
// indexed folder) say how the file system stores the file.
const kept = "acdijmstuxACDFPSTV"

// parseFlags reads lsattr's lines; names may hold line ends, so they are taken
// from the list that lsattr was given.
func parseFlags(files map[string]file, names, b []byte) error {
	for _, name := range fields(names) {
		flags, rest, ok := bytes.Cut(b, []byte(" "))
		rest, found := bytes.CutPrefix(rest, []byte(name+"\n"))
		if !ok || !found {
			return fmt.Errorf("lsattr: expected %q at %.100q", name, b)
		}
		b = rest
		e, err := entry(files, name)
		if err != nil {
			return err
		}
		e["flags"] = strings.Map(func(r rune) rune {
			if strings.ContainsRune(kept, r) {
				return r
			}
			return -1
		}, string(flags))
	}
	return nil
}

// changing are parameters of a file system that change by using it.
var changing = []string{
	"Filesystem created", "Last mount time", "Last write time", "Last checked", "Next check after", "Last mounted on",
	"Mount count", "Free blocks", "Free inodes", "Lifetime writes", "Journal sequence", "Journal start", "Journal checksum",
	"Journal superblock magic number invalid!", "Checksum", "Overhead clusters", "Overhead blocks", "First orphan inode",
	"icount", "ifree", "fdblocks", "frextents", "lsn", "crc", "rootino", "rbmino", "rsumino", "qflags", "uquotino", "gquotino", "pquotino",
}

// readSuper reads parameters by name: "Key:  value" and "key = value".
func readSuper(where, prefix string) (map[string]string, error) {
	b, err := os.ReadFile(prefix + ".super")
	if err != nil {
		return nil, err
	}
	m := map[string]string{}
	for _, line := range strings.Split(string(b), "\n") {
		k, v, ok := strings.Cut(line, " = ")
		if !ok {
			k, v, ok = strings.Cut(line, ":")
		}
		k = strings.TrimSpace(k)
		if ok && !slices.Contains(changing, k) {
			m[where+"/"+strings.ReplaceAll(k, "/", " ")] = strings.TrimSpace(v)
		}
	}
	if b, err = os.ReadFile(prefix + ".fsck"); err != nil {
		return nil, err
	}
	m[where+"/fsck"] = strings.TrimSpace(string(b))
	return m, nil
}

// addTar adds what GNU tar found on files that find and the others call equal.
func addTar(where, path string, ds Differences) (Differences, error) {
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return ds, nil // listed in the guest
	}
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, d := range ds {
		known[d.Path] = true
	}
	for _, line := range strings.Split(string(b), "\n") {
		name, what, ok := cutLast(strings.TrimPrefix(line, "tar: "), ": ")
		if !ok {
			continue
		}
		if i := strings.Index(name, ": Warning: Cannot stat"); i >= 0 {
			name = name[:i]
		}
		name = strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
		if !known[name] {
			ds = append(ds, Difference{where, name, "tar", "equal", what})
		}
	}
	return ds, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func quote(s string) string { return run.Quote([]string{s}) }
