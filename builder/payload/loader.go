package payload

import (
	"debug/elf"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
)

// Loader finds libraries as the dynamic loader of the host does, without
// starting it: RPATH and RUNPATH with $ORIGIN, $LIB and $PLATFORM,
// ld.so.conf with its includes, then the default folders. Variants for newer
// processors (glibc-hwcaps) are left alone on purpose: the rescue system must
// start on any machine.
type Loader struct {
	host *Host
	conf []string // folders of ld.so.conf
	lib  string   // what $LIB stands for

	mu   sync.Mutex
	seen map[string]parsed // by canonical path
}

type parsed struct {
	obj *object
	err error
}

// NewLoader reads the host's ld.so.conf.
func NewLoader(h *Host) *Loader {
	l := &Loader{host: h, conf: ldConf(h), seen: map[string]parsed{}, lib: "lib"}
	for _, d := range []string{"lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "lib64"} {
		if h.isFile("/usr/" + d + "/libc.so.6") {
			l.lib = d
			break
		}
	}
	return l
}

// Lib is a library that a program gets.
type Lib struct {
	Name string // as the program asks for it
	Path string // where the loader finds it, links not followed
	// Conf tells that only ld.so.conf leads to it: the loader of the rescue
	// system, which has no cache, would not find it there.
	Conf bool
}

// Missing is a library that the loader does not find.
type Missing struct {
	Lib string // name asked for
	By  string // file that asks
}

// Needs is what one program or library needs to be loaded.
type Needs struct {
	Interp  string // "" when static
	Libs    []Lib
	Missing []Missing
	Opened  []dlopenNote // of the file itself and of its libraries
	File    *object
}

// loaded is one object of a simulated process.
type loaded struct {
	obj *object
	at  string  // path as found: what $ORIGIN counts from
	by  *loaded // who asked first: its RPATH counts too
}

// object reads headers once.
func (l *Loader) object(p string) (*object, string, error) {
	c, _, err := l.host.Follow(p)
	if err != nil {
		return nil, "", err
	}
	l.mu.Lock()
	x, ok := l.seen[c]
	l.mu.Unlock()
	if !ok {
		x.obj, x.err = readELF(l.host.Path(c))
		l.mu.Lock()
		l.seen[c] = x
		l.mu.Unlock()
	}
	return x.obj, c, x.err
}

// Resolve finds all libraries of a file, breadth first as the loader does.
// errNotELF says that the file is something else.
func (l *Loader) Resolve(p string) (Needs, error) {
	main, canon, err := l.object(p)
	if err != nil {
		return Needs{}, err
	}
	n := Needs{Interp: main.Interp, File: main}
	// For a program $ORIGIN is where the file really lies.
	queue := []*loaded{{obj: main, at: canon}}
	names := map[string]bool{path.Base(main.Interp): true}
	if main.Soname != "" {
		names[main.Soname] = true
	}
	for len(queue) > 0 {
		o := queue[0]
		queue = queue[1:]
		n.Opened = append(n.Opened, o.obj.Notes...)
		for _, name := range o.obj.Needed {
			if names[name] {
				continue
			}
			names[name] = true
			lib, obj, err := l.find(name, o, main)
			if err != nil {
				n.Missing = append(n.Missing, Missing{name, o.at})
				continue
			}
			if obj.Soname != "" {
				names[obj.Soname] = true
			}
			n.Libs = append(n.Libs, lib)
			queue = append(queue, &loaded{obj, lib.Path, o})
		}
	}
	return n, nil
}

// Find looks for a library by name as dlopen in a program would.
func (l *Loader) Find(name string, like *object) (Lib, error) {
	plain := *like
	plain.Rpath, plain.Runpath = nil, nil
	lib, _, err := l.find(name, &loaded{obj: &plain, at: "/"}, &plain)
	return lib, err
}

var errNoLib = errors.New("no such library")

func (l *Loader) find(name string, o *loaded, main *object) (Lib, *object, error) {
	if strings.Contains(name, "/") {
		p := l.expand(name, o, main)
		obj, err := l.fits(p, main)
		return Lib{Name: name, Path: p}, obj, err
	}
	try := func(dirs []string, conf bool) (Lib, *object, bool) {
		for _, d := range dirs {
			p := path.Join(d, name)
			if obj, err := l.fits(p, main); err == nil {
				return Lib{name, p, conf}, obj, true
			}
		}
		return Lib{}, nil, false
	}
	if lib, obj, ok := try(l.runpaths(o, main), false); ok {
		return lib, obj, nil
	}
	def := defaultDirs(main)
	if o.obj.NoDef {
		def = nil
	}
	for _, d := range l.conf {
		known := slices.Contains(def, d)
		if o.obj.NoDef && slices.Contains(defaultDirs(main), d) {
			continue
		}
		if lib, obj, ok := try([]string{d}, !known); ok {
			return lib, obj, nil
		}
	}
	if lib, obj, ok := try(def, false); ok {
		return lib, obj, nil
	}
	return Lib{}, nil, fmt.Errorf("%s: %w", name, errNoLib)
}

// runpaths are the folders that the objects themselves name. DT_RUNPATH
// counts for the object alone and switches DT_RPATH off; DT_RPATH counts for
// everything below the object.
func (l *Loader) runpaths(o *loaded, main *object) []string {
	var out []string
	add := func(list []string, x *loaded) {
		for _, d := range list {
			// An empty element is the working folder, which never is meant.
			if d = l.expand(d, x, main); path.IsAbs(d) {
				out = append(out, path.Clean(d))
			}
		}
	}
	if len(o.obj.Runpath) > 0 {
		add(o.obj.Runpath, o)
		return out
	}
	for x := o; x != nil; x = x.by {
		add(x.obj.Rpath, x)
	}
	return out
}

func (l *Loader) expand(d string, o *loaded, main *object) string {
	if !strings.Contains(d, "$") {
		return d
	}
	platform := map[elf.Machine]string{elf.EM_X86_64: "x86_64", elf.EM_386: "i686", elf.EM_AARCH64: "aarch64"}[main.Machine]
	for k, v := range map[string]string{"ORIGIN": path.Dir(o.at), "LIB": l.lib, "PLATFORM": platform} {
		d = strings.ReplaceAll(strings.ReplaceAll(d, "${"+k+"}", v), "$"+k, v)
	}
	return d
}

// fits opens a candidate; one of another class or machine is passed over, as
// the loader does.
func (l *Loader) fits(p string, main *object) (*object, error) {
	o, _, err := l.object(p)
	if err != nil {
		return nil, err
	}
	if o.Class != main.Class || o.Machine != main.Machine {
		return nil, errNoLib
	}
	return o, nil
}

// defaultDirs are the folders that loaders search by themselves: those of
// Debian's multiarch first, then those of everybody else.
func defaultDirs(main *object) []string {
	if strings.Contains(main.Interp, "ld-musl") {
		return []string{"/lib", "/usr/local/lib", "/usr/lib"}
	}
	switch main.Machine {
	case elf.EM_X86_64:
		return []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"}
	case elf.EM_386:
		return []string{"/lib/i386-linux-gnu", "/usr/lib/i386-linux-gnu", "/lib32", "/usr/lib32", "/lib", "/usr/lib"}
	case elf.EM_AARCH64:
		return []string{"/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"}
	}
	return []string{"/lib64", "/usr/lib64", "/lib", "/usr/lib"}
}
