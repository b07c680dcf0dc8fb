package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"lifeboat/manifest"
	"lifeboat/report"
)

// onCards gives a host cards that it uses, each at the bus path of its number.
func onCards(links ...manifest.Link) func(*Input) {
	return func(in *Input) {
		for _, l := range links {
			if l.Kind == "" {
				l.Kind = "ether"
			}
			in.Manifest.Network.Links = append(in.Manifest.Network.Links, l)
		}
		slices.SortFunc(in.Manifest.Network.Links, func(a, b manifest.Link) int { return strings.Compare(a.Name, b.Name) })
		// The modules that the captured network asks for are there.
		in.Machine.Kernel.Modules = append(in.Machine.Kernel.Modules, "8021q", "bonding")
	}
}

// was is a captured card with an address, number n, in slot s.
func was(name string, n, s int) manifest.Link {
	return manifest.Link{Name: name, MAC: fmt.Sprintf("52:54:00:00:00:%02x", n), Driver: "igb", BusPath: bus(s), Up: true, Carrier: true, Addresses: []string{fmt.Sprintf("192.0.2.%d/24", n)}}
}

// is is a card of the machine.
func is(n, s int) manifest.NIC {
	return manifest.NIC{Name: fmt.Sprintf("eth%d", s-1), MAC: fmt.Sprintf("52:54:00:00:00:%02x", n), Driver: "igb", BusPath: bus(s), Carrier: true}
}

func bus(s int) string { return fmt.Sprintf("pci0000:00/0000:00:%02x.0", s) }

func unused(l manifest.Link) manifest.Link {
	l.Addresses, l.Carrier, l.Up = nil, false, false
	return l
}

func pulled(n manifest.NIC) manifest.NIC { n.Carrier = false; return n }

func virtio(n manifest.NIC, number int) manifest.NIC {
	n.Driver, n.BusPath = "virtio_net", fmt.Sprintf("%s/virtio%d", n.BusPath, number)
	return n
}

var cardCases = []struct {
	name  string
	host  []manifest.Link
	files []manifest.File
	here  []manifest.NIC
	want  string // "name=kernel name by rule", blank between; "-" after it: nothing to do
	doubt []string
}{
	{name: "same", host: []manifest.Link{was("eno1", 1, 1)}, here: []manifest.NIC{is(1, 1)}},
	{name: "same card in another slot", host: []manifest.Link{was("enp1s0", 1, 1)}, here: []manifest.NIC{is(1, 5)}, want: "enp1s0=eth4 by mac"},
	{name: "custom name, same card", host: []manifest.Link{was("first", 1, 1)}, here: []manifest.NIC{is(1, 2)}, want: "first=eth1 by mac"},
	{name: "new card in the same slot", host: []manifest.Link{was("enp1s0", 1, 1)}, here: []manifest.NIC{is(9, 1)}, want: "enp1s0=eth0 by bus"},
	{name: "three cards, all addresses new", host: []manifest.Link{was("a", 1, 1), was("b", 2, 2), was("c", 3, 3)}, here: []manifest.NIC{is(11, 1), is(12, 2), is(13, 3)}, want: "a=eth0 by bus b=eth1 by bus c=eth2 by bus"},
	{name: "the only one", host: []manifest.Link{was("enp1s0", 1, 1)}, here: []manifest.NIC{is(9, 7)}, want: "enp1s0=eth6 by only"},
	{name: "the only one with a cable", host: []manifest.Link{was("enp1s0", 1, 1)}, here: []manifest.NIC{pulled(is(8, 6)), is(9, 7)}, want: "enp1s0=eth6 by cable"},
	{name: "another maker's card in the slot of two", host: []manifest.Link{was("a", 1, 1), was("b", 2, 2)}, here: []manifest.NIC{virtio(is(11, 1), 0), virtio(is(12, 2), 1)}, doubt: []string{"a", "b", "eth0", "eth1"}},
	{name: "two of two in other slots", host: []manifest.Link{was("a", 1, 1), was("b", 2, 2)}, here: []manifest.NIC{is(11, 4), is(12, 5)}, doubt: []string{"a (52:54:00:00:00:01)", "b (52:54:00:00:00:02)", "eth3 (52:54:00:00:00:0b)", "eth4"}},
	{name: "one of two known", host: []manifest.Link{was("a", 1, 1), was("b", 2, 2)}, here: []manifest.NIC{is(1, 1), is(12, 5)}, want: "b=eth4 by only"},
	{name: "four cards, one used, a virtual machine with one", host: []manifest.Link{was("a", 1, 1), unused(was("b", 2, 2)), unused(was("c", 3, 3)), unused(was("d", 4, 4))}, here: []manifest.NIC{is(12, 9)}, want: "a=eth8 by only"},
	{name: "named in a file only", host: []manifest.Link{was("a", 1, 1), unused(was("b", 2, 2))}, files: []manifest.File{{Path: "/etc/network/interfaces", Text: "# b0\nauto b\niface b inet manual\n"}},
		here: []manifest.NIC{is(12, 9)}, doubt: []string{"a (", "b ("}},
	{name: "in a comment only", host: []manifest.Link{was("a", 1, 1), unused(was("b", 2, 2))}, files: []manifest.File{{Path: "/etc/network/interfaces", Text: "# auto b\n"}},
		here: []manifest.NIC{is(12, 9)}, want: "a=eth8 by only"},
	{name: "more than are here", host: []manifest.Link{was("a", 1, 1), was("b", 2, 2)}, here: []manifest.NIC{is(1, 1)}, doubt: []string{"b (", "no card is left here"}},
	{name: "two with one address", host: []manifest.Link{was("a", 1, 1), was("b", 1, 2)}, here: []manifest.NIC{is(1, 5), is(3, 6)}, doubt: []string{"a (", "b ("}},
	{name: "exchanged", host: []manifest.Link{was("a", 1, 1), was("b", 2, 2)}, here: []manifest.NIC{is(2, 1), is(1, 2)}, want: "a=eth1 by mac swapped b=eth0 by mac swapped"},
	{name: "a stranger in the old slot", host: []manifest.Link{was("a", 1, 1)}, here: []manifest.NIC{is(9, 1), is(1, 2)}, want: "a=eth1 by mac swapped rival"},
	{name: "number of the virtio device", host: []manifest.Link{{Name: "ens3", MAC: "52:54:00:00:00:01", Driver: "virtio_net", BusPath: bus(3) + "/virtio0", Up: true, Addresses: []string{"192.0.2.1/24"}}},
		here: []manifest.NIC{virtio(is(1, 3), 2)}},
	{name: "members of a bond", host: []manifest.Link{bonded(was("a", 1, 1), 1), bonded(was("b", 1, 2), 2), {Name: "bond0", Kind: "bond", MAC: "52:54:00:00:00:01", Up: true, Addresses: []string{"192.0.2.1/24"}}},
		here: []manifest.NIC{is(2, 5), is(1, 6)}, want: "a=eth5 by mac b=eth4 by mac"},
	{name: "parent of a VLAN", host: []manifest.Link{unused(was("a", 1, 1)), {Name: "a.7", Kind: "vlan", Parent: "a", VLAN: 7, MAC: "52:54:00:00:00:01", Addresses: []string{"192.0.2.1/24"}}},
		here: []manifest.NIC{is(5, 5)}, want: "a=eth4 by only"},
	{name: "no card at all", host: []manifest.Link{was("a", 1, 1)}},
}

