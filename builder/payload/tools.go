package payload

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"lifeboat/plan"
	"lifeboat/report"
)

// ToolWish says which programs an image gets.
type ToolWish struct {
	Needs    []plan.ToolNeed // of the plan: missing is an error
	Programs []string        // by the user: missing is an error
	Copy     []string        // files and folders by the user
}

// AddTools packs the programs: exactly what the plan needs, what the user
// names; as far as the host has them what a plan for a newer backup may need,
// basics, an editor and diagnostics.
func (p *Packer) AddTools(w ToolWish) error {
	var errs []error
	for _, n := range w.Needs {
		if err := p.Program(n.Name, n.Name); err != nil {
			errs = append(errs, report.Errorf(report.CodeToolMissing, "install it on this host and build again",
				"%s, which the step %s needs, cannot be packed: %w", n.Name, n.Step, err))
		}
	}
	for _, n := range w.Programs {
		if err := p.Program(n, n); err != nil {
			errs = append(errs, report.Errorf(report.CodeConfig, "install it, or take it out of programs:", "programs: %w", err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	may, _ := plan.MayNeed()
	seen := map[string]bool{} // what is broken is said once
	for _, n := range slices.Concat(basics, diagnostics, may) {
		if !seen[n] {
			p.optional(n)
		}
		seen[n] = true
	}
	p.editor()
	if err := p.Aliases(); err != nil {
		return err
	}
	if err := p.Copy(w.Copy); err != nil {
		return err
	}
	return p.Opened()
}

// optional packs a program if it is there and whole. A broken one was broken
// on the host already: said, not fatal.
func (p *Packer) optional(name string) {
	err := p.Program(name, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.Problems = append(p.Problems, report.Problem{Code: report.CodeToolMissing, Severity: report.Warning, Object: name,
			Text: fmt.Sprintf("%s is left out: %v", name, err)})
	}
}

// editor packs the first editor that is there. Vi always names it: fingers
// type nothing else at night.
func (p *Packer) editor() {
	for _, n := range editors {
		at := p.Host.Program(n)
		if at == "" || p.Program(n, "editor") != nil {
			continue
		}
		if !p.Tree.Has("usr/bin/vi") {
			_ = p.Tree.Link("usr/bin/vi", at, "editor")
		}
		return
	}
}

// HasProgram tells whether the tree holds a program of this name in one of
// the folders that PATH names.
func (t *Tree) HasProgram(name string) bool {
	for _, d := range binDirs {
		if e := t.Resolve(d + "/" + name); e != nil && e.Mode.IsRegular() {
			return true
		}
	}
	return false
}

// reserved are names that only the rescue base may carry: the kernel calls
// modprobe by name and ours knows the packed modules; reboot and poweroff must
// reach our PID 1, not the host's.
var reserved = []string{"init", "modprobe", "reboot", "poweroff", "halt", "shutdown", "lifeboat", "bb"}

// Reserved tells whether a program's name belongs to the rescue base.
func Reserved(name string) bool { return slices.Contains(reserved, name) }
