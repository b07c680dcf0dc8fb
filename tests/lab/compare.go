package lab

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// Difference is one thing in which two disks are not equal.
type Difference struct {
	Where     string // volume ("part 5", "VG/LV"), or the fact's subject ("table", "lv VG/LV")
	Path      string // file in that volume, without a leading slash; "" for the volume itself
	What      string // mode, mtime, sha256, xattr user.x, missing, extra, label-id ...
	Want, Got string // on the first and on the second disk
}

// String is one line; odd bytes are quoted.
func (d Difference) String() string {
	where := d.Where
	if d.Path != "" {
		where += fmt.Sprintf(" %q", d.Path)
	}
	return fmt.Sprintf("%s: %s: want %.200q, got %.200q", where, d.What, d.Want, d.Got)
}

// Differences are what Compare found.
type Differences []Difference

// Allow is a rule for differences that are expected, and why. An empty Where or
// What matches everything, an empty Path only the top of a volume and the volume
// itself; the others are patterns of path.Match, and a Path that ends in "/**" is
// a folder with all below it.
type Allow struct {
	Where, Path, What string
	Why               string
}

func (a Allow) matches(d Difference) bool {
	if dir, ok := strings.CutSuffix(a.Path, "/**"); ok {
		if d.Path != dir && !strings.HasPrefix(d.Path, dir+"/") {
			return false
		}
	} else if a.Path == "" && d.Path != "" || !match(a.Path, d.Path) {
		return false
	}
	return match(a.Where, d.Where) && match(a.What, d.What)
}

func match(pattern, s string) bool {
	if pattern == "" || pattern == s {
		return true
	}
	ok, err := path.Match(pattern, s)
	return ok && err == nil
}

// Except returns what no rule allows, and the rules that matched nothing:
// a rule that is not needed hides the day when it matters.
func (ds Differences) Except(rules ...Allow) (rest Differences, unused []Allow) {
	used := make([]bool, len(rules))
	for _, d := range ds {
		allowed := false
		for i, r := range rules {
			if r.matches(d) {
				allowed, used[i] = true, true
			}
		}
		if !allowed {
			rest = append(rest, d)
		}
	}
	for i, r := range rules {
		if !used[i] {
			unused = append(unused, r)
		}
	}
	return rest, unused
}

// String has a line for each of the first hundred.
func (ds Differences) String() string {
	var b strings.Builder
	for i, d := range ds {
		if i == 100 {
			fmt.Fprintf(&b, "... and %d more\n", len(ds)-i)
			break
		}
		fmt.Fprintln(&b, d)
	}
	return b.String()
}

