package kmod

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Closure is a set of modules that holds everything its members need.
type Closure struct {
	Modules []Module // what is needed stands before what needs it
	Builtin []string // wanted, and part of the kernel itself
	Missing []string // optional names and soft dependencies that nothing answers to, or whose file is gone
}

// Has tells whether a module is in the closure, in any spelling.
func (c Closure) Has(name string) bool {
	n := Name(name)
	return slices.ContainsFunc(c.Modules, func(m Module) bool { return m.Name == n }) || slices.Contains(c.Builtin, n)
}

// Closure collects names (or aliases: all modules that match) with their
// dependencies and soft dependencies, depth first. A required name that
// nothing answers to, a needed module that is not listed, or one that is
// listed but whose file is absent is an error that names it. Optional names
// and soft dependencies may be missing: they are listed. A nil conf is empty.
func (s *Set) Closure(required, optional []string, conf *Conf) (Closure, error) {
	w := &walk{s: s, conf: conf, state: map[string]error{}, missing: map[string]bool{}, built: map[string]bool{}}
	var errs []error
	for _, n := range required {
		if err := w.name(n); err != nil {
			errs = append(errs, err)
		}
	}
	for _, n := range optional {
		if err := w.name(n); err != nil {
			w.missing[n] = true
		}
	}
	w.out.Missing = keys(w.missing)
	w.out.Builtin = keys(w.built)
	return w.out, errors.Join(errs...)
}

func keys(m map[string]bool) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

type walk struct {
	s              *Set
	conf           *Conf
	state          map[string]error // visited, and what came of it
	missing, built map[string]bool
	out            Closure
}

// name adds whatever a name or alias stands for. An alias is there when at
// least one of its modules is.
func (w *walk) name(n string) error {
	mods, built, err := w.s.Resolve(n)
	if err != nil {
		return err
	}
	for _, b := range built {
		w.built[b] = true
	}
	var errs []error
	for _, m := range mods {
		if err := w.module(m); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == len(mods) && len(built) == 0 {
		return errors.Join(errs...)
	}
	for _, e := range errs {
		w.missing[e.Error()] = true
	}
	return nil
}

// module adds one module after all it needs. A circle (soft dependencies may
// form one) ends at the module that is being visited.
func (w *walk) module(name string) error {
	if err, seen := w.state[name]; seen {
		return err
	}
	w.state[name] = nil
	m := w.s.mods[name]
	if m == nil {
		if w.s.builtin[name] {
			w.built[name] = true
			return nil
		}
		if p := w.s.outside[name]; p != "" {
			return w.fail(name, fmt.Errorf("module %s lies outside the module folder, in %.200s; it is not packed", name, p))
		}
		return w.fail(name, fmt.Errorf("module %s is needed but not listed in modules.dep; run depmod for this kernel", name))
	}
	if w.s.statErr != nil {
		if err := w.s.statErr(m); err != nil {
			return w.fail(name, fmt.Errorf("module %s is listed in modules.dep but its file is absent: %w; reinstall the kernel's modules or run depmod", name, err))
		}
	}
	soft := w.s.softs(name, w.conf)
	w.softs(soft.Pre)
	for _, d := range slices.Backward(m.Deps) {
		if err := w.module(d); err != nil {
			return w.fail(name, fmt.Errorf("module %s: %w", name, err))
		}
	}
	w.out.Modules = append(w.out.Modules, *m)
	w.softs(soft.Post)
	w.softs(soft.Loose)
	w.softs(w.s.weak[name])
	return nil
}

func (w *walk) fail(name string, err error) error {
	w.state[name] = err
	return err
}

func (w *walk) softs(names []string) {
	for _, n := range names {
		if err := w.name(n); err != nil {
			w.missing[n] = true
		}
	}
}

// softs joins the soft dependencies of the module itself and of modprobe.d.
func (s *Set) softs(name string, conf *Conf) Soft {
	a := s.soft[name]
	if conf == nil {
		return a
	}
	b := conf.Soft[name]
	return Soft{slices.Concat(a.Pre, b.Pre), slices.Concat(a.Post, b.Post), slices.Concat(a.Loose, b.Loose)}
}

// Index writes the index files for some of the modules, by file name: what an
// image needs that holds only these. Rename, if not nil, gives the path in the
// image of a listed path (a module packed without its compression). The
// folder's own builtin files are kept whole.
func (s *Set) Index(mods []Module, rename func(string) string) map[string][]byte {
	if rename == nil {
		rename = func(p string) string { return p }
	}
	in := map[string]bool{}
	for _, m := range mods {
		in[m.Name] = true
	}
	var dep bytes.Buffer
	for _, n := range s.order {
		if !in[n] {
			continue
		}
		m := s.mods[n]
		dep.WriteString(rename(m.Path) + ":")
		for _, d := range m.Deps {
			if dm := s.mods[d]; dm != nil {
				dep.WriteString(" " + rename(dm.Path))
			}
		}
		dep.WriteByte('\n')
	}
	out := map[string][]byte{
		"modules.dep":     dep.Bytes(),
		"modules.alias":   keepLines(s.raw.Alias, in, -1),
		"modules.symbols": keepLines(s.raw.Symbols, in, -1),
		"modules.softdep": keepLines(s.raw.Softdep, in, 1),
	}
	if s.raw.Builtin != nil {
		out["modules.builtin"] = s.raw.Builtin
	}
	if s.raw.BuiltinModinfo != nil {
		out["modules.builtin.modinfo"] = s.raw.BuiltinModinfo
	}
	return out
}

// keepLines keeps the lines whose field (-1: the last) names one of the
// modules.
func keepLines(text []byte, in map[string]bool, field int) []byte {
	var out bytes.Buffer
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		i := field
		if i < 0 {
			i = len(f) - 1
		}
		if i > 0 && i < len(f) && f[0] != "#" && in[Name(f[i])] {
			out.WriteString(line)
		}
	}
	return out.Bytes()
}
