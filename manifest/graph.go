package manifest

// Node returns the node of an id, or nil.
func (s *Storage) Node(id ID) *Node {
	for i := range s.Nodes {
		if s.Nodes[i].ID == id {
			return &s.Nodes[i]
		}
	}
	return nil
}

// Below returns every node that id stands on, down to the disks, id first,
// each once.
func (s *Storage) Below(id ID) []*Node {
	var out []*Node
	seen := map[ID]bool{}
	var walk func(ID)
	walk = func(id ID) {
		n := s.Node(id)
		if n == nil || seen[id] {
			return
		}
		seen[id] = true
		out = append(out, n)
		for _, e := range n.On {
			walk(e.Node)
		}
	}
	walk(id)
	return out
}

// Above returns every node that stands on id, directly or not, in the graph's
// order, without id.
func (s *Storage) Above(id ID) []*Node {
	seen := map[ID]bool{id: true}
	var out []*Node
	for i := range s.Nodes { // below before above: one pass is enough
		n := &s.Nodes[i]
		for _, e := range n.On {
			if seen[e.Node] && !seen[n.ID] {
				seen[n.ID] = true
				out = append(out, n)
			}
		}
	}
	return out
}

// Disks returns the whole disks under id.
func (s *Storage) Disks(id ID) []*Node {
	var out []*Node
	for _, n := range s.Below(id) {
		if n.Kind == KindDisk {
			out = append(out, n)
		}
	}
	return out
}

// OfKind returns the nodes of one kind in the graph's order.
func (s *Storage) OfKind(k Kind) []*Node {
	var out []*Node
	for i := range s.Nodes {
		if s.Nodes[i].Kind == k {
			out = append(out, &s.Nodes[i])
		}
	}
	return out
}

// MountsOf returns the mounts of a node.
func (s *Storage) MountsOf(id ID) []Mount {
	var out []Mount
	for _, m := range s.Mounts {
		if m.Node == id {
			out = append(out, m)
		}
	}
	return out
}
