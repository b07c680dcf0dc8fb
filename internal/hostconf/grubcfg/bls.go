package grubcfg

import (
	"path"
	"slices"
	"strings"
)

// blscfg adds the entries of the Boot Loader Specification, as the GRUB of
// Fedora and its relatives does: newest first.
func (g *grub) blscfg() error {
	for _, fs := range []string{g.vars["boot"], g.vars["root"], g.home} {
		for _, dir := range []string{"/loader/entries", "/boot/loader/entries"} {
			if !g.w.Has(fs) {
				continue
			}
			names := slices.DeleteFunc(slices.Clone(g.w.List(fs, dir)), func(n string) bool { return !strings.HasSuffix(n, ".conf") })
			if len(names) == 0 {
				continue
			}
			slices.SortFunc(names, func(a, b string) int { return versions(b, a) })
			for _, n := range names {
				if err := g.blsEntry(fs, path.Join(dir, n)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return nil
}

// blsEntry makes one entry. Its options may name GRUB's variables, so that it
// becomes the commands that GRUB makes of it.
func (g *grub) blsEntry(fs, name string) error {
	b, err := g.w.ReadFile(fs, name)
	if err != nil {
		return err
	}
	it := item{id: strings.TrimSuffix(path.Base(name), ".conf")}
	kernel, options := "", ""
	var initrd []string
	for _, l := range strings.Split(string(b), "\n") {
		key, v, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(l, "\t", " ")), " ")
		v = strings.TrimSpace(v)
		switch key {
		case "title":
			it.title = v
		case "linux":
			kernel = v
		case "initrd":
			initrd = append(initrd, strings.Fields(v)...)
		case "options":
			options += " " + v
		}
	}
	if kernel == "" {
		return nil
	}
	text := "linux (" + fs + ")" + kernel + options + "\n"
	for _, i := range initrd {
		if strings.HasPrefix(i, "$") {
			text += "initrd " + i + "\n" // $tuned_initrd, mostly empty
			continue
		}
		text += "initrd (" + fs + ")" + i + "\n"
	}
	if it.body, err = parse(text); err != nil {
		return err
	}
	it.args = []string{it.title}
	*g.menu = append(*g.menu, it)
	return nil
}

// versions compares texts with numbers in them by the numbers' values.
func versions(a, b string) int {
	digit := func(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }
	for a != "" && b != "" {
		m, n := digit(a), digit(b)
		if m > 0 && n > 0 {
			x, y := strings.TrimLeft(a[:m], "0"), strings.TrimLeft(b[:n], "0")
			if len(x) != len(y) {
				return len(x) - len(y)
			}
			if c := strings.Compare(x, y); c != 0 {
				return c
			}
			a, b = a[m:], b[n:]
			continue
		}
		if a[0] != b[0] {
			return int(a[0]) - int(b[0])
		}
		a, b = a[1:], b[1:]
	}
	return len(a) - len(b)
}
