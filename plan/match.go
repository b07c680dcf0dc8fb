package plan

import (
	"fmt"
	"slices"
	"strings"

	"lifeboat/manifest"
	"lifeboat/report"
)

// matchDisks gives each needed captured disk its place, by rule 3. The rungs
// are tried one after the other for all disks: a WWN anywhere wins over a
// serial, whatever the order of disks.
func (k *maker) matchDisks() {
	if k.in.Policy.OwnHardware {
		k.matchOwn()
		return
	}
	f := newFinder(k.g, k.mach)
	taken := map[int]manifest.ID{} // machine disk → captured disk that it is the match of
	place := map[manifest.ID]int{}
	set := func(c *manifest.Node, i int, r Rule, why string) {
		taken[i], place[c.ID] = c.ID, i
		if k.need[c.ID] {
			k.to[c.ID] = match{&k.mach.Disks[i], r, why}
		}
	}
	before := len(k.p.Refusals)
	mapped := k.readMapping(f)
	if len(k.p.Refusals) > before {
		return // what was meant is not known: nothing else is tried
	}
	for _, c := range f.captured {
		if i, ok := mapped[c.ID]; ok {
			set(c, i, ByMapping, "named by the mapping file")
		}
	}
	rungs := []struct {
		rule Rule
		find func(*manifest.Node) (int, string)
	}{
		{ByWWN, f.byWWN}, {BySerial, f.bySerial},
		{ByClaim, func(c *manifest.Node) (int, string) { return k.byClaim(c, taken) }},
	}
	for _, g := range rungs {
		for _, c := range f.captured {
			if _, done := place[c.ID]; done {
				continue
			}
			i, why := g.find(c)
			if i < 0 {
				continue
			}
			if _, other := taken[i]; !other {
				set(c, i, g.rule, why)
			}
		}
	}
	var rest []*manifest.Node
	for _, c := range f.captured {
		if _, done := place[c.ID]; k.need[c.ID] && !done {
			rest = append(rest, c)
		}
	}
	k.matchBlank(f, rest, taken)
	k.checkTargets(f)
}

// matchOwn gives each captured disk its own place, for capture: whatever
// protects a disk or lies on it does not count.
func (k *maker) matchOwn() {
	for _, c := range k.g.OfKind(manifest.KindDisk) {
		if !k.need[c.ID] {
			continue
		}
		d := &manifest.MachineDisk{Disk: *c.Disk, Name: c.Seen.Device}
		for i := range k.mach.Disks {
			if m := &k.mach.Disks[i]; m.Name != "" && m.Name == c.Seen.Device && m.Disk.Bytes == c.Disk.Bytes {
				d = m
			}
		}
		k.to[c.ID] = match{d, ByOwn, "the host's own disk"}
	}
}

// finder finds disks by their identities. An identity that is a placeholder,
// or that two disks of one side share, is none.
type finder struct {
	captured []*manifest.Node
	disks    []manifest.MachineDisk

	wwnC, serialC map[string]int // how often among the captured
	wwnM, serialM map[string]int // how often among the machine's
}

func newFinder(g *manifest.Storage, m *manifest.Machine) *finder {
	f := &finder{captured: g.OfKind(manifest.KindDisk), disks: m.Disks,
		wwnC: map[string]int{}, serialC: map[string]int{}, wwnM: map[string]int{}, serialM: map[string]int{}}
	for _, c := range f.captured {
		f.wwnC[wwn(*c.Disk)]++
		f.serialC[serial(*c.Disk)]++
	}
	for _, d := range f.disks {
		f.wwnM[wwn(d.Disk)]++
		f.serialM[serial(d.Disk)]++
	}
	return f
}

// fold is the form in which identities are compared: case and outer blanks do
// not count, runs of blanks are one.
func fold(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }

func serial(d manifest.Disk) string { return fold(manifest.UsableSerial(d.Serial)) }

func wwn(d manifest.Disk) string { return foldWWN(manifest.UsableWWN(d.WWN)) }

// foldWWN folds a WWN, and makes udev's 0x… the kernel's naa.….
func foldWWN(s string) string {
	s = strings.TrimPrefix(fold(s), "wwn-")
	if hex, ok := strings.CutPrefix(s, "0x"); ok {
		return "naa." + hex
	}
	return s
}

func (f *finder) byWWN(c *manifest.Node) (int, string) {
	w := wwn(*c.Disk)
	if w == "" || f.wwnC[w] > 1 || f.wwnM[w] > 1 {
		return -1, ""
	}
	return slices.IndexFunc(f.disks, func(d manifest.MachineDisk) bool { return wwn(d.Disk) == w }), "same WWN " + c.Disk.WWN
}

func (f *finder) bySerial(c *manifest.Node) (int, string) {
	s := serial(*c.Disk)
	if s == "" || f.serialC[s] > 1 || f.serialM[s] > 1 {
		return -1, ""
	}
	return slices.IndexFunc(f.disks, func(d manifest.MachineDisk) bool { return serial(d.Disk) == s }), "same serial " + c.Disk.Serial
}

