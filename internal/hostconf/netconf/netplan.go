package netconf

import (
	"bytes"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// netplan edits the macaddress of match blocks in their places, so that the
// rest of the file stays as it was written. A file that is no YAML stays.
func (r *rewriter) netplan(text []byte) ([]byte, int) {
	var doc yaml.Node
	if yaml.Unmarshal(text, &doc) != nil {
		return text, 0
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	r.matches(&doc, 0, func(n *yaml.Node) {
		if n.Line < 1 || n.Line > len(lines) {
			return
		}
		line := lines[n.Line-1]
		// Columns count characters, and point to the quote if there is one.
		start := 0
		for range n.Column - 1 {
			_, w := utf8.DecodeRune(line[start:])
			start += w
		}
		at := bytes.Index(line[start:], []byte(n.Value))
		if at < 0 {
			return // written in another way than it reads: escapes
		}
		at += start
		lines[n.Line-1] = []byte(string(line[:at]) + r.one(n.Value) + string(line[at+len(n.Value):]))
	})
	if r.n == 0 {
		return text, 0
	}
	return bytes.Join(lines, nil), r.n
}

// maxYAML is deeper than any netplan file goes.
const maxYAML = 32

// matches calls found with each macaddress below a match. Aliases are not
// followed: what they stand for is seen where it is written.
func (r *rewriter) matches(n *yaml.Node, depth int, found func(*yaml.Node)) {
	if depth > maxYAML {
		return
	}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && c.Value == "match" && i+1 < len(n.Content) {
			m := n.Content[i+1]
			for j := 0; m.Kind == yaml.MappingNode && j+1 < len(m.Content); j += 2 {
				if v := m.Content[j+1]; m.Content[j].Value == "macaddress" && v.Kind == yaml.ScalarNode {
					found(v)
				}
			}
		}
		r.matches(c, depth+1, found)
	}
}
