package plan

import (
	"fmt"
	"strings"

	"lifeboat/manifest"
	"lifeboat/report"
)

// size is a number of bytes for people.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d bytes", n)
	}
	f, i := float64(n)/(1<<10), 0
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

// diskText is a disk for people: its name now, what is printed on it, size.
func diskText(d DiskRef) string {
	var parts []string
	for _, p := range []string{d.Model, serialText(d), size(d.Bytes)} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	s := "(" + strings.Join(parts, ", ") + ")"
	if d.Name != "" {
		s = d.Name + " " + s
	}
	return s
}

// capturedRef describes a captured disk; its name then says nothing now.
func capturedRef(n *manifest.Node) DiskRef {
	return DiskRef{Model: n.Disk.Model, Serial: n.Disk.Serial, WWN: n.Disk.WWN, Bytes: n.Disk.Bytes}
}

func serialText(d DiskRef) string {
	switch {
	case d.Serial != "":
		return "serial " + d.Serial
	case d.WWN != "":
		return "WWN " + d.WWN
	}
	return "no serial"
}

// namer gives nodes names for people.
type namer struct {
	s     *manifest.Storage
	disk  func(manifest.ID) *DiskRef // the disk that took the place; nil while there is none
	depth int                        // a plan read from a file may hold a circle
}

func (k *maker) name(id manifest.ID) string {
	return namer{s: k.g, disk: func(manifest.ID) *DiskRef { return nil }}.name(id)
}

func (k *maker) names(nodes []*manifest.Node) string {
	var s []string
	for _, n := range nodes {
		s = append(s, k.name(n.ID))
	}
	return strings.Join(s, " and ")
}

func (m namer) on(n *manifest.Node) string {
	if len(n.On) == 0 || m.depth > 20 {
		return "nothing"
	}
	m.depth++
	var s []string
	for _, e := range n.On {
		s = append(s, m.name(e.Node))
	}
	return strings.Join(s, ", ")
}

func (m namer) name(id manifest.ID) string {
	n := m.s.Node(id)
	if n == nil {
		return string(id)
	}
	switch n.Kind {
	case manifest.KindDisk:
		if r := m.disk(id); r != nil {
			return diskText(*r)
		}
		return "the captured disk " + diskText(capturedRef(n))
	case manifest.KindTable:
		return tableName(n.Table) + " of " + m.on(n)
	case manifest.KindPartition:
		return fmt.Sprintf("partition %d of %s", n.Partition.Number, m.under(n))
	case manifest.KindPV:
		return "the LVM physical volume on " + m.on(n)
	case manifest.KindVG:
		return "volume group " + n.VG.Name
	case manifest.KindLV:
		vg := ""
		if len(n.On) > 0 {
			if g := m.s.Node(n.On[0].Node); g != nil && g.VG != nil {
				vg = g.VG.Name + "/"
			}
		}
		return "logical volume " + vg + n.LV.Name
	case manifest.KindFS:
		return n.FS.Type + " on " + m.on(n)
	case manifest.KindSwap:
		return "swap on " + m.on(n)
	case manifest.KindSwapFile:
		return "swap file " + n.SwapFile.Path.String()
	case manifest.KindUnknown:
		return n.Unknown.What + " on " + m.on(n)
	case manifest.KindMD:
		return strings.TrimSpace("software RAID " + n.MD.Name)
	case manifest.KindLUKS:
		return "LUKS volume on " + m.on(n)
	}
	return string(n.Kind) + " on " + m.on(n)
}

// under is the device that a partition's table stands on, as short as it is
// still clear.
func (m namer) under(n *manifest.Node) string {
	if len(n.On) != 1 {
		return m.on(n)
	}
	t := m.s.Node(n.On[0].Node)
	if t == nil || t.Kind != manifest.KindTable || len(t.On) != 1 {
		return m.on(n)
	}
	if r := m.disk(t.On[0].Node); r != nil && r.Name != "" {
		return r.Name
	}
	return m.on(t)
}

