package kmod

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Kernel is where modules go. Linux is the real one.
type Kernel interface {
	// Loaded tells whether a module is there and has finished starting.
	Loaded(name string) bool
	// Insert loads a module file. A module that is there already is no error.
	Insert(path, params string) error
}

// Loader loads modules with all they need. Safe for use by several goroutines.
type Loader struct {
	Set    *Set
	Conf   *Conf // nil: no options, nothing blacklisted
	Kernel Kernel
	Log    func(format string, args ...any) // nil: silent
	DryRun bool                             // resolve and log, load nothing
}

// Load loads what a name or alias stands for, with dependencies and soft
// dependencies, params going to the named module. Of several modules that
// answer to one alias all are tried; one success is enough, because the
// others may be for other processors. Built in counts as loaded.
func (l *Loader) Load(nameOrAlias string, params ...string) error {
	mods, built, err := l.resolve(nameOrAlias)
	if err != nil {
		return err
	}
	var errs []error
	visited := map[string]error{}
	for _, m := range mods {
		if err := l.module(m, params, visited); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == len(mods) && len(built) == 0 {
		return errors.Join(errs...)
	}
	for _, e := range errs {
		l.logf("%v", e)
	}
	return nil
}

// resolve adds to Set.Resolve what modprobe.d says: its aliases come first,
// and its blacklist holds for aliases only, as with kmod.
func (l *Loader) resolve(name string) (mods, built []string, err error) {
	if l.Conf == nil {
		return l.Set.Resolve(name)
	}
	n := normAlias(name)
	for _, a := range l.Conf.Aliases {
		if Fnmatch(a.Pattern, n) {
			mods = append(mods, a.Module)
		}
	}
	if len(mods) == 0 {
		mods, built, err = l.Set.Resolve(name)
	}
	if len(mods) == 1 && mods[0] == Name(name) {
		return mods, built, err
	}
	kept := slices.DeleteFunc(slices.Clone(mods), func(m string) bool { return l.Conf.Blacklist[m] })
	if len(kept) == 0 && len(mods) > 0 && len(built) == 0 {
		return nil, nil, fmt.Errorf("module %s: %s: %w", name, strings.Join(mods, ", "), ErrBlacklisted)
	}
	return kept, built, err
}

// module loads one module after what it needs. Visited holds what came of
// each module in this call: nothing is tried twice, and a circle of soft
// dependencies ends.
func (l *Loader) module(name string, params []string, visited map[string]error) error {
	if err, ok := visited[name]; ok {
		return err
	}
	visited[name] = nil
	err := l.module1(name, params, visited)
	visited[name] = err
	return err
}

func (l *Loader) module1(name string, params []string, visited map[string]error) error {
	if l.Set.Builtin(name) || l.Kernel.Loaded(name) {
		return nil
	}
	m, ok := l.Set.Lookup(name)
	if !ok {
		return fmt.Errorf("module %s: %w", name, ErrUnknown)
	}
	if l.Conf != nil && l.Conf.Blocked[name] {
		return fmt.Errorf("module %s: loading is switched off by an install line in modprobe.d", name)
	}
	for _, d := range slices.Backward(m.Deps) {
		if err := l.module(d, nil, visited); err != nil {
			return fmt.Errorf("module %s needs %s: %w", name, d, err)
		}
	}
	soft := l.Set.softs(name, l.Conf)
	l.softs(name, soft.Pre, visited)
	if err := l.insert(m, params); err != nil {
		return err
	}
	l.softs(name, soft.Post, visited)
	return nil
}

func (l *Loader) insert(m Module, params []string) error {
	var p []string
	if l.Conf != nil {
		p = append(p, l.Conf.Options[m.Name]...)
	}
	p = append(p, params...)
	opt := strings.Join(p, " ")
	l.logf("insmod %s %s", m.Path, opt)
	if l.DryRun {
		return nil
	}
	if err := l.Kernel.Insert(filepath.Join(l.Set.Dir, m.Path), opt); err != nil {
		return fmt.Errorf("loading module %s: %w", m.Name, err)
	}
	return nil
}

// softs loads soft dependencies: whatever goes wrong is only worth a line.
func (l *Loader) softs(of string, names []string, visited map[string]error) {
	for _, n := range names {
		mods, _, err := l.resolve(n)
		for _, m := range mods {
			if e := l.module(m, nil, visited); e != nil {
				err = e
			}
		}
		if err != nil {
			l.logf("soft dependency of %s: %v", of, err)
		}
	}
}

func (l *Loader) logf(f string, a ...any) {
	if l.Log != nil {
		l.Log(f, a...)
	}
}

// Linux loads into the running kernel.
type Linux struct{ Sys string } // Sys: where sysfs is; empty means /sys

// Loaded looks into /sys/module. What is still starting counts as not there:
// inserting it again waits for it.
func (k Linux) Loaded(name string) bool {
	sys := k.Sys
	if sys == "" {
		sys = "/sys"
	}
	b, err := os.ReadFile(filepath.Join(sys, "module", Name(name), "initstate"))
	return err == nil && strings.TrimSpace(string(b)) == "live"
}

// Insert hands a plain file to the kernel by descriptor and a compressed one
// unpacked, since not every kernel unpacks.
func (Linux) Insert(path, params string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	magic := make([]byte, 4)
	if _, err := f.ReadAt(magic, 0); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	err = unix.ENOSYS
	if string(magic) == elf.ELFMAG {
		err = unix.FinitModule(int(f.Fd()), params, 0)
	}
	if err == unix.ENOSYS {
		var b []byte
		if b, err = ReadModule(path); err == nil {
			err = unix.InitModule(b, params)
		}
	}
	return explain(err, path)
}

// explain says in words what the kernel's number means here.
func explain(err error, path string) error {
	switch err {
	case nil, unix.EEXIST:
		return nil
	case unix.ENOEXEC:
		return fmt.Errorf("%s: made for another kernel or damaged (%w); the kernel log says more", path, err)
	case unix.ENOENT:
		return fmt.Errorf("%s: a symbol it needs or one of its parameters is unknown (%w); the kernel log says more", path, err)
	case unix.EKEYREJECTED, unix.EPERM:
		return fmt.Errorf("%s: refused by the kernel: not signed by a trusted key, or loading is locked (%w)", path, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}
