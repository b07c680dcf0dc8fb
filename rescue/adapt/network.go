package adapt

import (
	"context"
	"fmt"
	"io/fs"
	"strings"

	"lifeboat/internal/hostconf/netconf"
	"lifeboat/plan"
	"lifeboat/report"
)

// systemdDirs hold systemd's own library, merged /usr or not.
var systemdDirs = []string{"usr/lib/systemd", "lib/systemd", "usr/lib64/systemd", "usr/lib/x86_64-linux-gnu/systemd"}

// Network lets the cards of the plan keep their captured names: files that
// find a card by its address get the new address, and where no file of the
// host says the name, a .link file does (plan.VerbNetwork).
func (a *Adapter) Network(ctx context.Context, _ plan.Step) error {
	table := netconf.Table{}
	for _, c := range a.Plan.Cards {
		if c.OldMAC != c.NewMAC {
			table[c.OldMAC] = c.NewMAC
		}
	}
	kept := map[string]bool{} // names that the host's own files give
	files, err := a.globs(netconf.Files)
	if err != nil {
		return err
	}
	for _, name := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		text, err := a.networkFile(name, table)
		if err != nil {
			return err
		}
		for _, c := range a.Plan.Cards {
			if netconf.Keeps(name, text, netconf.Card{Name: c.Name, MAC: c.NewMAC}) {
				kept[c.Name] = true
			}
		}
	}
	for _, c := range a.Plan.Cards {
		if err := a.keepName(c, kept[c.Name]); err != nil {
			return err
		}
	}
	return nil
}

// globs are the files below the root that the patterns name.
func (a *Adapter) globs(patterns []string) ([]string, error) {
	var out []string
	for _, g := range patterns {
		m, err := fs.Glob(a.Root.FS.FS(), g)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", g, err)
		}
		out = append(out, m...)
	}
	return out, nil
}

// networkFile rewrites one file and returns it as it is then.
func (a *Adapter) networkFile(name string, table netconf.Table) ([]byte, error) {
	st, err := a.Root.FS.Stat(name)
	if err != nil || !st.Mode().IsRegular() || st.Size() > 16<<20 {
		return nil, nil // a dangling link is the host's own business
	}
	old, err := a.Root.FS.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("adapt: %w", err)
	}
	text, n := netconf.Rewrite(name, old, table)
	if n > 0 {
		if err := a.replaced(name, text, st.Raw.Mode&0o7777, n); err != nil {
			return nil, err
		}
	}
	return text, nil
}

// keepName writes the rule that gives one card its name.
func (a *Adapter) keepName(c plan.Card, kept bool) error {
	if c.Swapped {
		a.stale = true // an initramfs that renames cards would give the name away first
	}
	if kept || strings.ContainsAny(c.Name, "/%") {
		return nil
	}
	if others := len(a.Machine.NICs) > 1; others && netconf.KernelName(c.Name) {
		a.trouble(c, "the kernel may give the name to another card first", "look at the names of the cards after the restart, or give them others")
	}
	version, there := a.systemd()
	if !there {
		a.trouble(c, "no systemd is installed that would read a .link file", "give the card its name by the means of the restored system")
		return nil
	}
	if err := a.Root.FS.MkdirAll("etc/systemd/network", 0o755); err != nil {
		return fmt.Errorf("keep the name of a network card: %w", err)
	}
	if c.Rival != "" {
		rival := netconf.RivalLink(netconf.Card{Name: c.Name}, c.Rival, version)
		if err := a.Root.FS.WriteFile(netconf.RivalPath(c.Name), rival, 0o644); err != nil {
			return fmt.Errorf("keep a network card from another one's name: %w", err)
		}
	}
	name := netconf.LinkPath(c.Name)
	if err := a.Root.FS.WriteFile(name, netconf.Link(netconf.Card{Name: c.Name, MAC: c.NewMAC, Driver: c.Driver}, version), 0o644); err != nil {
		return fmt.Errorf("keep the name of a network card: %w", err)
	}
	a.Sink.Emit(report.Event{Kind: report.Note, Text: fmt.Sprintf("/%s: the card %s is %s from now on", name, c.NewMAC, c.Name)})
	return nil
}

func (a *Adapter) trouble(c plan.Card, why, next string) {
	p := report.Problem{Code: report.CodeNetwork, Severity: report.Warning, Object: c.Name, Next: next,
		Text: fmt.Sprintf("the network card %s may not be called %s in the restored system: %s", c.NewMAC, c.Name, why)}
	a.Sink.Emit(report.Event{Kind: report.Trouble, Text: p.Text, Problem: &p})
}

// systemd is the version of the restored system's; 0 when it does not tell.
func (a *Adapter) systemd() (version int, there bool) {
	for _, d := range systemdDirs {
		entries, err := fs.ReadDir(a.Root.FS.FS(), d)
		if err != nil {
			continue
		}
		there = true
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if v := netconf.Systemd(names); v > 0 {
			return v, true
		}
	}
	return 0, there
}
