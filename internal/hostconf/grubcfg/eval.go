// Package grubcfg reads GRUB's configuration as GRUB itself would run it, to
// know what an installed system starts by default: kernel, arguments and
// initramfs.
// Level 2: dialects of configuration files; pure.
package grubcfg

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// World is what a configuration can ask of the machine. A filesystem is named
// by a text without parentheses that the world chooses.
type World interface {
	// Search finds a filesystem. by is fs-uuid, label or file.
	Search(by, what string) (fs string, ok bool)
	// Has tells whether a name is one of a filesystem.
	Has(fs string) bool
	ReadFile(fs, name string) ([]byte, error)
	// List gives the names in a folder; nil when there is none.
	List(fs, dir string) []string
}

// Entry is what GRUB would start.
type Entry struct {
	Title  string
	FS     string // filesystem of the kernel
	Kernel string // path on it
	Args   string // kernel command line, as GRUB passes it
	Initrd []File // in order
}

// File is a file on a filesystem of the world.
type File struct{ FS, Path string }

// item is a line of a menu.
type item struct {
	title, id string
	sub       bool
	body      []node
	args      []string // positional ones of its body
}

// maxSteps bounds loops; a configuration of a real system takes some hundred.
const maxSteps = 200_000

// maxWords bounds what the words of one command grow to: a variable may double
// itself in a loop.
const maxWords = 1 << 20

var errSteps = errors.New("it does not come to an end")

// grub is one run of a configuration.
type grub struct {
	w     World
	home  string // filesystem of the configuration
	vars  map[string]string
	funcs map[string][]node
	menu  *[]item
	args  []string
	steps int
	deep  int
	entry Entry
}

// features that the GRUB versions of today have; configurations ask for them.
var features = []string{"feature_chainloader_bpb", "feature_ntldr", "feature_platform_search_hint", "feature_default_font_path",
	"feature_all_video_module", "feature_menuentry_id", "feature_menuentry_options", "feature_200_final", "feature_timeout_style"}

// Default runs the configuration at name on the filesystem fs and returns the
// entry that would start with nobody at the keyboard. platform is "pc" or
// "efi".
func Default(w World, fs, name, platform string) (*Entry, error) {
	cpu := map[string]string{"pc": "i386", "efi": "x86_64"}[platform]
	var menu []item
	g := &grub{w: w, home: fs, funcs: map[string][]node{}, menu: &menu, vars: map[string]string{
		"root": fs, "prefix": "(" + fs + ")" + path.Dir(name), "grub_platform": platform, "grub_cpu": cpu}}
	for _, f := range features {
		g.vars[f] = "y"
	}
	if err := g.source("(" + fs + ")" + name); err != nil {
		return nil, err
	}
	return g.choose(g.vars["default"])
}

// choose runs an entry by number, id or title; ">" goes into submenus.
func (g *grub) choose(def string) (*Entry, error) {
	for range maxDepth {
		menu := *g.menu
		if len(menu) == 0 {
			return nil, errors.New("GRUB's configuration has no entry")
		}
		first, rest := splitDefault(def)
		it := pick(menu, first)
		g.args = it.args
		if it.sub {
			var below []item
			g.menu = &below
		} else {
			g.entry = Entry{Title: it.title}
		}
		g.vars["chosen"] = it.title
		if _, err := g.run(it.body); err != nil {
			return nil, err
		}
		if !it.sub {
			if g.entry.Kernel == "" {
				return nil, fmt.Errorf("GRUB's default entry %q starts no Linux", it.title)
			}
			return &g.entry, nil
		}
		def = rest
	}
	return nil, errSteps
}

// splitDefault cuts the first step off a path; ">>" is the character itself.
func splitDefault(s string) (first, rest string) {
	for i := 0; i < len(s); i++ {
		if s[i] != '>' {
			continue
		}
		if i+1 < len(s) && s[i+1] == '>' {
			i++
			continue
		}
		return strings.ReplaceAll(s[:i], ">>", ">"), s[i+1:]
	}
	return strings.ReplaceAll(s, ">>", ">"), ""
}

