package payload

import (
	"context"
	"fmt"
	"path"
	"strings"

	"lifeboat/internal/handoff"
	"lifeboat/internal/run"
	"lifeboat/internal/tools/loadkeys"
	"lifeboat/report"
)

// debianKeymaps are what Debian's setupcon made of /etc/default/keyboard: the
// very map that the host's own consoles have.
var debianKeymaps = []string{"/etc/console-setup/cached_UTF-8_*.kmap.gz", "/etc/console-setup/cached_*.kmap.gz"}

// keymapRoots are where distributions keep console keymaps.
var keymapRoots = []string{"/usr/share/keymaps", "/usr/share/kbd/keymaps", "/usr/lib/kbd/keymaps"}

// AddKeymap packs the keyboard map of the host's consoles, ready for the
// kernel, for passphrases and names that are typed in the rescue system. The
// kernel's own map is American; one that cannot be had is a warning.
func (p *Packer) AddKeymap(ctx context.Context, r run.Runner, name string) error {
	if name == "" || name == "us" {
		return nil
	}
	file := p.keymapFile(name)
	var data []byte
	err := fmt.Errorf("no console keymap of that name is installed")
	if file != "" {
		data, err = loadkeys.Binary(ctx, r, p.Host.Path(file))
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.Problems = append(p.Problems, report.Problem{Code: report.CodeKeymap, Severity: report.Warning, Object: name,
			Text: fmt.Sprintf("the rescue system's keyboard is American, not %q: %v", name, err),
			Next: "install the packages kbd and console-setup (or your distribution's console keymaps), or type on an American keyboard there"})
		return nil
	}
	return p.Tree.File(handoff.KeymapPath, 0o644, data, "keymap")
}

// keymapFile finds the map that the host's consoles have; "" when there is
// none.
func (p *Packer) keymapFile(name string) string {
	var names []string
	for _, n := range keymapNames(name) {
		if !strings.ContainsAny(n, `/*?[\`) {
			names = append(names, n)
		}
	}
	for _, pattern := range debianKeymaps {
		if found := p.Host.Glob(pattern); len(found) > 0 {
			return found[0]
		}
	}
	for _, n := range names {
		for _, root := range keymapRoots {
			for _, depth := range []string{"", "*", "*/*", "*/*/*"} {
				for _, ext := range []string{".kmap", ".map"} {
					for _, end := range []string{"", ".gz", ".xz", ".zst", ".bz2"} {
						if found := p.Host.Glob(path.Join(root, depth, n+ext+end)); len(found) > 0 {
							return found[0]
						}
					}
				}
			}
		}
	}
	return ""
}

// keymapNames are the names that a layout may have among console keymaps: a
// layout of X11 with its variant ("de-nodeadkeys") under its own name where
// maps were made of those, else by the older ones.
func keymapNames(name string) []string {
	layout, variant, _ := strings.Cut(name, "-")
	out := []string{name}
	if variant != "" {
		out = append(out, layout+"-latin1-"+variant)
	}
	return append(out, layout+"-latin1", layout+"-latin9", layout)
}
