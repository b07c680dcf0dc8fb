package payload

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"lifeboat/report"
)

// Packer puts files of the host into a tree, with every link on the way, the
// libraries of programs and the interpreters of scripts.
type Packer struct {
	Tree     *Tree
	Host     *Host
	Loader   *Loader
	Problems []report.Problem
	Programs []string // paths in the image of the programs packed, as they are called

	libDir  string          // where the default loader looks: the folder of libc
	secrets *secretRules    // never packed unless named by the user
	noted   map[string]bool // .note.dlopen features handled
}

// NewPacker begins with the standard links and folders.
func NewPacker(h *Host) (*Packer, error) {
	p := &Packer{Tree: NewTree(), Host: h, Loader: NewLoader(h), secrets: newSecretRules(h), noted: map[string]bool{}}
	p.libDir = "/usr/" + p.Loader.lib
	return p, p.Tree.TopLinks(h)
}

// Program packs a program by name or path. One that the host lacks is
// fs.ErrNotExist; one that lacks a library on the host itself is an error and
// is left out.
func (p *Packer) Program(name, why string) error {
	at := p.Host.Program(name)
	if Reserved(path.Base(name)) {
		return report.Errorf(report.CodeConfig, "leave it out", "program %s: the rescue system brings its own", name)
	}
	if at == "" {
		return fmt.Errorf("program %s is not on this host: %w", name, fs.ErrNotExist)
	}
	if err := p.Add(at, why); err != nil {
		return err
	}
	if !slices.Contains(p.Programs, at) {
		p.Programs = append(p.Programs, at)
	}
	return nil
}

// Add packs one file or an empty folder.
func (p *Packer) Add(file, why string) error {
	canon, hops, err := p.Host.Follow(file)
	if err != nil {
		return fmt.Errorf("pack %s (%s): %w", file, why, err)
	}
	st := p.Host.lstat(canon)
	if st.mode.IsRegular() {
		// What a program needs is looked at first: a broken one is not packed.
		if err := p.needs(canon, why); err != nil {
			return err
		}
	}
	for _, l := range hops {
		if err := p.link(l, why); err != nil {
			return err
		}
	}
	switch {
	case st.mode.IsDir():
		return p.Tree.Dir(canon, st.mode.Perm(), why)
	case st.mode.IsRegular():
		return p.Tree.Add(Entry{Path: canon, Mode: st.mode.Perm(), Source: p.Host.Path(canon), Why: why})
	}
	return fmt.Errorf("pack %s (%s): neither a file nor a folder", canon, why)
}

// link packs a link. On a host whose /bin is not merged into /usr/bin its
// place changes: then its target is written absolute, and a link from the one
// to the other falls away.
func (p *Packer) link(l hop, why string) error {
	if isTopLink(l.Path) {
		return nil
	}
	at, err := p.Tree.place(l.Path)
	if err != nil {
		return err
	}
	abs, err := p.Tree.place(absTarget(l.Path, l.Target))
	if err != nil || at == abs {
		return err
	}
	target := l.Target
	if "/"+at != l.Path && !path.IsAbs(target) {
		target = "/" + abs
	}
	return p.Tree.Link(at, target, why)
}

// needs packs what an ELF program or a script cannot run without.
func (p *Packer) needs(canon, why string) error {
	if p.Tree.Get(canon) != nil {
		return nil
	}
	n, err := p.Loader.Resolve(canon)
	switch {
	case errors.Is(err, errNotELF):
		return p.script(canon, why)
	case err != nil:
		return fmt.Errorf("pack %s (%s): %w", canon, why, err)
	case len(n.Missing) > 0:
		m := n.Missing[0]
		return report.Errorf(report.CodeToolMissing, "repair it on this host, or leave it out",
			"%s (%s): library %s, needed by %s, is not found on this host", canon, why, m.Lib, m.By)
	}
	if n.Interp != "" {
		if err := p.Add(n.Interp, why); err != nil {
			return err
		}
	}
	for _, l := range n.Libs {
		if err := p.library(l, why); err != nil {
			return err
		}
	}
	return p.opened(n, why)
}

