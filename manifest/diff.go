package manifest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// maxChanges is how many changed values of one thing are told.
const maxChanges = 3

// Differences lists in words what differs between the intents of two
// manifests of one host, one line each, for people: what was added, is gone or
// changed. It is empty exactly when their fingerprints are equal.
func Differences(before, after *Manifest) []string {
	a, b := before.intent(), after.intent()
	d := differ{}
	d.values("host", a.Host, b.Host)
	d.nodes(a.Storage, b.Storage)
	compare(&d, a.Storage.Mounts, b.Storage.Mounts, mountName)
	d.boot(a.Boot, b.Boot)
	d.system(a.System, b.System)
	compare(&d, a.Files, b.Files, func(f File) string { return "file " + f.Path.String() })
	compare(&d, a.Dirs, b.Dirs, func(x Dir) string { return "standard directory " + x.Path.String() })
	if len(d.lines) == 0 && before.Fingerprint() != after.Fingerprint() {
		// Order alone: nothing here names it, and it must not be lost.
		d.add("the order of what is listed changed")
	}
	return d.lines
}

// differ gathers the lines.
type differ struct{ lines []string }

func (d *differ) add(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// values tells what differs inside one thing.
func (d *differ) values(name string, a, b any) {
	if what := changes(a, b); what != "" {
		d.add("%s changed: %s", name, what)
	}
}

// compare holds two lists against each other whose items have names.
func compare[T any](d *differ, a, b []T, name func(T) string) {
	old := map[string]T{}
	for _, x := range a {
		old[name(x)] = x
	}
	now := map[string]bool{}
	for _, x := range b {
		n := name(x)
		now[n] = true
		if was, ok := old[n]; ok {
			d.values(n, was, x)
		} else {
			d.add("%s is new", n)
		}
	}
	for _, x := range a {
		if !now[name(x)] {
			d.add("%s is gone", name(x))
		}
	}
}

func (d *differ) nodes(a, b Storage) {
	for _, n := range b.Nodes {
		if old := a.Node(n.ID); old == nil {
			d.add("%s is new", b.Title(n.ID))
		} else {
			was := *old
			if !equal(was.On, n.On) {
				d.add("%s stands on %s, not on %s", b.Title(n.ID), b.below(n), a.below(was))
				was.On = n.On
			}
			d.values(b.Title(n.ID), was, n)
		}
	}
	for _, n := range a.Nodes {
		if b.Node(n.ID) == nil {
			d.add("%s is gone", a.Title(n.ID))
		}
	}
}

func mountName(m Mount) string {
	if m.Path == "none" { // swap areas all have that path
		return "swap on " + string(m.Node)
	}
	return "mount " + m.Path.String()
}

func (d *differ) boot(a, b Boot) {
	x, y := a.Entries, b.Entries
	a.Entries, b.Entries = nil, nil
	d.values("boot", a, b)
	compare(d, x, y, func(e EFIEntry) string { return fmt.Sprintf("firmware entry %s (%s)", e.Num, e.Label) })
}

func (d *differ) system(a, b System) {
	x, y := a.Kernels, b.Kernels
	a.Kernels, b.Kernels = nil, nil
	d.values("system", a, b)
	compare(d, x, y, func(k Kernel) string { return "kernel " + k.Version })
}

// Title names a node as people know it: by number, name or mount point.
func (s *Storage) Title(id ID) string {
	n := s.Node(id)
	if n == nil {
		return string(id)
	}
	of := ""
	if d := s.Disks(id); len(d) == 1 && d[0].ID != id {
		of = " of " + s.Title(d[0].ID)
	}
	switch {
	case n.Disk != nil && n.Disk.Serial != "":
		return strings.Join(strings.Fields("disk "+n.Disk.Model+" "+n.Disk.Serial), " ")
	case n.Disk != nil:
		return "disk " + strings.TrimPrefix(string(id), "disk:")
	case n.Table != nil:
		return "partition table" + of
	case n.Partition != nil:
		return fmt.Sprintf("partition %d%s", n.Partition.Number, of)
	case n.VG != nil:
		return "volume group " + n.VG.Name
	case n.LV != nil:
		return "logical volume " + s.volume(n)
	case n.FS != nil:
		if m := s.MountsOf(id); len(m) > 0 {
			return fmt.Sprintf("filesystem %s of %s", n.FS.Type, m[0].Path)
		}
		return "filesystem " + n.FS.Type + " " + n.FS.UUID
	}
	return fmt.Sprintf("%s %s", n.Kind, n.ID)
}

// below names what a node stands on, and what for when it is not simply a part.
func (s *Storage) below(n Node) string {
	var out []string
	for _, e := range n.On {
		t := s.Title(e.Node)
		if e.Node == "" {
			t = "a missing member"
		}
		if e.Role != RoleMember && e.Role != "" {
			t += " as " + string(e.Role)
		}
		out = append(out, t)
	}
	if out == nil {
		return "nothing"
	}
	return strings.Join(out, ", ")
}

// volume is the name of an LV as LVM writes it.
func (s *Storage) volume(n *Node) string {
	for _, e := range n.On {
		if vg := s.Node(e.Node); vg != nil && vg.VG != nil {
			return vg.VG.Name + "/" + n.LV.Name
		}
	}
	return n.LV.Name
}

func equal(a, b any) bool {
	x, err1 := encode(a)
	y, err2 := encode(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// changes tells which values of two of a kind differ, by their names in the
// JSON form; "" when none does.
func changes(a, b any) string {
	if equal(a, b) {
		return ""
	}
	x, y := leaves(a), leaves(b)
	keys := slices.Sorted(maps.Keys(x))
	for k := range y {
		if _, ok := x[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	var out []string
	for _, k := range keys {
		if x[k] == y[k] {
			continue
		}
		out = append(out, fmt.Sprintf("%s %s became %s", k, shown(k, x[k]), shown(k, y[k])))
	}
	if more := len(out) - maxChanges; more > 0 {
		out = append(out[:maxChanges], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(out, ", ")
}

// leaves are the values of a JSON form by their path. Lists of plain values
// are one value.
func leaves(v any) map[string]string {
	out := map[string]string{}
	data, err := json.Marshal(v)
	if err != nil {
		return out // cannot happen: plain data
	}
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber() // sizes beyond 2^53 stay exact
	var doc any
	if d.Decode(&doc) == nil {
		flatten("", doc, out)
	}
	return out
}

func flatten(at string, v any, out map[string]string) {
	down := func(key string) string { return strings.TrimPrefix(at+"."+key, ".") }
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			flatten(down(k), x, out)
		}
	case []any:
		var plain []string
		for i, x := range v {
			switch x.(type) {
			case map[string]any, []any:
				flatten(down(strconv.Itoa(i+1)), x, out)
			default:
				plain = append(plain, fmt.Sprint(x))
			}
		}
		if plain != nil {
			out[at] = strings.Join(plain, ",")
		}
	case nil:
	default:
		out[at] = fmt.Sprint(v)
	}
}

// maxShown is how much of one value is told: a file's text is a value too.
const maxShown = 60

// shown writes a value for people; byte counts with their unit.
func shown(key, v string) string {
	if v == "" {
		return "nothing"
	}
	last := key[strings.LastIndexByte(key, '.')+1:]
	if n, err := strconv.ParseInt(v, 10, 64); err == nil && n > 0 && n%(1<<20) == 0 && slices.Contains([]string{"bytes", "size", "start", "dev_size", "extent_size"}, last) {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	if last == "text" {
		return fmt.Sprintf("%d bytes", len(v))
	}
	if r := []rune(v); len(r) > maxShown {
		v = string(r[:maxShown]) + "…"
	}
	return Bytes(v).String()
}
