package plan

import (
	"fmt"
	"slices"
	"strings"

	"lifeboat/manifest"
	"lifeboat/report"
)

// Rules by which a network card takes the place of a captured one.
const (
	ByMAC   Rule = "mac"
	ByBus   Rule = "bus"   // same place on the bus, same driver
	ByOnly  Rule = "only"  // one card is left for the one that is left
	ByCable Rule = "cable" // the only one left that has a cable
)

// Card gives a captured network card its place on this machine. The restored
// system calls it as captured.
type Card struct {
	Name   string `json:"name"` // in the restored system
	Now    string `json:"now"`  // kernel name in the rescue system, for people
	Rule   Rule   `json:"rule"`
	OldMAC string `json:"old_mac"`
	NewMAC string `json:"new_mac"`
	Driver string `json:"driver,omitempty"` // of the new card
	// Keep: another MAC or another place on the bus, from either of which names
	// are made: a naming rule must say what the card is called.
	Keep bool `json:"keep,omitempty"`
	// Swapped: another card stands where this one's name comes from, so that an
	// earlier start stage may have given the name away.
	Swapped bool `json:"swapped,omitempty"`
	// Rival is the address of a card that stands there and takes nobody's
	// place: it must be kept from the name.
	Rival string `json:"rival,omitempty"`
}

// cardMatcher gives captured cards their places; -1 or absent: none yet.
type cardMatcher struct {
	k    *maker
	old  []*manifest.Link
	now  []manifest.NIC
	of   map[int]int // captured → now
	rule map[int]Rule
	used map[int]bool
}

// matchCards decides what each captured network card is here. What is in
// doubt is said with its names, and left as it is.
func (k *maker) matchCards() {
	if k.in.Policy.OwnHardware || len(k.mach.NICs) == 0 {
		return // nothing to choose from: a machine without a network, or a drill
	}
	c := cardMatcher{k: k, now: k.mach.NICs, of: map[int]int{}, rule: map[int]Rule{}, used: map[int]bool{}}
	for i := range k.m.Network.Links {
		if l := &k.m.Network.Links[i]; l.BusPath != "" && cardMAC(l) != "" {
			c.old = append(c.old, l)
		}
	}
	c.by(ByMAC, cardMAC, func(n manifest.NIC) string { return n.MAC })
	// Another maker's card in the same slot may be anything.
	place := func(bus, driver string) string {
		if bus = manifest.Slot(bus); bus == "" {
			return ""
		}
		return bus + " " + driver
	}
	c.by(ByBus, func(l *manifest.Link) string { return place(l.BusPath, l.Driver) }, func(n manifest.NIC) string { return place(n.BusPath, n.Driver) })
	c.last()
	c.result()
}

// cardMAC is the address that a card was made with.
func cardMAC(l *manifest.Link) string {
	if l.PermMAC != "" {
		return strings.ToLower(l.PermMAC)
	}
	return strings.ToLower(l.MAC)
}

// by matches what has the same key; a key that two have tells nothing.
func (c *cardMatcher) by(rule Rule, old func(*manifest.Link) string, now func(manifest.NIC) string) {
	have := map[string][]int{}
	for j, n := range c.now {
		have[strings.ToLower(now(n))] = append(have[strings.ToLower(now(n))], j)
	}
	for i, l := range c.old {
		key := strings.ToLower(old(l))
		twin := func(o *manifest.Link) bool { return o != l && strings.ToLower(old(o)) == key }
		if _, done := c.of[i]; done || key == "" || len(have[key]) != 1 || c.used[have[key][0]] || slices.ContainsFunc(c.old, twin) {
			continue
		}
		c.set(i, have[key][0], rule)
	}
}

func (c *cardMatcher) set(i, j int, rule Rule) { c.of[i], c.rule[i], c.used[j] = j, rule, true }

// wanted tells whether the host did anything with a card: an address, a VLAN,
// a bond or bridge, or its name in a configuration file.
func (c *cardMatcher) wanted(l *manifest.Link) bool {
	if len(l.Addresses) > 0 || l.Master != "" {
		return true
	}
	for _, o := range c.k.m.Network.Links {
		if o.Parent == l.Name && o.Name != l.Name {
			return true
		}
	}
	for _, f := range c.k.m.Network.Files {
		if namesLink(string(f.Path), string(f.Text), l.Name) {
			return true
		}
	}
	return false
}

