package plan

import (
	"fmt"

	"lifeboat/manifest"
	"lifeboat/report"
)

// maker holds what the parts of Make hand to each other. Each part reads the
// input and the fields of the parts before it, and writes its own.
type maker struct {
	in   Input
	m    *manifest.Manifest
	g    *manifest.Storage // as captured
	mach *manifest.Machine
	p    *Plan

	sum  string // digest of the manifest
	mend *Mend  // of a repair

	// scope
	need  map[manifest.ID]bool     // captured disks that are rebuilt
	kept  map[manifest.ID]bool     // nodes that are rebuilt
	empty map[manifest.Bytes]bool  // mounts that come back without their files
	gone  map[manifest.Bytes]bool  // mounts whose loss was accepted
	lost  map[manifest.ID][]string // per needed disk: what is in no backup

	// match
	to map[manifest.ID]match
}

// match is the place of one captured disk.
type match struct {
	disk *manifest.MachineDisk
	rule Rule
	why  string
}

// Make makes the plan. It never fails: what stands in the way is in
// Plan.Refusals, and then nothing may be written.
func Make(in Input) *Plan {
	p := &Plan{Format: Format, Target: manifest.Storage{Nodes: []manifest.Node{}, Mounts: []manifest.Mount{}},
		Assignments: []Assignment{}, Steps: []Step{}, Erased: []DiskRef{}, Untouched: []DiskRef{}}
	k := &maker{in: in, m: in.Manifest, mach: in.Machine, p: p, to: map[manifest.ID]match{}}
	if k.mach == nil {
		k.mach = &manifest.Machine{}
	}
	if k.usable() {
		k.scope()
		k.matchDisks()
		k.makeTarget()
		k.shrink()
		k.assign()
		k.checkSizes()
		k.checkLVM()
		k.checkBoot()
		k.checkLiving()
		k.matchCards()
		k.makeSteps()
		k.makeNeeds()
		k.checkNeeds()
		k.makeRenames()
	}
	k.listDisks()
	p.ID = k.id()
	for i := range p.Assignments {
		a := &p.Assignments[i]
		c := k.to[a.Node].disk.Claim
		a.Claimed = c != nil && c.PlanID == p.ID && c.Node == a.Node
	}
	return p
}

// usable refuses a manifest that no plan can be made from.
func (k *maker) usable() bool {
	if k.m == nil {
		k.refuse(report.CodeManifest, "manifest", "give the manifest of the host", "there is no manifest")
		return false
	}
	k.p.Host, k.sum = k.m.Host.Name, k.m.Digest()
	if err := k.m.Validate(); err != nil {
		p := report.ProblemOf(err)
		p.Object = "manifest"
		k.p.Refusals = append(k.p.Refusals, p)
		return false
	}
	k.g = &k.m.Storage
	return true
}

// Refused tells whether anything stands in the way; nothing may be written
// then.
func (p *Plan) Refused() bool { return len(p.Refusals) > 0 }

// Exit is the exit code that the first refusal asks for, 0 without any.
func (p *Plan) Exit() report.Exit {
	if len(p.Refusals) == 0 {
		return report.ExitOK
	}
	return report.ExitOfCode(p.Refusals[0].Code)
}

// Err is the first refusal as an error with all others as details, or nil.
func (p *Plan) Err() error {
	if len(p.Refusals) == 0 {
		return nil
	}
	f := &report.Fault{Problem: p.Refusals[0]}
	f.Details = append([]string(nil), f.Details...)
	for _, r := range p.Refusals[1:] {
		f.Details = append(f.Details, r.Line())
	}
	return f
}

// Assigned returns the assignment of a captured disk, or nil.
func (p *Plan) Assigned(node manifest.ID) *Assignment {
	for i := range p.Assignments {
		if p.Assignments[i].Node == node {
			return &p.Assignments[i]
		}
	}
	return nil
}

// Resumable tells whether all targets carry the claim of a plan with this
// id: the first condition for opening the layers instead of making them.
func (p *Plan) Resumable() bool {
	for _, a := range p.Assignments {
		if !a.Claimed {
			return false
		}
	}
	return len(p.Assignments) > 0 && !p.Refused()
}

func (k *maker) refuse(code string, object any, next, format string, args ...any) *report.Problem {
	k.p.Refusals = append(k.p.Refusals, report.Problem{Code: code, Severity: report.Error,
		Text: fmt.Sprintf(format, args...), Next: next, Object: fmt.Sprint(object)})
	return &k.p.Refusals[len(k.p.Refusals)-1]
}

func (k *maker) warn(code string, object any, next, format string, args ...any) {
	k.p.Warnings = append(k.p.Warnings, report.Problem{Code: code, Severity: report.Warning,
		Text: fmt.Sprintf(format, args...), Next: next, Object: fmt.Sprint(object)})
}