func tableName(t *manifest.Table) string {
	if t.Type == "dos" {
		return "the MBR partition table"
	}
	return "the " + strings.ToUpper(t.Type) + " partition table"
}

// Text is the step in one line, for dry run, log, screen and web page.
func (st Step) Text(target *manifest.Storage, p *Plan) string {
	m := namer{s: target, disk: func(id manifest.ID) *DiskRef {
		if p != nil {
			if a := p.Assigned(id); a != nil {
				return &a.Disk
			}
		}
		return nil
	}}
	n := target.Node(st.Node)
	if n == nil && st.Node != "" {
		return st.ID
	}
	if p != nil && p.Kind == KindRepair {
		switch st.Verb {
		case VerbReport:
			return "write the report, where a place for it is open"
		case VerbUnmount:
			return "unmount everything, and sync"
		case VerbMkfs:
			return "make " + m.name(n.ID) + " again" + purpose(target, n.ID)
		}
	}
	switch st.Verb {
	case VerbRelease:
		return "close everything that lies on " + m.name(n.ID)
	case VerbWipe:
		return "erase " + m.name(n.ID)
	case VerbTable:
		return fmt.Sprintf("write %s with %s", m.name(n.ID), plural(len(partitions(target, n.ID)), "partition", "partitions"))
	case VerbPV:
		return "make " + m.name(n.ID)
	case VerbVG:
		return fmt.Sprintf("make %s on %s", m.name(n.ID), plural(len(n.On), "physical volume", "physical volumes"))
	case VerbLV:
		return fmt.Sprintf("make %s (%s, %s)", m.name(n.ID), size(n.Bytes), n.LV.Type)
	case VerbMkfs:
		return "make " + m.name(n.ID) + purpose(target, n.ID)
	case VerbMkswap:
		return "make " + m.name(n.ID) + " (" + size(n.Bytes) + ")"
	case VerbSwapFile:
		return "make " + m.name(n.ID) + " (" + size(n.Bytes) + ")"
	case VerbMount:
		return "mount " + m.name(n.ID) + " at " + st.Arg
	case VerbMountRO:
		return "mount " + m.name(n.ID) + " read-only at " + st.Arg
	case VerbMendTable:
		return "write " + m.name(n.ID) + " again as captured"
	case VerbActivate:
		return "open " + m.name(n.ID) + map[bool]string{true: " read-only"}[st.Arg == "ro"]
	case VerbGRUB:
		return "install GRUB (" + st.Arg + ") on " + m.name(n.ID)
	case VerbGRUBEFI:
		return "install GRUB (" + st.Arg + ") into " + m.name(n.ID)
	case VerbNVRAM:
		return "enter the boot loader of " + m.name(n.ID) + " into the firmware"
	}
	return st.plainText(target)
}

// plainText is the text of steps without a node.
func (st Step) plainText(target *manifest.Storage) string {
	switch st.Verb {
	case VerbRestore:
		s := "restore the files of " + restored(target)
		if st.Bytes > 0 {
			s += " (about " + size(st.Bytes) + ")"
		}
		return s
	case VerbPoints:
		return "make mount points and standard directories that no backup holds"
	case VerbNetwork:
		return "let network cards keep their names, with their configuration"
	case VerbIDs:
		return "rewrite identities that changed, and look for leftovers"
	case VerbInitramfs:
		return "check the initramfs of kernel " + st.Arg + ", and build it again if something is missing"
	case VerbBootCheck:
		return "check the boot path: sectors, files, configuration, identities"
	case VerbReport:
		return "write report, log and plan into the restored system, and mark the order as done"
	case VerbOpen:
		return "compare the disks with the plan"
	case VerbFstab:
		return "mend the lines of /etc/fstab that lead nowhere"
	case VerbGRUBConfig:
		return "make GRUB's configuration anew"
	case VerbUnmount:
		return "unmount everything, take the claims off the disks, and sync"
	}
	return st.ID
}

func restored(t *manifest.Storage) string {
	var s []string
	for _, mt := range t.Mounts {
		if mt.Backup == manifest.ScopeFull && !isSwap(mt) {
			s = append(s, mt.Path.String())
		}
	}
	return strings.Join(s, ", ")
}