// Compare tells in what two raw disks differ: partition table, LVM, identities
// and parameters by Debian's tools in an appliance that cannot write; every
// file by GNU find, sha256sum, getfattr, lsattr and tar, on this machine
// through read-only loop mounts where its kernel knows the file system, else
// in the appliance. Times of reading, positions on the disk and free space do
// not count.
func (l *Lab) Compare(ctx context.Context, source, restored string) (Differences, error) {
	out, err := os.MkdirTemp("", "lifeboat-compare-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(out)
	a, b, pairs, inGuest, err := l.readBoth(ctx, source, restored, out)
	if err != nil {
		return nil, fmt.Errorf("compare %s with %s: %w", source, restored, err)
	}
	if err := l.judge(ctx, a, b, pairs, inGuest, out); err != nil {
		return nil, fmt.Errorf("compare %s with %s: %w", source, restored, err)
	}
	var ds Differences
	for i, name := range pairs {
		one, err := comparePair(name, filepath.Join(out, fmt.Sprint(i)), a, b)
		if err != nil {
			return nil, fmt.Errorf("compare %s: %w", name, err)
		}
		ds = append(ds, one...)
	}
	return append(compareFacts(a.Facts, b.Facts), ds...), nil
}

// native are the types that are mounted on this machine.
func native(fs string) bool { return strings.HasPrefix(fs, "ext") || fs == "xfs" }

// mountable tells whether a volume of that blkid type holds files.
func mountable(fs string) bool {
	switch fs {
	case "vfat", "btrfs":
		return true
	}
	return native(fs)
}

// pairs are the file systems that both disks have, by name. What holds
// something that the referee cannot look into is an error: it must not pass
// as equal. A volume that only one disk has differs in its facts.
func (d *Disk) pairs(o *Disk) ([]string, error) {
	var names []string
	for n, t := range d.Volumes {
		switch {
		case mountable(t):
			if o.Volumes[n] == t {
				names = append(names, n)
			}
		case t == "" || t == "swap" || t == "LVM2_member":
		default:
			return nil, fmt.Errorf("%s of %s holds %s, and the referee has not learned to look into that", n, d.Path, t)
		}
	}
	sort.Strings(names)
	return names, nil
}

// readBoth describes both disks, and lists in the appliance what this machine
// cannot mount: foreign file systems, and volumes in several pieces.
func (l *Lab) readBoth(ctx context.Context, source, restored, out string) (a, b *Disk, pairs, inGuest []string, err error) {
	m, disks, err := l.inspect(ctx, source, restored)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	defer m.Kill()
	a, b = disks[0], disks[1]
	if pairs, err = a.pairs(b); err != nil {
		return nil, nil, nil, nil, err
	}
	for i, name := range pairs {
		if native(a.Volumes[name]) && len(a.extents[name]) == 1 && len(b.extents[name]) == 1 {
			continue
		}
		inGuest = append(inGuest, name)
		for side, d := range disks {
			prefix := fmt.Sprintf("%d.%c", i, 'a'+side)
			if err := m.listInGuest(ctx, l, side, name, d.Volumes[name], prefix, out); err != nil {
				return nil, nil, nil, nil, err
			}
		}
	}
	return a, b, pairs, inGuest, m.Off(ctx)
}

// listInGuest runs listing.sh on a volume of the n-th drive in the appliance.
func (m *Machine) listInGuest(ctx context.Context, l *Lab, n int, name, fs, prefix, out string) error {
	if err := m.Put(ctx, filepath.Join(l.tools, "listing.sh"), "/lab/listing.sh", 0o755); err != nil {
		return err
	}
	script := functions + fmt.Sprintf("list_volume \"$(disks | sed -n %dp)\" %s %s %s", n+1,
		quote(name), quote(fs), quote(prefix))
	if _, err := m.Run(ctx, script); err != nil {
		return err
	}
	for _, suffix := range []string{"find", "rdev", "sha256", "xattr", "lsattr", "lsattr.names", "super", "fsck"} {
		f := prefix + "." + suffix
		if err := m.Get(ctx, "/lab/out/"+f, filepath.Join(out, f)); err != nil {
			return err
		}
	}
	return nil
}

// judge lists and compares on this machine what was not listed in the guest.
func (l *Lab) judge(ctx context.Context, a, b *Disk, pairs, inGuest []string, out string) error {
	var spec strings.Builder
	for i, name := range pairs {
		if slices.Contains(inGuest, name) {
			continue
		}
		for side, d := range []*Disk{a, b} {
			file, err := filepath.Abs(d.Path)
			if err != nil {
				return err
			}
			e := d.extents[name][0]
			fmt.Fprintf(&spec, "%d\t%c\t%s\t%d\t%d\t%s\n", i, 'a'+side, d.Volumes[name], e.Offset, e.Bytes, file)
		}
	}
	volumes := filepath.Join(out, "volumes")
	if err := os.WriteFile(volumes, []byte(spec.String()), 0o600); err != nil {
		return err
	}
	return l.script(ctx, "judge.sh", nil, filepath.Join(l.base, "appliance"), volumes, out)
}

// compareFacts compares identities by name.
func compareFacts(a, b map[string]string) Differences {
	var ds Differences
	keys := map[string]bool{}
	for k := range a {
		keys[k] = true
	}
	for k := range b {
		keys[k] = true
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		va, oka := a[k]
		vb, okb := b[k]
		if oka == okb && va == vb {
			continue
		}
		i := strings.LastIndexByte(k, '/')
		d := Difference{Where: k[:i], What: k[i+1:], Want: va, Got: vb}
		if !oka {
			d.Want = "nothing"
		}
		if !okb {
			d.Got = "nothing"
		}
		ds = append(ds, d)
	}
	return ds
}
