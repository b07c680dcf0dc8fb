package plan

import (
	"slices"

	"lifeboat/manifest"
)

// Stages in the order in which they run; recover --from and --to name them.
var Stages = []Stage{StageRelease, StageStorage, StageMount, StageRestore, StageAdapt, StageBootloader, StageFinish}

// stepper collects steps; made tells for each node which step makes its
// device.
type stepper struct {
	k    *maker
	made map[manifest.ID]string
}

func (s *stepper) add(st Step) string {
	st.ID = string(st.Verb)
	if st.Node != "" {
		st.ID += "/" + string(st.Node)
	}
	if st.Arg != "" {
		st.ID += "/" + st.Arg
	}
	s.k.p.Steps = append(s.k.p.Steps, st)
	return st.ID
}

// makeSteps lists what is done, in an order in which it can be done.
func (k *maker) makeSteps() {
	if !slices.ContainsFunc(k.p.Target.Mounts, func(mt manifest.Mount) bool { return mt.Path == "/" }) {
		return // refused: there is no root to build for
	}
	s := &stepper{k: k, made: map[manifest.ID]string{}}
	s.storage()
	mounts := s.mounts()
	last := s.restore(mounts)
	last = s.adapt(last)
	last = s.bootloader(last)
	r := s.add(Step{Verb: VerbReport, Stage: StageFinish, After: last, Again: AgainRun, Fatal: true})
	s.add(Step{Verb: VerbUnmount, Stage: StageFinish, After: []string{r}, Again: AgainRun, Fatal: true})
}

// storageVerbs make nodes of a kind, tables apart; a kind that is not here is
// made by the step of what it stands on.
var storageVerbs = map[manifest.Kind]Verb{
	manifest.KindPV: VerbPV, manifest.KindVG: VerbVG, manifest.KindLV: VerbLV,
	manifest.KindFS: VerbMkfs, manifest.KindSwap: VerbMkswap,
}

func (s *stepper) storage() {
	t := &s.k.p.Target
	var releases []string
	for _, d := range t.OfKind(manifest.KindDisk) {
		releases = append(releases, s.add(Step{Verb: VerbRelease, Stage: StageRelease, Node: d.ID, Again: AgainRun, Fatal: true}))
	}
	for _, d := range t.OfKind(manifest.KindDisk) {
		s.made[d.ID] = s.add(Step{Verb: VerbWipe, Stage: StageStorage, Node: d.ID, After: releases, Erases: []manifest.ID{d.ID}, Again: AgainWipe, Fatal: true})
	}
	// All tables come first: lvm is shown every physical volume of the plan, and
	// a group may have some on partitions of several disks.
	for _, n := range t.OfKind(manifest.KindTable) {
		s.made[n.ID] = s.add(Step{Verb: VerbTable, Stage: StageStorage, Node: n.ID, After: addOnce(nil, s.made[n.On[0].Node]), Again: AgainOpen, Fatal: true})
	}
	lastLV := map[manifest.ID]string{} // one volume group is changed by one step at a time
	for i := range t.Nodes {
		n := &t.Nodes[i]
		if n.Kind == manifest.KindTable {
			continue
		}
		var after []string
		for _, e := range n.On {
			after = addOnce(after, s.made[e.Node])
		}
		verb, ok := storageVerbs[n.Kind]
		if !ok {
			if n.Kind != manifest.KindDisk && len(after) > 0 {
				s.made[n.ID] = after[len(after)-1]
			}
			continue
		}
		if n.Kind == manifest.KindLV {
			after = addOnce(after, lastLV[n.On[0].Node])
		}
		id := s.add(Step{Verb: verb, Stage: StageStorage, Node: n.ID, After: after, Again: AgainOpen, Fatal: true})
		s.made[n.ID] = id
		if n.Kind == manifest.KindLV {
			lastLV[n.On[0].Node] = id
		}
	}
}

func addOnce(list []string, id string) []string {
	for _, x := range list {
		if x == id {
			return list
		}
	}
	if id == "" {
		return list
	}
	return append(list, id)
}

// mounts adds the mounts in tree order, each after its filesystem and the
// mount that its mount point lies in.
func (s *stepper) mounts() []string {
	var ids []string
	t := &s.k.p.Target
	at := map[manifest.Bytes]string{}
	for _, mt := range t.Mounts {
		if isSwap(mt) || mt.Backup == manifest.ScopeExclude {
			continue
		}
		after := addOnce(nil, s.made[mt.Node])
		after = addOnce(after, at[parentMount(at, mt.Path)])
		id := s.add(Step{Verb: VerbMount, Stage: StageMount, Node: mt.Node, Arg: mt.Path.String(), After: after, Again: AgainRun, Fatal: true})
		at[mt.Path] = id
		ids = append(ids, id)
	}
	return ids
}