// namesLink tells whether a configuration file, its comments apart, names an
// interface as a word of its own.
func namesLink(path, text, name string) bool {
	if strings.HasSuffix(path, "/hosts") || strings.HasSuffix(path, "resolv.conf") || strings.Contains(path, "/udev/") {
		return false
	}
	if strings.HasSuffix(path, "/ifcfg-"+name) {
		return true
	}
	other := func(r rune) bool { return strings.ContainsRune(" \t=:,;\"'[]{}", r) }
	for line := range strings.Lines(text) {
		if t := strings.TrimSpace(line); t != "" && t[0] != '#' && t[0] != ';' && slices.Contains(strings.FieldsFunc(t, other), name) {
			return true
		}
	}
	return false
}

// last gives the one card that the host needs and that is left its place, when
// one card is left here, or one with a cable. More of either is doubt.
func (c *cardMatcher) last() {
	var old, now, cable []int
	for i, l := range c.old {
		if _, done := c.of[i]; !done && c.wanted(l) {
			old = append(old, i)
		}
	}
	for j, n := range c.now {
		if c.used[j] || n.MAC == "" {
			continue
		}
		now = append(now, j)
		if n.Carrier {
			cable = append(cable, j)
		}
	}
	switch {
	case len(old) == 0:
	case len(old) == 1 && len(now) == 1:
		c.set(old[0], now[0], ByOnly)
	case len(old) == 1 && len(cable) == 1:
		c.set(old[0], cable[0], ByCable)
	default:
		c.doubt(old, now)
	}
}

func (c *cardMatcher) doubt(old, now []int) {
	var was, is []string
	for _, i := range old {
		was = append(was, fmt.Sprintf("%s (%s)", c.old[i].Name, cardMAC(c.old[i])))
	}
	for _, j := range now {
		is = append(is, fmt.Sprintf("%s (%s)", c.now[j].Name, c.now[j].MAC))
	}
	here := "no card is left here"
	if len(is) > 0 {
		here = "left here: " + strings.Join(is, ", ")
	}
	c.k.warn(report.CodeNetwork, strings.Join(was, ", "), "after the recovery give the cards their names by .link files in /etc/systemd/network, or correct the network configuration",
		"which network card is to be %s is in doubt (%s): the restored system may come up without these", strings.Join(was, ", "), here)
}

// result lists the cards, and adds the changed addresses to the one table of
// old and new.
func (c *cardMatcher) result() {
	for i, l := range c.old {
		j, ok := c.of[i]
		if !ok {
			continue
		}
		n := c.now[j]
		card := Card{Name: l.Name, Now: n.Name, Rule: c.rule[i], OldMAC: cardMAC(l), NewMAC: strings.ToLower(n.MAC), Driver: n.Driver}
		moved := manifest.Slot(l.BusPath) != manifest.Slot(n.BusPath)
		card.Keep = moved || card.OldMAC != card.NewMAC
		for o, other := range c.now {
			if moved && manifest.Slot(other.BusPath) == manifest.Slot(l.BusPath) {
				card.Swapped = true
				if !c.used[o] {
					card.Rival = strings.ToLower(other.MAC)
				}
			}
		}
		if !card.Keep {
			continue
		}
		c.k.p.Cards = append(c.k.p.Cards, card)
		if card.OldMAC != card.NewMAC {
			c.k.p.Renames = append(c.k.p.Renames, Rename{Kind: RenameMAC, Old: card.OldMAC, New: card.NewMAC})
		}
	}
}

// cardRules says for people why a card is taken for a captured one.
var cardRules = map[Rule]string{ByMAC: "the same address", ByBus: "the same place and driver", ByOnly: "the only card left", ByCable: "the only card left with a cable"}

func (p *Plan) cardsText(b *strings.Builder) {
	if len(p.Cards) == 0 {
		return
	}
	section(b, "Network cards", len(p.Cards), "")
	for _, c := range p.Cards {
		fmt.Fprintf(b, "  %s (%s) will be %s: %s\n", c.Now, c.NewMAC, quote(c.Name), cardRules[c.Rule])
	}
}
