package payload

import (
	"path"
	"slices"
	"strings"
)

// ldConf are the folders that ld.so.conf names, in its order, each once.
func ldConf(h *Host) []string {
	c := &confReader{h: h}
	c.file("/etc/ld.so.conf", 0)
	return c.dirs
}

type confReader struct {
	h    *Host
	dirs []string
	seen []string
}

// file reads one file. Files that cannot be read count as empty, as ldconfig
// takes them; one that includes itself is read once.
func (c *confReader) file(p string, depth int) {
	if depth > 10 || slices.Contains(c.seen, p) {
		return
	}
	c.seen = append(c.seen, p)
	b, err := c.h.ReadFile(p)
	if err != nil {
		return
	}
	dirs, includes := parseLdConf(string(b))
	// Order counts: what an include brings stands where the include stood.
	for i, d := range dirs {
		for _, inc := range includes[i] {
			if !path.IsAbs(inc) {
				inc = path.Join(path.Dir(p), inc)
			}
			for _, f := range c.h.Glob(inc) {
				c.file(f, depth+1)
			}
		}
		if d != "" && !slices.Contains(c.dirs, d) {
			c.dirs = append(c.dirs, d)
		}
	}
}

// parseLdConf splits the text of an ld.so.conf: dirs[i] is a folder, "" at
// the end of the text, and includes[i] are the patterns that stand before it.
func parseLdConf(text string) (dirs []string, includes [][]string) {
	var pending []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.FieldsFunc(line, func(r rune) bool {
			return r == ' ' || r == '\t' || r == '\n' || r == '\r' || r == ','
		})
		if len(f) == 0 || f[0] == "hwcap" {
			continue
		}
		if f[0] == "include" {
			pending = append(pending, f[1:]...)
			continue
		}
		// Folders may also be separated by colons; "=TYPE" after one is old
		// and ignored.
		for _, w := range f {
			for d := range strings.SplitSeq(w, ":") {
				d, _, _ = strings.Cut(d, "=")
				if !path.IsAbs(d) {
					continue
				}
				dirs, includes = append(dirs, path.Clean(d)), append(includes, pending)
				pending = nil
			}
		}
	}
	return append(dirs, ""), append(includes, pending)
}