// parentMount is the longest mounted path that path lies in.
func parentMount(at map[manifest.Bytes]string, path manifest.Bytes) manifest.Bytes {
	best := manifest.Bytes("")
	for p := range at {
		if p != path && within(path, p) && len(p) > len(best) {
			best = p
		}
	}
	return best
}

func within(path, dir manifest.Bytes) bool {
	if dir == "/" {
		return len(path) > 0 && path[0] == '/'
	}
	return path == dir || len(path) > len(dir) && path[:len(dir)] == dir && path[len(dir)] == '/'
}

func (s *stepper) restore(mounts []string) []string {
	t := &s.k.p.Target
	var bytes int64
	counted := map[manifest.ID]bool{}
	for _, mt := range t.Mounts {
		if n := t.Node(mt.Node); mt.Backup == manifest.ScopeFull && n != nil && !counted[n.ID] {
			counted[n.ID] = true
			bytes += n.Seen.Used
		}
	}
	r := s.add(Step{Verb: VerbRestore, Stage: StageRestore, After: mounts, Again: AgainPart, Fatal: true, Bytes: bytes})
	last := []string{r}
	for _, n := range t.OfKind(manifest.KindSwapFile) {
		last = append(last, s.add(Step{Verb: VerbSwapFile, Stage: StageRestore, Node: n.ID, After: []string{r}, Again: AgainRun, Fatal: true, Bytes: n.Bytes}))
	}
	return []string{s.add(Step{Verb: VerbPoints, Stage: StageRestore, After: last, Again: AgainRun, Fatal: true})}
}

// adapt rewrites identities and sees to the initramfs of each kernel: of the
// one that is started a failure stops the run, of the others it is told.
func (s *stepper) adapt(after []string) []string {
	if len(s.k.p.Cards) > 0 {
		after = []string{s.add(Step{Verb: VerbNetwork, Stage: StageAdapt, After: after, Again: AgainRun})}
	}
	last := []string{s.add(Step{Verb: VerbIDs, Stage: StageAdapt, After: after, Again: AgainRun, Fatal: true})}
	ids := last
	named := slices.ContainsFunc(s.k.m.System.Kernels, func(kn manifest.Kernel) bool { return kn.Default })
	for _, kn := range s.k.m.System.Kernels {
		if kn.Initramfs == "" {
			continue
		}
		id := s.add(Step{Verb: VerbInitramfs, Stage: StageAdapt, Arg: kn.Version, After: ids, Again: AgainRun, Fatal: kn.Default || !named})
		last = append(last[:len(last):len(last)], id)
	}
	return last
}

// bootloader installs what the host starts by, on every disk that carried
// it, and checks the whole boot path.
func (s *stepper) bootloader(after []string) []string {
	b := &s.k.m.Boot
	last := after
	if b.Loader == "grub" && b.GRUB != nil {
		var ids []string
		if b.Firmware == manifest.FirmwareUEFI {
			for _, e := range s.k.esps() {
				id := s.add(Step{Verb: VerbGRUBEFI, Stage: StageBootloader, Node: e.ID, Arg: s.k.platform(), After: after, Again: AgainRun, Fatal: true})
				// A firmware that keeps no entries still starts the file at
				// the removable path.
				ids = append(ids, id, s.add(Step{Verb: VerbNVRAM, Stage: StageBootloader, Node: e.ID, After: []string{id}, Again: AgainRun}))
			}
		}
		// A UEFI host that could start by BIOS too gets that back, but does
		// not need it.
		bios := b.Firmware == manifest.FirmwareBIOS
		for _, d := range s.k.bootDisks() {
			if bios || len(b.BIOSBoot) > 0 && slices.Contains(b.MBRCode, d.ID) && slices.Contains(b.GRUB.Platforms, biosPlatform) {
				ids = append(ids, s.add(Step{Verb: VerbGRUB, Stage: StageBootloader, Node: d.ID, Arg: biosPlatform, After: after, Again: AgainRun, Fatal: bios}))
			}
		}
		if len(ids) > 0 {
			last = ids
		}
	}
	return []string{s.add(Step{Verb: VerbBootCheck, Stage: StageBootloader, After: last, Again: AgainRun, Fatal: true})}
}
