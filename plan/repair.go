package plan

import (
	"fmt"
	"slices"
	"strings"

	"lifeboat/manifest"
	"lifeboat/report"
)

// KindRepair is Plan.Kind of a plan that mends what starts a system and leaves
// its data alone.
const KindRepair = "repair"

// ByFound: what the disk held when it was captured still lies on it.
const ByFound Rule = "found"

// StageOpen of a repair opens what is there; its own stages are StageOpen,
// StageMount, StageAdapt, StageBootloader and StageFinish.
const StageOpen Stage = "open"

// RepairStages in the order in which they run.
var RepairStages = []Stage{StageOpen, StageMount, StageAdapt, StageBootloader, StageFinish}

// Verbs of repairs only.
const (
	VerbOpen       Verb = "open"        // no node: every disk is what the plan saw, and nothing protects it
	VerbMendTable  Verb = "mend-table"  // table: write it as captured, where its contents are found in their places
	VerbActivate   Verb = "activate"    // lv; Arg = ro for one that is not to be written
	VerbMountRO    Verb = "mount-ro"    // fs; Arg = mount point: strictly read-only
	VerbFstab      Verb = "fstab"       // no node: lines that lead nowhere
	VerbGRUBConfig Verb = "grub-config" // no node: make GRUB's configuration anew
)

// Mend is what a repair brings back, as triage found it missing.
type Mend struct {
	// Disks are the disks of this machine, by device number, on which each
	// captured disk's contents were found.
	Disks     map[manifest.ID]string `json:"disks"`
	Tables    []manifest.ID          `json:"tables,omitempty"`    // partition tables to write as captured
	MakeESPs  []manifest.ID          `json:"make_esps,omitempty"` // EFI system partitions without a filesystem
	Sectors   []manifest.ID          `json:"sectors,omitempty"`   // disks without GRUB's boot code
	ESPs      []manifest.ID          `json:"esps,omitempty"`      // EFI system partitions without boot programs
	NVRAM     []manifest.ID          `json:"nvram,omitempty"`     // EFI system partitions to enter into the firmware
	Initramfs []string               `json:"initramfs,omitempty"` // kernel versions
	Modules   bool                   `json:"modules,omitempty"`   // GRUB's modules in the installed system are not whole
	Config    bool                   `json:"config,omitempty"`
	Fstab     bool                   `json:"fstab,omitempty"`
	Renames   []Rename               `json:"renames,omitempty"` // filesystems that lie in their places under other ids
}

// Repair makes the plan of a repair. It erases nothing but EFI system
// partitions that hold no filesystem any more, and mounts for writing only
// what holds the files to be mended. It never fails: what stands in the way is
// in Plan.Refusals.
func Repair(in Input, mend Mend) *Plan {
	p := &Plan{Format: Format, Kind: KindRepair, Target: manifest.Storage{Nodes: []manifest.Node{}, Mounts: []manifest.Mount{}},
		Assignments: []Assignment{}, Steps: []Step{}, Erased: []DiskRef{}, Untouched: []DiskRef{}}
	k := &maker{in: in, m: in.Manifest, mach: in.Machine, p: p, to: map[manifest.ID]match{}, mend: &mend}
	if k.mach == nil {
		k.mach = &manifest.Machine{}
	}
	if k.usable() {
		r := &repairer{k: k, mend: mend}
		r.target()
		r.match()
		k.checkFirmware()
		r.check()
		r.steps()
		k.makeNeeds()
		k.checkNeeds()
		p.Renames = slices.Clone(mend.Renames)
	}
	k.listDisks()
	p.Erased = []DiskRef{}
	p.ID = k.id()
	return p
}

// repairer holds what the parts of Repair hand to each other.
type repairer struct {
	k    *maker
	mend Mend
}

// system are the mounts that the installed system's own programs need.
var system = []manifest.Bytes{"/", "/usr", "/boot", "/var"}

// target is the captured graph with the ids that were found, and of the
// mounts those that a repair opens.
func (r *repairer) target() {
	k, t := r.k, &r.k.p.Target
	for i := range k.g.Nodes {
		n := k.g.Nodes[i]
		n.Seen = manifest.Seen{}
		for _, x := range r.mend.Renames {
			switch {
			case x.Node != n.ID:
			case n.FS != nil:
				fs := *n.FS
				fs.UUID, n.FS = x.New, &fs
			case n.Swap != nil:
				sw := *n.Swap
				sw.UUID, n.Swap = x.New, &sw
			}
		}
		t.Nodes = append(t.Nodes, n)
	}
	for _, mt := range k.g.Mounts {
		if n := k.g.Node(mt.Node); n == nil || n.FS == nil || mt.Bind != "" {
			continue
		}
		if slices.Contains(system, mt.Path) || slices.Contains(k.m.Boot.ESPs, mt.Node) {
			t.Mounts = append(t.Mounts, mt)
		}
	}
	slices.SortStableFunc(t.Mounts, func(a, b manifest.Mount) int { return depth(a) - depth(b) })
}