// library packs a library that the loader finds. One that only ld.so.conf
// leads to also gets a link in the default folder: there is no ld.so.cache in
// the image.
func (p *Packer) library(l Lib, why string) error {
	canon, hops, err := p.Host.Follow(l.Path)
	if err != nil {
		return err
	}
	for _, h := range hops {
		if err := p.link(h, why); err != nil {
			return err
		}
	}
	if err := p.Tree.Add(Entry{Path: canon, Mode: p.Host.lstat(canon).mode.Perm(), Source: p.Host.Path(canon), Why: why}); err != nil {
		return err
	}
	if l.Conf {
		return p.Tree.Link(path.Join(p.libDir, l.Name), l.Path, why)
	}
	return nil
}

// Library packs a library by name, with its own, as a program like the given
// one would open it. One that is not there is fs.ErrNotExist.
func (p *Packer) Library(name string, like *object, why string) error {
	l, err := p.Loader.Find(name, like)
	if err != nil {
		return fmt.Errorf("library %s (%s): %w", name, why, fs.ErrNotExist)
	}
	if err := p.Add(l.Path, why); err != nil {
		return err
	}
	return p.library(l, why)
}

// opened follows .note.dlopen: libraries that a program says it opens while
// it runs. Suggested ones are for features that a recovery does not use.
func (p *Packer) opened(n Needs, why string) error {
	for _, note := range n.Opened {
		key := note.Feature + "\x00" + strings.Join(note.Soname, " ")
		if note.Priority == "suggested" || p.noted[key] {
			continue
		}
		p.noted[key] = true
		for _, so := range note.Soname {
			err := p.Library(so, n.File, why+", "+note.Feature)
			if err == nil {
				break
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// script packs the interpreter that a script's first line names.
func (p *Packer) script(canon, why string) error {
	interp, arg, err := shebang(p.Host.Path(canon))
	if err != nil || interp == "" {
		return err
	}
	if err := p.Add(interp, why); err != nil {
		return fmt.Errorf("%s: its interpreter: %w", canon, err)
	}
	name := path.Base(interp)
	if name == "env" && arg != "" {
		name = path.Base(arg)
		if err := p.Program(arg, why); err != nil {
			return fmt.Errorf("%s: its interpreter: %w", canon, err)
		}
	}
	for _, big := range []string{"perl", "python", "ruby", "node"} {
		if strings.HasPrefix(name, big) {
			p.Problems = append(p.Problems, report.Problem{Code: report.CodeToolMissing, Severity: report.Warning, Object: canon,
				Text: fmt.Sprintf("%s is a %s script: the interpreter is packed, its libraries are not followed", canon, big),
				Next: "name the folders that it needs in copy:"})
		}
	}
	return nil
}

// shebang reads the first line of a script: interpreter and the program that
// env is to start. Both are empty for files of other kinds.
func shebang(file string) (interp, arg string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	head := make([]byte, 256)
	n, _ := f.Read(head)
	interp, arg = parseShebang(head[:n])
	return interp, arg, nil
}

func parseShebang(head []byte) (interp, arg string) {
	if !bytes.HasPrefix(head, []byte("#!")) {
		return "", ""
	}
	line, _, _ := bufio.NewReader(bytes.NewReader(head[2:])).ReadLine()
	f := strings.Fields(string(line))
	if len(f) == 0 || !path.IsAbs(f[0]) {
		return "", ""
	}
	// env -S splits, and may set variables before the program.
	for _, w := range f[1:] {
		if !strings.HasPrefix(w, "-") && !strings.Contains(w, "=") {
			return f[0], w
		}
	}
	return f[0], ""
}

// Aliases packs every link in the folders of programs that leads to a
// packed program: vgcreate → lvm, mkfs.ext4 → mke2fs.
func (p *Packer) Aliases() error {
	for _, d := range binDirs {
		for _, f := range p.Host.Glob(d + "/*") {
			st := p.Host.lstat(f)
			if st.err != nil || st.mode.Type() != fs.ModeSymlink || Reserved(path.Base(f)) || p.Tree.Get(f) != nil {
				continue
			}
			canon, hops, err := p.Host.Follow(f)
			if e := p.Tree.Get(canon); err != nil || e == nil || !e.Mode.IsRegular() {
				continue
			}
			for _, l := range hops {
				if err := p.link(l, "alias of "+canon); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