// known tells whether a machine disk carries an identity of any captured
// disk: such a disk is never a candidate by blankness.
func (f *finder) known(i int) *manifest.Node {
	w, s := wwn(f.disks[i].Disk), serial(f.disks[i].Disk)
	for _, c := range f.captured {
		if w != "" && w == wwn(*c.Disk) && f.wwnM[w] == 1 && f.wwnC[w] == 1 ||
			s != "" && s == serial(*c.Disk) && f.serialM[s] == 1 && f.serialC[s] == 1 {
			return c
		}
	}
	return nil
}

// shared tells whether another disk of the machine has the same WWN: two
// paths to one unit, or a copy. Which one is meant is doubt.
func (f *finder) shared(i int) bool { w := wwn(f.disks[i].Disk); return w != "" && f.wwnM[w] > 1 }

// byClaim finds the one disk that this very order claimed for a captured
// disk before it was cut off. A claim that names another disk's identity was
// copied; a table that is neither absent nor ours came later: no claim then.
func (k *maker) byClaim(c *manifest.Node, taken map[int]manifest.ID) (int, string) {
	found := -1
	for i := range k.mach.Disks {
		if _, other := taken[i]; other || !k.need[c.ID] || !k.claims(c, &k.mach.Disks[i]) {
			continue
		}
		if found >= 0 {
			return -1, ""
		}
		found = i
	}
	return found, "it carries the claim of this order, which was cut off"
}

func (k *maker) claims(c *manifest.Node, d *manifest.MachineDisk) bool {
	m := d.Claim
	if m == nil || k.in.Policy.Order == "" || m.Order != k.in.Policy.Order || m.Node != c.ID {
		return false
	}
	if m.Manifest != k.sum || m.Bytes != d.Disk.Bytes || m.WWN != d.Disk.WWN || m.Serial != d.Disk.Serial {
		return false
	}
	if d.Unread != "" {
		return false
	}
	if strings.Trim(d.TableID, "0x-") == "" {
		return true // not yet written, or torn
	}
	t := tableOn(k.g, c.ID)
	return t != nil && strings.EqualFold(t.Table.UUID, d.TableID)
}

// tableOn returns the partition table on a disk, or nil.
func tableOn(g *manifest.Storage, disk manifest.ID) *manifest.Node {
	for _, t := range g.OfKind(manifest.KindTable) {
		if len(t.On) == 1 && t.On[0].Node == disk {
			return t
		}
	}
	return nil
}

// protection tells why a disk must not be written to, "" when it may. Lifting
// it (rule 2) needs a serial that only this disk has, and never works for the
// disk of the backup or one that cannot be written.
func (k *maker) protection(d *manifest.MachineDisk) (string, []string) {
	lifted := false
	if s := serial(d.Disk); s != "" {
		n := 0
		for i := range k.mach.Disks {
			if serial(k.mach.Disks[i].Disk) == s {
				n++
			}
		}
		for _, u := range k.in.Policy.Unprotect {
			lifted = lifted || n == 1 && fold(u) == s
		}
	}
	why := ""
	var chains []string
	for _, p := range d.Protection {
		if lifted && p.Why != manifest.ProtectBackup && p.Why != manifest.ProtectReadOnly {
			continue
		}
		text := protectText(p)
		if why == "" {
			why = text
		}
		chains = append(chains, text)
	}
	if why == "" && d.Disk.ReadOnly {
		why = "it is read-only"
	}
	return why, chains
}

func protectText(p manifest.Protection) string {
	what := map[string]string{
		manifest.ProtectMedium: "it carries the rescue medium", manifest.ProtectBackup: "it carries the backup in use",
		manifest.ProtectMounted: "it is mounted", manifest.ProtectActive: "it is in use", manifest.ProtectReadOnly: "it is read-only",
	}[p.Why]
	if what == "" {
		what = "it is protected (" + p.Why + ")"
	}
	if p.What != "" {
		what += " (" + p.What + ")"
	}
	if len(p.Chain) > 0 {
		what += " by the chain " + strings.Join(p.Chain, " → ")
	}
	return what
}

// checkTargets refuses targets that were found without doubt but must not be
// written or do not fit.
func (k *maker) checkTargets(f *finder) {
	for _, c := range f.captured {
		m, ok := k.to[c.ID]
		if !ok || m.rule == ByBlank {
			continue // the blank rule took only what fits
		}
		if why, chains := k.protection(m.disk); why != "" {
			p := k.refuse(report.CodeDiskProtected, m.disk.Name, "release it, or take the medium or backup off it",
				"%s is to take the place of %s, but %s", diskText(ref(m.disk)), k.name(c.ID), why)
			p.Details = append(p.Details, chains...)
		}
		for _, p := range k.fit(c, m.disk.Disk, diskText(ref(m.disk))) {
			k.p.Refusals = append(k.p.Refusals, p)
		}
	}
}

func ref(d *manifest.MachineDisk) DiskRef {
	return DiskRef{Name: d.Name, DevNo: d.DevNo, WWN: d.Disk.WWN, Serial: d.Disk.Serial, Model: d.Disk.Model, Bytes: d.Disk.Bytes,
		Signatures: d.Signatures, Table: d.Table, TableID: d.TableID}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}
