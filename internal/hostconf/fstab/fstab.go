// Package fstab reads and edits /etc/fstab and keeps every byte that is not
// edited.
// Level 2: dialects: text → values, values + old→new table → edits; pure.
package fstab

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Entry is one line of fstab(5).
type Entry struct {
	Spec    string   // device, tag or remote, unescaped
	Path    string   // mount point, unescaped; "none" or "swap" for swap
	Type    string   // may be a list, or auto
	Options []string // unescaped
	Freq    int
	Pass    int
	Line    int // from 1
}

// File is a whole fstab.
type File struct{ lines []line }

// line is the text of one line with its end; field are the places of its
// fields, nil when it is no entry.
type line struct {
	text   string
	fields []span
}

type span struct{ from, to int }

// Parse reads an fstab. It takes any text: what is no entry is kept as it is.
func Parse(text []byte) *File {
	f := &File{}
	for len(text) > 0 {
		end := len(text)
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			end = i + 1
		}
		f.lines = append(f.lines, parseLine(string(text[:end])))
		text = text[end:]
	}
	return f
}

func parseLine(text string) line {
	l := line{text: text}
	body := strings.TrimRight(text, "\r\n")
	if t := strings.TrimLeft(body, " \t"); t == "" || t[0] == '#' {
		return l
	}
	for i := 0; i < len(body) && len(l.fields) < 6; {
		if blank(body[i]) {
			i++
			continue
		}
		from := i
		for i < len(body) && !blank(body[i]) {
			i++
		}
		l.fields = append(l.fields, span{from, i})
	}
	if len(l.fields) < 2 {
		l.fields = nil // libmount takes a line with less than two fields for broken
	}
	return l
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// Bytes is the text, edits included.
func (f *File) Bytes() []byte {
	var b bytes.Buffer
	for _, l := range f.lines {
		b.WriteString(l.text)
	}
	return b.Bytes()
}

// Entries are the lines that name something to mount or swap on.
func (f *File) Entries() []Entry {
	var out []Entry
	for i, l := range f.lines {
		if l.fields == nil {
			continue
		}
		get := func(n int) string {
			if n >= len(l.fields) {
				return ""
			}
			return l.text[l.fields[n].from:l.fields[n].to]
		}
		e := Entry{Spec: Unescape(get(0)), Path: Unescape(get(1)), Type: Unescape(get(2)), Line: i + 1}
		for _, o := range strings.Split(get(3), ",") {
			if o != "" {
				e.Options = append(e.Options, Unescape(o))
			}
		}
		e.Freq, _ = strconv.Atoi(get(4))
		e.Pass, _ = strconv.Atoi(get(5))
		out = append(out, e)
	}
	return out
}

// Has tells whether an option is set, with or without a value.
func (e Entry) Has(option string) bool { _, ok := e.Option(option); return ok }

// Option returns the value of the last option of this name.
func (e Entry) Option(name string) (value string, ok bool) {
	for _, o := range e.Options {
		if n, v, _ := strings.Cut(o, "="); n == name {
			value, ok = v, true
		}
	}
	return value, ok
}

// IsSwap tells whether the entry is a swap area.
func (e Entry) IsSwap() bool { return e.Type == "swap" }

// Tag splits a spec like UUID=x or LABEL="x y" into name and value; a path or
// remote has no tag and is the value.
func Tag(spec string) (tag, value string) {
	name, v, ok := strings.Cut(spec, "=")
	switch name {
	case "UUID", "LABEL", "PARTUUID", "PARTLABEL", "ID":
	default:
		ok = false
	}
	if !ok {
		return "", spec
	}
	for _, q := range []string{`"`, `'`} {
		if len(v) >= 2 && strings.HasPrefix(v, q) && strings.HasSuffix(v, q) {
			v = v[1 : len(v)-1]
			break
		}
	}
	return name, v
}

// Change is one edit that was made.
type Change struct {
	Line     int
	Old, New string
}

// Replace gives each spec, and each value of an option, to f; where f returns
// another text it takes that one's place. Everything else keeps its bytes.
func (f *File) Replace(edit func(value string) string) []Change {
	var out []Change
	for i := range f.lines {
		l := &f.lines[i]
		if l.fields == nil {
			continue
		}
		// From the end on, so that earlier places stay right.
		if len(l.fields) > 3 {
			old := l.text[l.fields[3].from:l.fields[3].to]
			opts := strings.Split(old, ",")
			for j, o := range opts {
				name, v, ok := strings.Cut(o, "=")
				if !ok {
					continue
				}
				if n := edit(Unescape(v)); n != Unescape(v) {
					out = append(out, Change{i + 1, Unescape(v), n})
					opts[j] = name + "=" + Escape(n)
				}
			}
			l.put(3, strings.Join(opts, ","))
		}
		old := Unescape(l.text[l.fields[0].from:l.fields[0].to])
		if n := edit(old); n != old {
			out = append(out, Change{i + 1, old, n})
			l.put(0, Escape(n))
		}
	}
	return out
}

func (l *line) put(n int, text string) {
	s := l.fields[n]
	*l = parseLine(l.text[:s.from] + text + l.text[s.to:])
}

// Escape writes blanks, tabs, line ends, backslashes and a leading # so that
// they stay within a field.
func Escape(s string) string {
	var o strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\\' || c == '#' && i == 0:
			fmt.Fprintf(&o, `\%03o`, c)
		default:
			o.WriteByte(c)
		}
	}
	return o.String()
}

// Unescape undoes octal escapes; what is none stays.
func Unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var o strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil && s[i+1] != '+' && s[i+1] != '-' {
				o.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		o.WriteByte(s[i])
	}
	return o.String()
}