func purpose(t *manifest.Storage, id manifest.ID) string {
	var s []string
	for _, mt := range t.MountsOf(id) {
		s = append(s, mt.Path.String())
	}
	if len(s) == 0 {
		return ""
	}
	return " for " + strings.Join(s, ", ")
}

// Text is the whole plan for people: what is in the way first, then what is
// erased and what is not, how disks were chosen, and the steps.
func (p *Plan) Text() string {
	var b strings.Builder
	line := func(f string, a ...any) { fmt.Fprintf(&b, f+"\n", a...) }
	line("%s plan for %s", map[bool]string{true: "Repair", false: "Recovery"}[p.Kind == KindRepair], quote(p.Host))
	line("Plan id %s", p.ID)
	problems(&b, "In the way: nothing will be written", p.Refusals)
	p.disksText(&b)
	if len(p.Uncovered) > 0 {
		line("\nCannot be recovered")
		for _, u := range p.Uncovered {
			line("  %s: %s%s", u.Path, u.Reason, map[bool]string{true: " (accepted)"}[u.Accepted])
		}
	}
	problems(&b, "Warnings", p.Warnings)
	if len(p.Renames) > 0 {
		line("\nIdentities that change")
		for _, r := range p.Renames {
			line("  %s %s → %s", r.Kind, r.Old, quote(r.New))
		}
	}
	p.cardsText(&b)
	section(&b, "Steps", len(p.Steps), "none")
	for i, s := range p.Steps {
		line("  %2d. %s", i+1, s.Text(&p.Target, p))
	}
	p.needsText(&b)
	return b.String()
}

// DiskLines says what will be erased and what will not be touched: what a
// person must see before the first write.
func (p *Plan) DiskLines() []string {
	var b strings.Builder
	p.disksText(&b)
	return strings.Split(strings.TrimSpace(b.String()), "\n")
}

func (p *Plan) disksText(b *strings.Builder) {
	line := func(f string, a ...any) { fmt.Fprintf(b, f+"\n", a...) }
	if p.Kind == KindRepair {
		p.mendText(b)
		return
	}
	will := "Will"
	if p.Refused() {
		will = "Would"
	}
	section(b, will+" be erased", len(p.Assignments), "nothing")
	for _, a := range p.Assignments {
		line("  %s", diskText(a.Disk))
		line("    takes the place of %s, by %s: %s", a.Was, a.Rule, a.Why)
		for _, l := range a.Lost {
			line("    %s", l)
		}
	}
	section(b, will+" not be touched", len(p.Untouched), "no other disk is there")
	for _, d := range p.Untouched {
		line("  %s: %s", diskText(d), d.Reason)
	}
}

func (p *Plan) needsText(b *strings.Builder) {
	row := func(name string, items []string) {
		if len(items) > 0 {
			fmt.Fprintf(b, "  %s: %s\n", name, strings.Join(items, " "))
		}
	}
	var tools []string
	for _, t := range p.Needs.Tools {
		tools = append(tools, t.Name)
	}
	fmt.Fprintf(b, "\nNeeded\n")
	row("programs", tools)
	row("kernel modules", p.Needs.Modules)
	row("filesystems", p.Needs.Kernel)
	row("programs of the restored system", p.Needs.InTarget)
	row("files of the restored system", p.Needs.Loaders)
}

func section(b *strings.Builder, title string, n int, none string) {
	fmt.Fprintf(b, "\n%s\n", title)
	if n == 0 {
		fmt.Fprintf(b, "  %s\n", none)
	}
}

func problems(b *strings.Builder, title string, list []report.Problem) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", title)
	for _, p := range list {
		fmt.Fprintf(b, "  %s [%s]\n", p.Text, p.Code)
		if p.Next != "" {
			fmt.Fprintf(b, "    next: %s\n", p.Next)
		}
		for _, d := range p.Details {
			fmt.Fprintf(b, "    - %s\n", d)
		}
	}
}