// bonded is a member whose own address is that of card n.
func bonded(l manifest.Link, n int) manifest.Link {
	l.Addresses, l.Master, l.PermMAC = nil, "bond0", fmt.Sprintf("52:54:00:00:00:%02x", n)
	return l
}

// TestCards: names are no identity; what maps without doubt keeps its name, the
// rest is named in a warning.
func TestCards(t *testing.T) {
	for _, c := range cardCases {
		s := scenario{host: biosHost, disks: disks(blank("NEW-1", 12*gib)), change: onCards(c.host...)}
		in := s.input()
		in.Manifest.Network.Files, in.Machine.NICs = c.files, c.here
		p := Make(in)
		var got []string
		for _, x := range p.Cards {
			got = append(got, fmt.Sprintf("%s=%s by %s%s", x.Name, x.Now, x.Rule, map[bool]string{true: " swapped"}[x.Swapped]+map[bool]string{true: " rival"}[x.Rival != ""]))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %q, want %q", c.name, s, c.want)
		}
		if step := slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Verb == VerbNetwork }); step != (c.want != "") {
			t.Errorf("%s: the step is there: %v", c.name, step)
		}
		text := ""
		for _, w := range p.Warnings {
			text += w.Text
		}
		if (text != "") != (len(c.doubt) > 0) || p.Refused() {
			t.Errorf("%s: warnings %q, refusals %v", c.name, text, codes(p.Refusals))
		}
		for _, d := range c.doubt {
			if !strings.Contains(text, d) {
				t.Errorf("%s: no %q in %q", c.name, d, text)
			}
		}
	}
}

// TestCardRenames: a new address is in the one table of old and new; a host on
// its own hardware has none.
func TestCardRenames(t *testing.T) {
	s := scenario{host: biosHost, disks: disks(blank("NEW-1", 12*gib)), change: onCards(was("a", 1, 1))}
	in := s.input()
	in.Machine.NICs = []manifest.NIC{is(9, 1)}
	want := Rename{Kind: RenameMAC, Old: "52:54:00:00:00:01", New: "52:54:00:00:00:09"}
	if p := Make(in); !slices.Contains(p.Renames, want) {
		t.Errorf("%+v", p.Renames)
	}
	in.Policy.OwnHardware = true
	if p := Make(in); len(p.Cards) > 0 || slices.Contains(codes(p.Warnings), report.CodeNetwork) {
		t.Errorf("%+v", p.Cards)
	}
}
