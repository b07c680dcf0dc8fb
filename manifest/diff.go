package manifest

import (
	"fmt"
	"slices"
)

// Differences lists what differs between two manifests of one host, one line
// each, for people: nodes and mounts added, gone or changed.
func Differences(before, after *Manifest) []string {
	var out []string
	if before.Host.MachineID != after.Host.MachineID {
		out = append(out, fmt.Sprintf("machine id %s became %s", before.Host.MachineID, after.Host.MachineID))
	}
	if before.Host.Name != after.Host.Name {
		out = append(out, fmt.Sprintf("host name %s became %s", before.Host.Name, after.Host.Name))
	}
	a, b := before.Storage.intent(), after.Storage.intent()
	for _, n := range b.Nodes {
		old := a.Node(n.ID)
		switch {
		case old == nil:
			out = append(out, fmt.Sprintf("%s %s is new", n.Kind, n.ID))
		case !equal(*old, n):
			out = append(out, fmt.Sprintf("%s %s changed", n.Kind, n.ID))
		}
	}
	for _, n := range a.Nodes {
		if b.Node(n.ID) == nil {
			out = append(out, fmt.Sprintf("%s %s is gone", n.Kind, n.ID))
		}
	}
	return append(out, mountDifferences(a.Mounts, b.Mounts)...)
}

func mountDifferences(a, b []Mount) []string {
	var out []string
	find := func(l []Mount, m Mount) *Mount {
		i := slices.IndexFunc(l, func(x Mount) bool { return x.Path == m.Path && (m.Path != "none" || x.Node == m.Node) })
		if i < 0 {
			return nil
		}
		return &l[i]
	}
	for _, m := range b {
		old := find(a, m)
		switch {
		case old == nil:
			out = append(out, fmt.Sprintf("mount %s is new", m.Path))
		case !equal(*old, m):
			out = append(out, fmt.Sprintf("mount %s changed", m.Path))
		}
	}
	for _, m := range a {
		if find(b, m) == nil {
			out = append(out, fmt.Sprintf("mount %s is gone", m.Path))
		}
	}
	return out
}

func equal(a, b any) bool {
	x, err1 := encode(a)
	y, err2 := encode(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}