// match takes the disks on which the contents were found. Only those count
// that the opened mounts and the boot code lie on.
func (r *repairer) match() {
	k := r.k
	need := map[manifest.ID]bool{}
	add := func(id manifest.ID) {
		for _, d := range k.g.Disks(id) {
			need[d.ID] = true
		}
	}
	for _, mt := range k.p.Target.Mounts {
		add(mt.Node)
	}
	for _, list := range [][]manifest.ID{r.mend.Sectors, r.mend.ESPs, r.mend.Tables} {
		for _, id := range list {
			add(id)
		}
	}
	for _, c := range k.g.OfKind(manifest.KindDisk) {
		if !need[c.ID] {
			continue
		}
		i := slices.IndexFunc(k.mach.Disks, func(d manifest.MachineDisk) bool { return d.DevNo != "" && d.DevNo == r.mend.Disks[c.ID] })
		if i < 0 {
			k.refuse(report.CodeDiskMissing, c.ID, "add the disk, or recover onto another one", "%s, which the installed system needs, is not in this machine", k.name(c.ID))
			continue
		}
		d := &k.mach.Disks[i]
		k.to[c.ID] = match{d, ByFound, "what was captured lies on it"}
		if why, chains := k.protection(d); why != "" {
			p := k.refuse(report.CodeDiskProtected, d.Name, "release it, then try again", "%s holds the installed system, but %s", diskText(ref(d)), why)
			p.Details = append(p.Details, chains...)
		}
		k.p.Assignments = append(k.p.Assignments, Assignment{Node: c.ID, Was: diskText(capturedRef(c)), Disk: ref(d), Rule: ByFound, Why: "what was captured lies on it"})
	}
}

// check refuses what this version cannot mend.
func (r *repairer) check() {
	k, b := r.k, &r.k.m.Boot
	if (len(r.mend.Sectors) > 0 || len(r.mend.ESPs) > 0 || r.mend.Config) && (b.Loader != "grub" || b.GRUB == nil) {
		k.refuse(report.CodeUnsupported, "boot loader", "install it by hand in a shell", "a boot loader of type %s cannot be installed by this version", quote(b.Loader))
	}
	for _, mt := range k.p.Target.Mounts {
		for _, n := range k.g.Below(mt.Node) {
			if why := reason(k.g, n); why != "" {
				k.refuse(report.CodeUnsupported, mt.Path, "mend it by hand in a shell", "%s cannot be opened: %s", mt.Path, why)
				break
			}
		}
	}
	for _, id := range r.mend.MakeESPs {
		if !slices.Contains(b.ESPs, id) {
			k.refuse(report.CodeManifest, id, "", "%s is no EFI system partition: it is not made again", id)
		}
	}
}

// writes tells whether a repair needs to write to a mounted filesystem.
func (r *repairer) writes(node manifest.ID) bool {
	b, m := &r.k.m.Boot, &r.mend
	initramfs := len(m.Initramfs) > 0
	switch {
	case node == b.BootFS && (m.Modules || m.Config || initramfs):
		return true
	case node == b.RootFS && (m.Fstab || initramfs || len(m.Renames) > 0):
		return true
	case slices.Contains(m.ESPs, node):
		return true
	case slices.Contains(b.ESPs, node) || node == b.BootFS:
		return len(m.Renames) > 0 // their configurations name ids
	}
	return initramfs && slices.ContainsFunc(r.k.p.Target.MountsOf(node), func(mt manifest.Mount) bool { return mt.Path == "/var" })
}

// steps lists what is done.
func (r *repairer) steps() {
	s := &stepper{k: r.k, made: map[manifest.ID]string{}}
	last := []string{s.add(Step{Verb: VerbOpen, Stage: StageOpen, Again: AgainRun, Fatal: true})}
	for _, id := range r.mend.Tables {
		last = append(last, s.add(Step{Verb: VerbMendTable, Stage: StageOpen, Node: id, After: last[:1], Again: AgainRun, Fatal: true}))
	}
	last = r.open(s, last)
	mounted := map[manifest.Bytes]string{}
	for _, mt := range r.k.p.Target.Mounts {
		verb := VerbMountRO
		if r.writes(mt.Node) {
			verb = VerbMount
		}
		after := addOnce(slices.Clone(last), mounted[parentMount(mounted, mt.Path)])
		mounted[mt.Path] = s.add(Step{Verb: verb, Stage: StageMount, Node: mt.Node, Arg: mt.Path.String(), After: after, Again: AgainRun, Fatal: true})
	}
	var mounts []string
	for _, mt := range r.k.p.Target.Mounts {
		mounts = append(mounts, mounted[mt.Path])
	}
	last = r.loader(s, r.adapt(s, mounts))
	rep := s.add(Step{Verb: VerbReport, Stage: StageFinish, After: last, Again: AgainRun})
	s.add(Step{Verb: VerbUnmount, Stage: StageFinish, After: []string{rep}, Again: AgainRun, Fatal: true})
}