// pick is what GRUB takes: a number, else an id or title, else the first.
func pick(menu []item, what string) item {
	n := 0
	digits := what != ""
	for _, c := range what {
		if c < '0' || c > '9' || n > len(menu) {
			digits = false
			break
		}
		n = n*10 + int(c-'0')
	}
	if digits && n < len(menu) {
		return menu[n]
	}
	for _, it := range menu {
		if what != "" && (it.id == what || it.title == what) {
			return it
		}
	}
	return menu[0]
}

// source runs another file in the same menu.
func (g *grub) source(name string) error {
	fs, p := g.locate(name)
	b, err := g.w.ReadFile(fs, p)
	if err != nil {
		return fmt.Errorf("read GRUB's configuration: %w", err)
	}
	list, err := parse(string(b))
	if err != nil {
		return err
	}
	_, err = g.run(list)
	return err
}

// locate splits "(fs)/path". A device by GRUB's own numbers cannot be known
// here: configurations name one only as a hint before they search.
func (g *grub) locate(name string) (fs, p string) {
	fs, p = g.vars["root"], name
	if rest, ok := strings.CutPrefix(name, "("); ok {
		if f, q, ok := strings.Cut(rest, ")"); ok {
			fs, p = f, q
		}
	}
	if !g.w.Has(fs) {
		fs = g.home
	}
	return fs, path.Clean("/" + p)
}

// run runs commands and returns the status of the last: 0 is true.
func (g *grub) run(list []node) (status int, err error) {
	if g.deep++; g.deep > maxDepth {
		return 1, errSteps
	}
	defer func() { g.deep-- }()
	for i := range list {
		if status, err = g.one(&list[i]); err != nil {
			return status, err
		}
	}
	return status, nil
}

func (g *grub) one(n *node) (int, error) {
	if g.steps++; g.steps > maxSteps {
		return 1, errSteps
	}
	switch n.kind {
	case "if":
		for i, c := range n.conds {
			st, err := g.run(c)
			if err != nil {
				return 1, err
			}
			if st == 0 {
				return g.run(n.then[i])
			}
		}
		return g.run(n.other)
	case "while", "until":
		for {
			st, err := g.run(n.conds[0])
			if err != nil || (st == 0) != (n.kind == "while") {
				return 0, err
			}
			if _, err := g.run(n.body); err != nil {
				return 1, err
			}
		}
	case "for":
		for _, v := range g.expand(n.words[2:]) {
			g.vars[strings.Join(g.expand(n.words[:1]), "")] = v
			if _, err := g.run(n.body); err != nil {
				return 1, err
			}
		}
		return 0, nil
	}
	return g.command(n)
}

// expand makes words of the values of variables. One outside of quotes is
// split at its blanks, and is no word at all when it is empty.
func (g *grub) expand(words []word) []string {
	var out []string
	room := maxWords
	for _, w := range words {
		cur, any := "", false
		for _, p := range w {
			if room -= len(p.text) + len(g.value(p.name)) + 1; room < 0 {
				g.steps = maxSteps // the next step ends it
				return out
			}
			if p.name == "" {
				cur, any = cur+p.text, true
				continue
			}
			if p.name == "@" || p.name == "*" {
				if len(g.args) > 0 {
					out = append(out, g.args[:len(g.args)-1]...)
					cur, any = cur+g.args[len(g.args)-1], true
				}
				continue
			}
			v := g.value(p.name)
			if p.quoted {
				cur, any = cur+v, true
				continue
			}
			f := strings.Fields(v)
			for i, x := range f {
				if i > 0 {
					out, cur = append(out, cur), ""
				}
				cur, any = cur+x, true
			}
		}
		if any {
			out = append(out, cur)
		}
	}
	return out
}

func (g *grub) value(name string) string {
	if name == "#" {
		return fmt.Sprint(len(g.args))
	}
	if len(name) == 1 && name[0] >= '1' && name[0] <= '9' {
		if i := int(name[0] - '1'); i < len(g.args) {
			return g.args[i]
		}
		return ""
	}
	return g.vars[name]
}
