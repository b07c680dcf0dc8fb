// Package devname finds devices that configuration files name as the kernel
// happened to number them (/dev/sda1), and puts lasting names there.
// Level 2: dialects: text → values, values + old→new table → edits; pure.
package devname

import (
	"bytes"
	"regexp"
	"slices"
)

// Table gives the lasting name (UUID=…, PARTUUID=…) of a kernel name
// ("/dev/sda1").
type Table map[string]string

// kernel matches names that depend on the order in which devices were found.
// Names of volumes and arrays (/dev/mapper/x, /dev/md/x) are chosen by people
// and stay.
const kernel = `/dev/(?:(?:sd|vd|hd|xvd|ubd)[a-z]+[0-9]*|nvme[0-9]+n[0-9]+(?:p[0-9]+)?|mmcblk[0-9]+(?:p[0-9]+)?|dm-[0-9]+|md[0-9]+(?:p[0-9]+)?)`

var (
	whole = regexp.MustCompile(`^` + kernel + `$`)
	// A name ends where nothing that could belong to it follows.
	any = regexp.MustCompile(`(` + kernel + `)(?:[^0-9A-Za-z_.\-]|$)`)
	// Parameters of kernel, initramfs and boot loaders that also take UUID=; the
	// value may be quoted, and cryptdevice's is followed by a colon.
	word = regexp.MustCompile(`(?m)(^|[\s"'=])((?:root|real_root|resume|RESUME|cryptdevice|GRUB_DEVICE)=["']?)(` + kernel + `)($|[\s"':,])`)
)

// Is tells whether a path is a name that the kernel chose.
func Is(path string) bool { return whole.MatchString(path) }

// Words edits kernel command lines, boot loader entries and shell settings:
// root=, resume= and the like. Comments stay as they are.
func Words(text []byte, t Table) (out []byte, changes int) {
	return lines(text, func(l []byte) []byte {
		// Two matches may share the blank between them: once is not enough.
		for {
			m := first(word, l, t)
			if m == nil {
				return l
			}
			l = slices.Concat(l[:m[6]], []byte(t[string(l[m[6]:m[7]])]), l[m[7]:])
			changes++
		}
	}), changes
}

func first(re *regexp.Regexp, l []byte, t Table) []int {
	for at := 0; at < len(l); {
		m := re.FindSubmatchIndex(l[at:])
		if m == nil {
			return nil
		}
		for i := range m {
			m[i] += at
		}
		if t[string(l[m[6]:m[7]])] != "" {
			return m
		}
		at = m[7]
	}
	return nil
}

// Crypttab edits the second field of crypttab(5): the encrypted device. A
// wrong one there is overwritten at every start when its key is random.
func Crypttab(text []byte, t Table) (out []byte, changes int) {
	return lines(text, func(l []byte) []byte {
		f := fields(l)
		if len(f) < 2 {
			return l
		}
		n := t[string(l[f[1][0]:f[1][1]])]
		if n == "" {
			return l
		}
		changes++
		return slices.Concat(l[:f[1][0]], []byte(n), l[f[1][1]:])
	}), changes
}

func fields(l []byte) (out [][2]int) {
	for i := 0; i < len(l); {
		if l[i] == ' ' || l[i] == '\t' || l[i] == '\r' {
			i++
			continue
		}
		from := i
		for i < len(l) && l[i] != ' ' && l[i] != '\t' && l[i] != '\r' {
			i++
		}
		out = append(out, [2]int{from, i})
	}
	return out
}

// Named lists the kernel names that a text uses outside of comments, each
// once, in order.
func Named(text []byte) (out []string) {
	lines(text, func(l []byte) []byte {
		for at := 0; at < len(l); {
			m := any.FindSubmatchIndex(l[at:])
			if m == nil {
				break
			}
			if n := string(l[at+m[2] : at+m[3]]); !slices.Contains(out, n) {
				out = append(out, n)
			}
			at += m[3]
		}
		return l
	})
	return out
}

// lines gives each line that is no comment, without its end, to edit.
func lines(text []byte, edit func([]byte) []byte) []byte {
	var out bytes.Buffer
	for len(text) > 0 {
		end := bytes.IndexByte(text, '\n')
		if end < 0 {
			end = len(text)
		}
		l := text[:end]
		if t := bytes.TrimLeft(l, " \t"); len(t) > 0 && t[0] != '#' {
			l = edit(l)
		}
		out.Write(l)
		text = text[end:]
		if len(text) > 0 {
			out.WriteByte('\n')
			text = text[1:]
		}
	}
	return out.Bytes()
}
