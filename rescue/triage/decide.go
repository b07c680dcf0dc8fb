package triage

import (
	"fmt"
	"slices"
	"strings"

	"lifeboat/manifest"
)

// Kind of a verdict.
type Kind string

const (
	Healthy  Kind = "healthy"  // nothing is wrong that was looked at
	Intact   Kind = "intact"   // all data is there; what starts it is not: repair
	Readable Kind = "readable" // data is there, but no repair brings it back: save, then recover
	Gone     Kind = "gone"     // nothing of it is left: recover
	Unclear  Kind = "unclear"  // it could not be told
)

// Weight of a line of evidence.
type Weight string

const (
	Good Weight = "ok"
	Bad  Weight = "bad"
	Note Weight = "note"
)

// Evidence is one line that the verdict stands on.
type Evidence struct {
	Weight Weight `json:"weight"`
	Text   string `json:"text"`
}

// Verdict is the one answer, with its evidence.
type Verdict struct {
	Kind     Kind       `json:"kind"`
	Line     string     `json:"line"` // the verdict for people
	Next     string     `json:"next"` // what to do
	Minutes  int        `json:"minutes,omitempty"`
	Newer    int64      `json:"newer,omitempty"`
	AtLeast  bool       `json:"at_least,omitempty"`
	Repair   Repair     `json:"repair"` // what a repair would mend
	Blocked  string     `json:"blocked,omitempty"`
	Evidence []Evidence `json:"evidence"`
}

// Repair is what is to be mended so that the system starts again.
type Repair struct {
	Sectors   []manifest.ID `json:"sectors,omitempty"` // disks: GRUB's boot code
	ESPs      []manifest.ID `json:"esps,omitempty"`    // filesystems: boot programs
	MakeESPs  []manifest.ID `json:"make_esps,omitempty"`
	Tables    []manifest.ID `json:"tables,omitempty"`
	Initramfs []string      `json:"initramfs,omitempty"` // kernel versions
	Modules   bool          `json:"modules,omitempty"`   // GRUB's modules
	Config    bool          `json:"config,omitempty"`    // GRUB's configuration
	Fstab     bool          `json:"fstab,omitempty"`
	NVRAM     []manifest.ID `json:"nvram,omitempty"` // ESPs to enter into the firmware
	Renamed   []Renamed     `json:"renamed,omitempty"`
}

// Renamed is a filesystem or swap that lies in its place under another id.
type Renamed struct {
	ID  manifest.ID `json:"id"`
	Was string      `json:"was"`
	Is  string      `json:"is"`
}

// Empty tells whether there is nothing to mend.
func (r Repair) Empty() bool {
	return len(r.Sectors)+len(r.ESPs)+len(r.MakeESPs)+len(r.Tables)+len(r.Initramfs)+len(r.NVRAM)+len(r.Renamed) == 0 && !r.Config && !r.Fstab && !r.Modules
}

// judge collects evidence and repairs.
type judge struct {
	f *Facts
	v *Verdict
	// fatal are faults that no repair mends.
	fatal []string
	// broken are faults that keep the system from starting, or from starting
	// whole, and that a repair mends.
	broken int
}

// Decide judges the facts. It is the same for the same facts.
func Decide(f *Facts) Verdict {
	v := Verdict{Evidence: []Evidence{}}
	j := &judge{f: f, v: &v}
	j.layers()
	data, lost, unseen := j.filesystems()
	j.root()
	j.boot()
	for _, u := range f.Unseen {
		j.say(Note, "not looked into: %s", u)
	}
	root := j.rootFS()
	switch {
	case f.Root.OtherHost:
		v.Kind = Unclear
	case f.Root.Unfinished:
		// What a recovery left half-way has nothing newer than the backup.
		v.Kind = Gone
	case root != nil && root.Readable && lost == 0 && unseen == 0 && len(j.fatal) == 0 && j.broken == 0:
		v.Kind = Healthy
	case root != nil && root.Readable && lost == 0 && unseen == 0 && len(j.fatal) == 0:
		v.Kind = Intact
	case unseen > 0 || root != nil && root.State == Unseen:
		v.Kind = Unclear
	case data > 0:
		v.Kind = Readable
	case len(f.Unseen) > 0 && !j.blank():
		v.Kind = Unclear
	default:
		v.Kind = Gone
	}
	j.conclude()
	return v
}

func (j *judge) say(w Weight, format string, args ...any) {
	j.v.Evidence = append(j.v.Evidence, Evidence{w, fmt.Sprintf(format, args...)})
}

// mend notes a fault that a repair mends.
func (j *judge) mend(format string, args ...any) {
	j.broken++
	j.say(Bad, format, args...)
}

// stop notes a fault that no repair mends.
func (j *judge) stop(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	j.fatal = append(j.fatal, s)
	j.say(Bad, "%s", s)
}

// blank tells whether nothing of the captured system was found at all.
func (j *judge) blank() bool {
	found := func(s State) bool { return s == Same || s == Changed || s == Damaged }
	return !slices.ContainsFunc(j.f.Layers, func(l Layer) bool { return l.Kind != manifest.KindDisk && found(l.State) }) &&
		!slices.ContainsFunc(j.f.Filesystems, func(s Filesystem) bool { return found(s.State) })
}

func (j *judge) rootFS() *Filesystem {
	for i := range j.f.Filesystems {
		if slices.Contains(j.f.Filesystems[i].Mounts, "/") {
			return &j.f.Filesystems[i]
		}
	}
	return nil
}

