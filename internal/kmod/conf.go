package kmod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Conf is what modprobe.d and the kernel command line say.
type Conf struct {
	Options   map[string][]string // module → parameters, in order
	Blacklist map[string]bool     // not loaded through an alias; by name they are
	Blocked   map[string]bool     // "install X /bin/true" or false: never loaded
	Aliases   []Alias
	Soft      map[string]Soft
	Ignored   []string // lines that we do not carry out, for the log
}

// Alias is a line "alias PATTERN MODULE" of modprobe.d.
type Alias struct{ Pattern, Module string }

// confDirs from the strongest down: a file hides those of the same name below.
var confDirs = []string{"etc/modprobe.d", "run/modprobe.d", "usr/local/lib/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d"}

// ReadConf reads modprobe.d below root. What is missing is no error.
func ReadConf(root string) (*Conf, error) {
	files := map[string]string{}
	for _, d := range confDirs {
		list, err := os.ReadDir(filepath.Join(root, d))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("modprobe.d: %w", err)
		}
		for _, e := range list {
			if _, hidden := files[e.Name()]; !hidden && strings.HasSuffix(e.Name(), ".conf") {
				files[e.Name()] = filepath.Join(root, d, e.Name())
			}
		}
	}
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	c := &Conf{}
	for _, n := range names {
		b, err := os.ReadFile(files[n])
		if errors.Is(err, fs.ErrNotExist) {
			continue // a dangling link or /dev/null mask
		}
		if err != nil {
			return nil, fmt.Errorf("modprobe.d: %w", err)
		}
		c.Parse(string(b))
	}
	return c, nil
}

// Parse adds the lines of one modprobe.d file.
func (c *Conf) Parse(text string) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0][0] == '#' {
			continue
		}
		c.line(f, strings.TrimSpace(line))
	}
}

func (c *Conf) line(f []string, whole string) {
	name := Name(f[1])
	switch f[0] {
	case "blacklist":
		set(&c.Blacklist, name)
	case "options":
		if c.Options == nil {
			c.Options = map[string][]string{}
		}
		c.Options[name] = append(c.Options[name], f[2:]...)
	case "alias":
		if len(f) > 2 {
			c.Aliases = append(c.Aliases, Alias{normAlias(f[1]), Name(f[2])})
		}
	case "softdep":
		if c.Soft == nil {
			c.Soft = map[string]Soft{}
		}
		c.Soft[name] = addSoft(c.Soft[name], f[2:])
	case "install":
		if cmd := filepath.Base(strings.Join(f[2:], " ")); cmd == "true" || cmd == "false" {
			set(&c.Blocked, name)
			return
		}
		c.Ignored = append(c.Ignored, whole)
	default:
		c.Ignored = append(c.Ignored, whole)
	}
}

func set(m *map[string]bool, k string) {
	if *m == nil {
		*m = map[string]bool{}
	}
	(*m)[k] = true
}

// Cmdline adds "module.parameter=value" and "modprobe.blacklist=a,b" of a
// kernel command line. Whatever else has a dot is taken for a parameter of a
// module that does not exist, and does no harm.
func (c *Conf) Cmdline(cmdline string) {
	for _, w := range splitCmdline(cmdline) {
		key, val, hasVal := strings.Cut(w, "=")
		mod, par, ok := strings.Cut(key, ".")
		if !ok || mod == "" || par == "" || strings.ContainsAny(mod, "\"/:") {
			continue
		}
		if mod == "modprobe" {
			if par == "blacklist" {
				for b := range strings.SplitSeq(val, ",") {
					set(&c.Blacklist, Name(b))
				}
			}
			continue
		}
		if hasVal {
			par += "=" + val
		}
		if c.Options == nil {
			c.Options = map[string][]string{}
		}
		c.Options[Name(mod)] = append(c.Options[Name(mod)], par)
	}
}

// splitCmdline cuts at blanks outside of double quotes and stops at "--",
// after which arguments are for init.
func splitCmdline(s string) []string {
	var out []string
	quoted, start := false, -1
	flush := func(end int) bool {
		if start >= 0 {
			if s[start:end] == "--" {
				return false
			}
			out = append(out, s[start:end])
		}
		start = -1
		return true
	}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
			if start < 0 {
				start = i
			}
		case !quoted && (s[i] == ' ' || s[i] == '\t' || s[i] == '\n'):
			if !flush(i) {
				return out
			}
		case start < 0:
			start = i
		}
	}
	flush(len(s))
	return out
}

func parseSoftdep(text string) map[string]Soft {
	out := map[string]Soft{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) > 2 && f[0] == "softdep" {
			n := Name(f[1])
			out[n] = addSoft(out[n], f[2:])
		}
	}
	return out
}

func addSoft(s Soft, words []string) Soft {
	dst := &s.Loose
	for _, w := range words {
		switch w {
		case "pre:":
			dst = &s.Pre
		case "post:":
			dst = &s.Post
		default:
			// The label may be glued to the first name.
			if r, ok := strings.CutPrefix(w, "pre:"); ok {
				dst, w = &s.Pre, r
			} else if r, ok := strings.CutPrefix(w, "post:"); ok {
				dst, w = &s.Post, r
			}
			*dst = append(*dst, w)
		}
	}
	return s
}

func parseWeakdep(text string) map[string][]string {
	out := map[string][]string{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) > 2 && f[0] == "weakdep" {
			n := Name(f[1])
			out[n] = append(out[n], f[2:]...)
		}
	}
	return out
}
