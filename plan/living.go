package plan

import (
	"strings"
	"time"

	"lifeboat/manifest"
	"lifeboat/report"
)

// checkLiving refuses to erase, with nobody watching, a system that lived on
// after its backup, or that this very order restored (rule 4).
func (k *maker) checkLiving() {
	p := k.in.Policy
	if p.OwnHardware {
		return
	}
	since := k.m.Made
	if t, err := time.Parse(time.RFC3339, p.BackupMade); err == nil {
		since = t
	}
	for _, c := range k.p.Target.OfKind(manifest.KindDisk) {
		m, ok := k.to[c.ID]
		if !ok {
			continue
		}
		for _, mark := range m.disk.Marks {
			k.checkMark(m, mark, since)
		}
		if k.claims(c, m.disk) {
			continue // what this order itself left half made
		}
		for _, u := range m.disk.Unlooked {
			k.checkUnlooked(m.disk, u)
		}
	}
}

// say refuses where nobody watches, and tells a person who decides.
func (k *maker) say(code string, d *manifest.MachineDisk, next, format string, args ...any) {
	if p := k.in.Policy; !p.Unattended || p.Armed {
		k.warn(code, d.Name, "look at the system on it before you erase it", format, args...)
		return
	}
	k.refuse(code, d.Name, next, format, args...)
}

const nextLiving = "boot the local disk; to erase it all the same, arm the recovery once or type the host's name at the console"

func (k *maker) checkMark(m match, mark manifest.Mark, since time.Time) {
	d := m.disk
	if cutOff(mark) {
		return
	}
	if o := k.in.Policy.Order; o != "" && mark.Order == o && (mark.Lost == 0 || incomplete(mark)) {
		if mark.Lost > 0 {
			k.say(report.CodeAttempts, d, "look into the report in its /var/log/lifeboat; start the installed system from the menu where the losses can be borne, or recover once more from there",
				"%s holds what this order restored (on %s), without %d files that could not be brought back", diskText(ref(d)), mark.Device, mark.Lost)
			return
		}
		k.say(report.CodeOrderDone, d, nextLiving, "%s holds what this order restored already (on %s)", diskText(ref(d)), mark.Device)
		return
	}
	same := ofHost(k.m, mark)
	newest, err := time.Parse(time.RFC3339, mark.Newest)
	if err == nil && !newest.After(since) || mark.Host == "" && mark.MachineID == "" {
		return // used before the backup only, or no system but another order's mark
	}
	switch {
	case same:
		k.say(report.CodeLiving, d, nextLiving, "%s holds a system of %s (on %s) that was used after the backup of %s (last sign of life %s)",
			diskText(ref(d)), k.m.Host.Name, mark.Device, since.UTC().Format(time.RFC3339), quote(mark.Newest))
	case m.rule != ByMapping:
		// The disk is this host's by its serial, but somebody else lives on it
		// since: it was moved and is in use there. A mapping file names the disk
		// by a person's will, whatever was on it.
		k.say(report.CodeLiving, d, "find out whether that host still needs the disk; to erase it all the same, name the disk in a mapping file, arm the recovery once or type the host's name at the console",
			"%s holds a system of another host, %s (on %s), last written %s, after the backup of %s", diskText(ref(d)), otherHost(mark), mark.Device, quote(mark.Newest),
			since.UTC().Format(time.RFC3339))
	}
}

func otherHost(mark manifest.Mark) string {
	if mark.Host == "" {
		return "machine id " + mark.MachineID
	}
	return quote(mark.Host)
}

// checkUnlooked decides what counts as "no readable root of this host" (rules
// 3 and 4) when something on a target could not be looked into:
//
//   - Damaged content is no living system. The usual case of a recovery is the
//     very disk that failed, matched by its WWN or serial, and it must go on
//     with nobody typing.
//   - Everything else (a missing program or driver, a time limit, no key)
//     says something of the rescue system and nothing of the disk. A living
//     system may be there, so it is doubt.
//   - What the manifest itself knows, and knows that the root does not stand on
//     it, was no root when the backup was made and is the same still.
func (k *maker) checkUnlooked(d *manifest.MachineDisk, u manifest.Unlooked) {
	if u.Why == manifest.UnlookedDamaged || k.knownData(u.UUID) {
		return
	}
	what := u.Type
	if what == "" {
		what = "something"
	}
	why := map[string]string{manifest.UnlookedTool: "a program for it is missing or does not run", manifest.UnlookedDriver: "nothing here can read it without writing",
		manifest.UnlookedTimeout: "it did not answer in time", manifest.UnlookedLocked: "it is encrypted, and there is no key here"}[u.Why]
	if why == "" {
		why = "the attempt failed"
	}
	if u.Text != "" {
		why += ": " + u.Text
	}
	k.say(report.CodeUnlooked, d, nextLiving, "%s holds %s on %s, which may be a living system and cannot be looked into (%s)", diskText(ref(d)), what, u.Device, why)
}

// knownData tells whether an identity is that of something captured on which
// the root does not stand.
func (k *maker) knownData(uuid string) bool {
	root := map[manifest.ID]bool{}
	for _, n := range k.g.Below(k.m.Boot.RootFS) {
		root[n.ID] = true
	}
	if uuid == "" || len(root) == 0 {
		return false
	}
	known := false
	for i := range k.g.Nodes {
		n := &k.g.Nodes[i]
		if plainID(identity(n)) != plainID(uuid) {
			continue
		}
		if root[n.ID] {
			return false
		}
		known = true
	}
	return known
}

// identity is the UUID that a node's superblock or metadata carries.
func identity(n *manifest.Node) string {
	switch {
	case n.FS != nil:
		return n.FS.UUID
	case n.PV != nil:
		return n.PV.UUID
	case n.LV != nil:
		return n.LV.UUID
	case n.LUKS != nil:
		return n.LUKS.UUID
	case n.MD != nil:
		return n.MD.UUID
	case n.Unknown != nil: // "zfs_member:123": its loss may have been accepted
		_, id, _ := strings.Cut(string(n.ID), ":")
		return id
	}
	return ""
}

// plainID drops what tools write differently in one id.
func plainID(s string) string {
	return strings.NewReplacer("-", "", ":", "", ".", "").Replace(fold(s))
}

// mended is how much newer than the journal, or than the end of a recovery that
// lost files, signs of life must be to tell that a person mended what it left
// and started it.
const mended = 10 * time.Minute

// cutOff tells whether a root is what a recovery left behind that was cut off:
// no living system. The journal goes before the first boot, and a recovery
// writes it all the time.
func cutOff(mark manifest.Mark) bool {
	if !mark.Unfinished {
		return false
	}
	newest, err1 := time.Parse(time.RFC3339, mark.Newest)
	journal, err2 := time.Parse(time.RFC3339, mark.Journal)
	return err1 != nil || err2 != nil || !newest.After(journal.Add(mended))
}

// incomplete tells whether a root is what a recovery left that lost files, and
// no person has used since. It is neither a living system, which would be
// started by itself, nor one whose order is done.
func incomplete(mark manifest.Mark) bool {
	if mark.Lost == 0 {
		return false
	}
	newest, err1 := time.Parse(time.RFC3339, mark.Newest)
	ended, err2 := time.Parse(time.RFC3339, mark.Ended)
	return err1 != nil || err2 != nil || !newest.After(ended.Add(mended))
}