// layers judges what the filesystems stand on. A table that is damaged and
// known is written again; whatever else is missing shows by its filesystems.
func (j *judge) layers() {
	for _, l := range j.f.Layers {
		switch {
		case l.State == Same:
			if l.Kind == manifest.KindTable || l.Kind == manifest.KindVG {
				j.say(Good, "%s: as captured", l.Name)
			}
		case l.State == Damaged && l.Kind == manifest.KindTable:
			j.mend("%s: %s", l.Name, l.Detail)
			j.v.Repair.Tables = append(j.v.Repair.Tables, l.ID)
		case l.State == Missing && l.Kind == manifest.KindDisk:
			j.say(Bad, "%s is not in this machine", l.Name)
		case l.State == Missing:
			j.say(Bad, "%s is not there", l.Name)
		default:
			j.say(Note, "%s: %s", l.Name, orText(l.Detail, string(l.State)))
		}
	}
}

// filesystems counts those with data that can be read, that are lost, and
// that could not be looked into.
func (j *judge) filesystems() (data, lost, unseen int) {
	for i := range j.f.Filesystems {
		f := &j.f.Filesystems[i]
		name := f.name()
		if len(f.Twins) > 0 {
			j.stop("%s is there more than once (%s and %s): which one is meant is doubt", name, f.Device, strings.Join(f.Twins, ", "))
		}
		switch {
		case f.Kind == manifest.KindSwap:
			j.swap(f, name)
		case f.ESP && !f.Readable:
			j.esp(f, name)
		case f.Readable:
			j.readable(f, name)
			if f.Data && !f.ESP {
				data++
			}
		case f.State == Unseen:
			unseen++
			j.say(Note, "%s on %s could not be looked into: %s", name, f.Device, f.Detail)
		case f.Data || slices.Contains(f.Mounts, "/") || slices.Contains(f.Mounts, "/boot"):
			lost++
			j.say(Bad, "%s", gone(f, name))
		default:
			j.say(Note, "%s", gone(f, name))
		}
	}
	return data, lost, unseen
}

func gone(f *Filesystem, name string) string {
	if f.State == Missing {
		return name + " is not there" + ifText(f.Detail)
	}
	return fmt.Sprintf("%s on %s cannot be read%s", name, orText(f.Device, "no device"), ifText(f.Detail))
}

func (j *judge) readable(f *Filesystem, name string) {
	text := fmt.Sprintf("%s on %s is readable", name, f.Device)
	if f.Torn {
		text += ", not unmounted when the machine stopped"
	}
	if f.Unlisted > 0 {
		text += fmt.Sprintf("; %d folders of it are not", f.Unlisted)
		j.stop("%s", text)
	} else {
		j.say(Good, "%s", text)
	}
	j.renamed(f, name)
	if f.Newer == 0 || !f.Data {
		return
	}
	j.v.Newer += f.Newer
	j.v.AtLeast = j.v.AtLeast || f.AtLeast
	in := ""
	if len(f.NewerIn) > 0 {
		in = " (most in " + strings.Join(f.NewerIn, ", ") + ")"
	}
	j.say(Note, "%s: %s%d files changed after %s%s", name, atLeast(f.AtLeast), f.Newer, j.f.Made, in)
}

func (j *judge) renamed(f *Filesystem, name string) {
	if f.IsUUID == "" || strings.EqualFold(f.IsUUID, f.WasUUID) {
		return
	}
	j.mend("%s has the id %s, not %s as captured", name, f.IsUUID, f.WasUUID)
	j.v.Repair.Renamed = append(j.v.Repair.Renamed, Renamed{f.ID, f.WasUUID, f.IsUUID})
}

// swap judges a swap area: nothing is lost with it.
func (j *judge) swap(f *Filesystem, name string) {
	switch f.State {
	case Same:
	case Changed:
		j.renamed(f, name)
	default:
		j.say(Note, "%s", gone(f, name))
	}
}

// esp judges an ESP that cannot be mounted: it holds boot programs only, and
// is made again when its partition is there and nothing else lies in it.
func (j *judge) esp(f *Filesystem, name string) {
	switch {
	case f.Vacant || f.State == Damaged:
		j.mend("%s on %s holds no filesystem any more", name, f.Device)
		j.v.Repair.MakeESPs = append(j.v.Repair.MakeESPs, f.ID)
	case f.State == Unseen:
		j.stop("%s could not be looked into: %s", name, f.Detail)
	default:
		j.stop("%s", gone(f, name))
	}
}

func (j *judge) root() {
	r := &j.f.Root
	if !r.Looked {
		return
	}
	switch {
	case r.OtherHost:
		j.stop("the root filesystem is of another host (%s, machine-id %s)", orText(r.HostName, "no name"), orText(r.MachineID, "none"))
	case r.Unfinished:
		j.say(Bad, "a recovery was cut off here: not all files came back")
	case r.System == "":
		j.stop("the root filesystem holds no os-release: it is no whole system")
	case r.NoInit:
		j.stop("the root filesystem has no program /sbin/init")
	default:
		j.say(Good, "the root filesystem holds %s of %s", r.System, orText(r.HostName, "a host without name"))
	}
}

func (f *Filesystem) name() string {
	at := strings.Join(f.Mounts, ", ")
	switch {
	case f.Kind == manifest.KindSwap:
		return "swap " + f.WasUUID
	case f.ESP:
		return strings.TrimSpace("EFI system partition " + at)
	case at == "":
		return f.Type + " " + f.WasUUID
	}
	return f.Type + " of " + at
}

func atLeast(b bool) string {
	if b {
		return "at least "
	}
	return ""
}

func orText(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func ifText(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}
