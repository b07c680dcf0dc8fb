// Package kmod knows kernel modules: modules.dep, alias, softdep and builtin,
// closures, module information, and loading them (builder, modprobe, rescue,
// adapt).
// Level 1: imports level 0 only.
package kmod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
)

// ErrUnknown says that neither a module nor an alias nor anything built in
// answers to a name.
var ErrUnknown = errors.New("no module or alias of this name")

// ErrBlacklisted says that all modules that answer to an alias are blacklisted.
var ErrBlacklisted = errors.New("blacklisted by modprobe.d or the kernel command line")

// Module is one line of modules.dep.
type Module struct {
	Name string   // normalised: underscores only
	Path string   // below the module folder, as listed: kernel/fs/ext4/ext4.ko.xz
	Deps []string // normalised names of everything it needs, in the order of the file: the last is loaded first
}

// Soft are the soft dependencies of one module: names or aliases.
type Soft struct {
	Pre, Post []string
	Loose     []string // listed without "pre:" or "post:"; kmod never loads them, closures pack them
}

// Files are the raw indexes of one kernel's module folder. Only Dep is needed.
type Files struct {
	Dep, Alias, Symbols, Softdep, Weakdep, Builtin, BuiltinModinfo []byte
}

// Set is everything known about the modules of one kernel. Safe for use by
// several goroutines.
type Set struct {
	Dir string // folder it was opened from; empty for one made from Files

	mods    map[string]*Module
	order   []string // names in the order of modules.dep
	builtin map[string]bool
	outside map[string]string // modules elsewhere on the host: name → path
	soft    map[string]Soft
	weak    map[string][]string

	raw      Files
	aliases  lazyIndex
	symbols  lazyIndex
	builtins lazyIndex // aliases of what is built in

	statErr func(m *Module) error // nil error: the file is there; nil func: nothing to check
}

// Name normalises a module name: hyphens and underscores are the same.
func Name(s string) string { return strings.ReplaceAll(s, "-", "_") }

// NameOfPath is the normalised module name of a .ko file, compressed or not;
// false when the file name is not one of a module.
func NameOfPath(p string) (string, bool) {
	b := path.Base(p)
	for _, ext := range []string{".gz", ".xz", ".zst"} {
		b = strings.TrimSuffix(b, ext)
	}
	n, ok := strings.CutSuffix(b, ".ko")
	if !ok || n == "" {
		return "", false
	}
	return Name(n), true
}

// Folder is where the modules of a kernel release lie below root, or an error
// that names both places looked at. Root is "/" or the root of a mounted
// system.
func Folder(root, release string) (string, error) {
	if release == "" || strings.ContainsAny(release, "/\x00") || release[0] == '.' {
		return "", fmt.Errorf("modules of kernel %q: not a kernel release", release)
	}
	for _, p := range []string{"usr/lib/modules", "lib/modules"} {
		d := filepath.Join(root, p, release)
		if _, err := os.Stat(filepath.Join(d, "modules.dep")); err == nil {
			return d, nil
		}
	}
	return "", fmt.Errorf("modules of kernel %s: no modules.dep in %s or %s; install the kernel's module package or run depmod",
		release, filepath.Join(root, "usr/lib/modules", release), filepath.Join(root, "lib/modules", release))
}

