package manifest

import (
	"fmt"
	"strings"

	"lifeboat/report"
)

// body tells for each kind whether the struct that it names is set.
var body = map[Kind]func(*Node) bool{
	KindDisk:      func(n *Node) bool { return n.Disk != nil },
	KindMultipath: func(n *Node) bool { return n.Multipath != nil },
	KindTable:     func(n *Node) bool { return n.Table != nil },
	KindPartition: func(n *Node) bool { return n.Partition != nil },
	KindMD:        func(n *Node) bool { return n.MD != nil },
	KindPV:        func(n *Node) bool { return n.PV != nil },
	KindVG:        func(n *Node) bool { return n.VG != nil },
	KindLV:        func(n *Node) bool { return n.LV != nil },
	KindLUKS:      func(n *Node) bool { return n.LUKS != nil },
	KindFS:        func(n *Node) bool { return n.FS != nil },
	KindSubvol:    func(n *Node) bool { return n.Subvol != nil },
	KindSwap:      func(n *Node) bool { return n.Swap != nil },
	KindSwapFile:  func(n *Node) bool { return n.SwapFile != nil },
	KindUnknown:   func(n *Node) bool { return n.Unknown != nil },
}

// Validate checks the manifest as a whole and returns every fault found in
// one error.
func (m *Manifest) Validate() error {
	faults := m.Storage.Check()
	if m.Format != Format {
		faults = append(faults, fmt.Sprintf("format is %q, not %s", m.Format, Format))
	}
	if m.Host.Name == "" {
		faults = append(faults, "the host has no name")
	}
	root := false
	for _, mt := range m.Storage.Mounts {
		root = root || mt.Path == "/"
	}
	if !root {
		faults = append(faults, `no mount is "/"`)
	}
	if len(faults) == 0 {
		return nil
	}
	f := report.Errorf(report.CodeManifest, "capture the host again, or mend the named object", "the manifest is not valid: %s", faults[0])
	f.Details = faults[1:]
	return f
}

// Check returns what is wrong with the graph, one line each, naming the
// object.
func (s *Storage) Check() []string {
	var faults []string
	bad := func(f string, a ...any) { faults = append(faults, fmt.Sprintf(f, a...)) }
	known := map[ID]Kind{}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		checkNode(n, known, bad)
		known[n.ID] = n.Kind
	}
	for _, n := range s.OfKind(KindTable) {
		checkTable(s, n, bad)
	}
	seen := map[Bytes]bool{}
	for _, m := range s.Mounts {
		if _, ok := known[m.Node]; !ok {
			bad("mount %s names %s, which is not in the graph", m.Path, m.Node)
		}
		if m.Path == "none" {
			continue
		}
		if !strings.HasPrefix(string(m.Path), "/") {
			bad("mount point %q is not absolute", m.Path)
		}
		if seen[m.Path] {
			bad("mount point %s is there twice", m.Path)
		}
		seen[m.Path] = true
	}
	return faults
}

func checkNode(n *Node, known map[ID]Kind, bad func(string, ...any)) {
	if n.ID == "" {
		bad("a node of kind %q has no id", n.Kind)
	}
	if _, twice := known[n.ID]; twice {
		bad("%s is there twice", n.ID)
	}
	has, ok := body[n.Kind]
	if !ok {
		bad("%s: kind %q is not known", n.ID, n.Kind)
	} else if !has(n) {
		bad("%s: the part %q is missing", n.ID, n.Kind)
	}
	count := 0
	for _, f := range body {
		if f(n) {
			count++
		}
	}
	if count > 1 {
		bad("%s: has parts of more than one kind", n.ID)
	}
	if n.Bytes < 0 {
		bad("%s: size %d is negative", n.ID, n.Bytes)
	}
	if len(n.On) == 0 && n.Kind != KindDisk && n.Kind != KindUnknown {
		bad("%s: stands on nothing", n.ID)
	}
	for _, e := range n.On {
		if e.Node == "" && e.Slot == nil {
			bad("%s: an edge names no node", n.ID)
		} else if _, ok := known[e.Node]; !ok && e.Node != "" {
			bad("%s: stands on %s, which does not come before it", n.ID, e.Node)
		}
	}
}

// checkTable finds partitions that overlap, share a number or lie past the
// end of what carries them.
func checkTable(s *Storage, t *Node, bad func(string, ...any)) {
	var parts []*Node
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if n.Kind == KindPartition && len(n.On) == 1 && n.On[0].Node == t.ID && n.Partition != nil {
			parts = append(parts, n)
		}
	}
	for i, a := range parts {
		p := a.Partition
		if p.Number < 1 || p.Start < 0 || p.Size <= 0 {
			bad("%s: number %d, start %d, size %d make no partition", a.ID, p.Number, p.Start, p.Size)
		}
		if p.Start+p.Size > t.Bytes && t.Bytes > 0 {
			bad("%s: ends at byte %d, past the end of %s (%d)", a.ID, p.Start+p.Size, t.ID, t.Bytes)
		}
		for _, b := range parts[i+1:] {
			q := b.Partition
			if p.Number == q.Number {
				bad("%s and %s have the same number %d", a.ID, b.ID, p.Number)
			}
			extended := isExtended(p.Type) || isExtended(q.Type)
			if !extended && p.Start < q.Start+q.Size && q.Start < p.Start+p.Size {
				bad("%s and %s overlap", a.ID, b.ID)
			}
		}
	}
}

// isExtended tells whether an MBR type is one of a container of logical
// partitions.
func isExtended(t string) bool {
	switch strings.ToLower(t) {
	case "05", "0f", "85":
		return true
	}
	return false
}
