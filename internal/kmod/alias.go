package kmod

import (
	"slices"
	"strings"
)

// aliasLine is one "alias PATTERN MODULE".
type aliasLine struct{ pattern, module string }

// index finds the patterns that match a string. Patterns are bucketed by
// their literal beginning, so a modalias is compared with a handful of the
// 26,000 patterns of a distribution kernel.
type index struct {
	lines []aliasLine
	next  []int32          // next line of the same bucket, -1 ends
	heads map[string]int32 // literal beginning → first line
	max   int              // longest literal beginning
}

func newIndex(lines []aliasLine) *index {
	ix := &index{lines: lines, next: make([]int32, len(lines)), heads: make(map[string]int32, len(lines))}
	for i := len(lines) - 1; i >= 0; i-- {
		key := lines[i].pattern
		if j := strings.IndexAny(key, `*?[\`); j >= 0 {
			key = key[:j]
		}
		ix.next[i] = -1
		if h, ok := ix.heads[key]; ok {
			ix.next[i] = h
		}
		ix.heads[key] = int32(i)
		ix.max = max(ix.max, len(key))
	}
	return ix
}

// match returns the modules of all matching lines, in file order, each once.
// The alias must be normalised.
func (ix *index) match(alias string) []string {
	var hits []int32
	for n := 0; n <= min(len(alias), ix.max); n++ {
		h, ok := ix.heads[alias[:n]]
		for ; ok && h >= 0; h = ix.next[h] {
			if Fnmatch(ix.lines[h].pattern, alias) {
				hits = append(hits, h)
			}
		}
	}
	slices.Sort(hits)
	var out []string
	for _, h := range hits {
		if m := ix.lines[h].module; !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out
}

// normAlias makes hyphens underscores outside of brackets, where a hyphen is
// a range. depmod and the kernel differ in which they write.
func normAlias(s string) string {
	if !strings.Contains(s, "-") {
		return s
	}
	b := []byte(s)
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '-':
			b[i] = '_'
		case '[':
			if j := strings.IndexByte(s[i:], ']'); j > 0 {
				i += j
			}
		}
	}
	return string(b)
}

func parseAlias(text string) []aliasLine {
	out := make([]aliasLine, 0, strings.Count(text, "\n"))
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "alias ")
		if !ok {
			continue
		}
		rest = strings.TrimSpace(rest)
		// A pattern may hold blanks (DMI strings); a module name never does.
		i := strings.LastIndexAny(rest, " \t")
		if i <= 0 {
			continue
		}
		out = append(out, aliasLine{normAlias(strings.TrimSpace(rest[:i])), Name(rest[i+1:])})
	}
	return out
}

// parseBuiltinModinfo takes the aliases out of modules.builtin.modinfo:
// "module.key=value" strings with a NUL after each.
func parseBuiltinModinfo(text string) []aliasLine {
	var out []aliasLine
	for rec := range strings.SplitSeq(text, "\x00") {
		key, val, ok := strings.Cut(rec, "=")
		mod, field, ok2 := strings.Cut(key, ".")
		if ok && ok2 && field == "alias" && mod != "" && val != "" {
			out = append(out, aliasLine{normAlias(val), Name(mod)})
		}
	}
	return out
}

// Fnmatch matches a shell pattern as fnmatch(3) does without flags: * ? [] and
// backslash; a slash is nothing special. An unclosed bracket is literal.
func Fnmatch(pattern, s string) bool {
	p, i := 0, 0
	star, mark := -1, 0
	for i < len(s) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, i
			p++
			continue
		}
		if n, ok := matchOne(pattern[p:], s[i]); ok {
			p += n
			i++
			continue
		}
		if star < 0 {
			return false
		}
		// The last star takes one character more.
		mark++
		p, i = star+1, mark
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne compares the first element of a pattern with one byte and tells
// how long the element is.
func matchOne(p string, c byte) (int, bool) {
	if p == "" {
		return 0, false
	}
	switch p[0] {
	case '?':
		return 1, true
	case '\\':
		if len(p) > 1 {
			return 2, p[1] == c
		}
	case '[':
		if n, ok := matchClass(p, c); n > 0 {
			return n, ok
		}
	}
	return 1, p[0] == c
}

// matchClass reads [abc], [a-z], [!x]. Zero means that it has no end.
func matchClass(p string, c byte) (int, bool) {
	i, neg, hit := 1, false, false
	if i < len(p) && (p[i] == '!' || p[i] == '^') {
		neg = true
		i++
	}
	for first := true; i < len(p); first = false {
		if p[i] == ']' && !first {
			return i + 1, hit != neg
		}
		lo, n := classChar(p[i:])
		i += n
		hi := lo
		if i+1 < len(p) && p[i] == '-' && p[i+1] != ']' {
			hi, n = classChar(p[i+1:])
			i += 1 + n
		}
		hit = hit || lo <= c && c <= hi
	}
	return 0, false
}

func classChar(p string) (byte, int) {
	if p[0] == '\\' && len(p) > 1 {
		return p[1], 2
	}
	return p[0], 1
}