// Open reads the indexes of a module folder, such as /usr/lib/modules/VERSION.
// Only modules.dep must exist.
func Open(dir string) (*Set, error) {
	var f Files
	for _, e := range []struct {
		name string
		dst  *[]byte
	}{
		{"modules.dep", &f.Dep}, {"modules.alias", &f.Alias}, {"modules.symbols", &f.Symbols},
		{"modules.softdep", &f.Softdep}, {"modules.weakdep", &f.Weakdep},
		{"modules.builtin", &f.Builtin}, {"modules.builtin.modinfo", &f.BuiltinModinfo},
	} {
		b, err := os.ReadFile(filepath.Join(dir, e.name))
		if err != nil && (e.name == "modules.dep" || !errors.Is(err, fs.ErrNotExist)) {
			return nil, fmt.Errorf("module indexes: %w; run depmod for this kernel", err)
		}
		*e.dst = b
	}
	s, err := New(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	s.Dir = dir
	s.statErr = func(m *Module) error {
		_, err := os.Stat(filepath.Join(dir, m.Path))
		return err
	}
	return s, nil
}

// New makes a Set of raw index files, such as those found inside an
// initramfs.
func New(f Files) (*Set, error) {
	s := &Set{mods: map[string]*Module{}, builtin: map[string]bool{}, outside: map[string]string{}, raw: f}
	if err := s.parseDep(string(f.Dep)); err != nil {
		return nil, err
	}
	for _, line := range strings.Split(string(f.Builtin), "\n") {
		if n, ok := NameOfPath(strings.TrimSpace(line)); ok {
			s.builtin[n] = true
		}
	}
	s.soft = parseSoftdep(string(f.Softdep))
	s.weak = parseWeakdep(string(f.Weakdep))
	s.aliases.load = func() *index { return newIndex(parseAlias(string(f.Alias))) }
	s.symbols.load = func() *index { return newIndex(parseAlias(string(f.Symbols))) }
	s.builtins.load = func() *index { return newIndex(parseBuiltinModinfo(string(f.BuiltinModinfo))) }
	return s, nil
}

// lazyIndex is built at its first use: a modprobe of a plain name never pays
// for 26,000 aliases.
type lazyIndex struct {
	once sync.Once
	ix   *index
	load func() *index
}

func (l *lazyIndex) get() *index {
	l.once.Do(func() { l.ix = l.load() })
	return l.ix
}

func (s *Set) parseDep(text string) error {
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		p, deps, ok := strings.Cut(line, ":")
		name, isMod := NameOfPath(p)
		if !ok || !isMod {
			return fmt.Errorf("modules.dep line %d: %.60q is not \"file.ko: needed files\"", n, line)
		}
		// depmod's "external" folders: such modules are of no use in another
		// root, and no reason to refuse all others.
		if !fs.ValidPath(p) {
			s.outside[name] = p
			continue
		}
		if s.mods[name] != nil {
			continue // depmod lists the preferred file first
		}
		m := &Module{Name: name, Path: p}
		for d := range strings.FieldsSeq(deps) {
			dn, ok := NameOfPath(d)
			if !ok {
				return fmt.Errorf("modules.dep line %d: needed file %.60q is not a module", n, d)
			}
			m.Deps = append(m.Deps, dn)
		}
		s.mods[name] = m
		s.order = append(s.order, name)
	}
	return nil
}

// Lookup finds a module by name, in any spelling.
func (s *Set) Lookup(name string) (Module, bool) {
	m := s.mods[Name(name)]
	if m == nil {
		return Module{}, false
	}
	return *m, true
}

// Modules are all modules in the order of modules.dep.
func (s *Set) Modules() []Module {
	out := make([]Module, 0, len(s.order))
	for _, n := range s.order {
		out = append(out, *s.mods[n])
	}
	return out
}

// Builtin tells whether a module of that name is part of the kernel itself.
func (s *Set) Builtin(name string) bool { return s.builtin[Name(name)] }

// SoftOf are a module's soft dependencies.
func (s *Set) SoftOf(name string) Soft { return s.soft[Name(name)] }

// Match are the modules whose aliases match, in the order of modules.alias,
// and what is built into the kernel and matches. Modalias is a device's
// modalias or an alias such as "fs-ext4".
func (s *Set) Match(modalias string) (modules, builtin []string) {
	a := normAlias(modalias)
	if strings.HasPrefix(a, "symbol:") {
		modules = s.symbols.get().match(a)
	} else {
		modules = s.aliases.get().match(a)
	}
	return modules, s.builtins.get().match(a)
}

// Resolve finds what a name or alias stands for: a module of that name,
// else all modules whose alias matches, else what is built in. All names are
// normalised. Nothing at all is ErrUnknown.
func (s *Set) Resolve(nameOrAlias string) (modules, builtin []string, err error) {
	n := Name(nameOrAlias)
	if s.mods[n] != nil {
		return []string{n}, nil, nil
	}
	if s.builtin[n] {
		return nil, []string{n}, nil
	}
	modules, builtin = s.Match(nameOrAlias)
	if len(modules) == 0 && len(builtin) == 0 {
		return nil, nil, fmt.Errorf("module %s: %w", nameOrAlias, ErrUnknown)
	}
	return modules, builtin, nil
}