// open activates the volumes of what is mounted, and makes lost EFI system
// partitions.
func (r *repairer) open(s *stepper, after []string) []string {
	last := after
	done := map[manifest.ID]bool{}
	for _, mt := range r.k.p.Target.Mounts {
		for _, n := range r.k.p.Target.Below(mt.Node) {
			if n.Kind != manifest.KindLV || done[n.ID] {
				continue
			}
			done[n.ID] = true
			arg := "ro"
			if r.writes(mt.Node) {
				arg = ""
			}
			last = append(last[:len(last):len(last)], s.add(Step{Verb: VerbActivate, Stage: StageOpen, Node: n.ID, Arg: arg, After: after, Again: AgainRun, Fatal: true}))
		}
	}
	for _, id := range r.mend.MakeESPs {
		if n := r.k.p.Target.Node(id); n == nil || n.FS == nil {
			continue // refused by check
		}
		last = append(last[:len(last):len(last)], s.add(Step{Verb: VerbMkfs, Stage: StageOpen, Node: id, After: after, Erases: []manifest.ID{id}, Again: AgainRun, Fatal: true}))
	}
	return last
}

func (r *repairer) adapt(s *stepper, after []string) []string {
	last := after
	add := func(st Step) {
		st.Stage, st.After, st.Again = StageAdapt, last, AgainRun
		last = []string{s.add(st)}
	}
	if len(r.mend.Renames) > 0 {
		add(Step{Verb: VerbIDs, Fatal: true})
	}
	if r.mend.Fstab {
		add(Step{Verb: VerbFstab, Fatal: true})
	}
	kernels := r.k.m.System.Kernels
	named := slices.ContainsFunc(kernels, func(kn manifest.Kernel) bool { return kn.Default })
	for _, v := range r.mend.Initramfs {
		main := slices.ContainsFunc(kernels, func(kn manifest.Kernel) bool { return kn.Version == v && kn.Default })
		add(Step{Verb: VerbInitramfs, Arg: v, Fatal: main || !named})
	}
	return last
}

func (r *repairer) loader(s *stepper, after []string) []string {
	var ids []string
	add := func(st Step, after []string) string {
		st.Stage, st.After, st.Again = StageBootloader, after, AgainRun
		ids = append(ids, s.add(st))
		return ids[len(ids)-1]
	}
	for _, d := range r.mend.Sectors {
		add(Step{Verb: VerbGRUB, Node: d, Arg: biosPlatform, Fatal: true}, after)
	}
	for _, e := range r.mend.ESPs {
		add(Step{Verb: VerbGRUBEFI, Node: e, Arg: r.k.platform(), Fatal: true}, after)
	}
	if r.mend.Config {
		add(Step{Verb: VerbGRUBConfig, Fatal: true}, after)
	}
	for _, e := range r.mend.NVRAM {
		add(Step{Verb: VerbNVRAM, Node: e}, append(slices.Clone(after), ids...))
	}
	last := after
	if len(ids) > 0 {
		last = ids
	}
	return []string{s.add(Step{Verb: VerbBootCheck, Stage: StageBootloader, After: last, Again: AgainRun, Fatal: true})}
}

// mendText says what a repair writes to and what it does not.
func (p *Plan) mendText(b *strings.Builder) {
	m := namer{s: &p.Target, disk: func(id manifest.ID) *DiskRef {
		if a := p.Assigned(id); a != nil {
			return &a.Disk
		}
		return nil
	}}
	var writes, reads []string
	for _, s := range p.Steps {
		switch s.Verb {
		case VerbMount:
			writes = append(writes, fmt.Sprintf("%s (mounted on %s)", m.name(s.Node), s.Arg))
		case VerbMountRO:
			reads = append(reads, fmt.Sprintf("%s (%s)", m.name(s.Node), s.Arg))
		case VerbGRUB:
			writes = append(writes, "boot code of "+m.name(s.Node))
		case VerbMendTable:
			writes = append(writes, m.name(s.Node))
		case VerbMkfs:
			writes = append(writes, m.name(s.Node)+", which holds no filesystem any more: it is made again")
		case VerbNVRAM:
			writes = append(writes, "the firmware's list of boot entries")
		}
	}
	section(b, "Will be written to", len(writes), "nothing")
	for _, w := range writes {
		fmt.Fprintf(b, "  %s\n", w)
	}
	section(b, "Will be opened read-only", len(reads), "nothing")
	for _, x := range reads {
		fmt.Fprintf(b, "  %s\n", x)
	}
	fmt.Fprint(b, "\nAll other filesystems of the system and all other disks are not opened\n")
}
