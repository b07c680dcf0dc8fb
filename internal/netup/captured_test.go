package netup

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"lifeboat/manifest"
)

// nic is a captured card.
func nic(name, mac string, l manifest.Link) manifest.Link {
	l.Name, l.Kind, l.MAC, l.BusPath, l.Up, l.Carrier = name, "ether", mac, "pci0000:00/"+name, true, true
	if l.MTU == 0 {
		l.MTU = 1500
	}
	return l
}

func text(ws []Way) string {
	var out []string
	for _, w := range ws {
		var ports []string
		for _, p := range w.Ports {
			ports = append(ports, p.Name)
		}
		s := fmt.Sprintf("%s: ports %s bond %q vlan %d mtu %d addresses %v dns %v", w.Name, strings.Join(ports, "+"), w.Bond, w.VLAN, w.MTU, w.Addresses, w.DNS)
		for _, r := range w.Routes {
			s += fmt.Sprintf("; %s via %s", r.To, r.Via)
		}
		out = append(out, s)
	}
	return strings.Join(out, "\n")
}

func TestCaptured(t *testing.T) {
	for _, c := range []struct {
		name string
		n    manifest.Network
		want string
	}{
		{"DHCP needs no way of its own", manifest.Network{Links: []manifest.Link{
			nic("eth0", "52:54:00:00:00:01", manifest.Link{Addresses: []string{"10.0.0.5/24"}, Dynamic: true, Leased: []string{"10.0.0.5/24"}})}}, ""},
		{"a manifest without the list of leased addresses", manifest.Network{Links: []manifest.Link{
			nic("eth0", "52:54:00:00:00:01", manifest.Link{Addresses: []string{"10.0.0.5/24"}, Dynamic: true})}}, ""},
		{"fixed IPv4 beside an IPv6 address by router advertisement; a stub on the host's own address", manifest.Network{
			Links: []manifest.Link{nic("enp3s0", "52:54:00:00:00:01", manifest.Link{Dynamic: true, Leased: []string{"2001:db8::1234/64"},
				Addresses: []string{"10.0.0.5/24", "2001:db8::1234/64"}})},
			Routes: []manifest.Route{{To: "default", Via: "10.0.0.1", Dev: "enp3s0", Family: 4}, {To: "10.0.0.0/24", Dev: "enp3s0", Source: "10.0.0.5", Family: 4},
				{To: "192.168.7.0/24", Via: "10.0.0.9", Dev: "enp3s0", Family: 4}, {To: "10.9.0.0/16", Via: "10.1.0.1", Dev: "tun0", Family: 4}},
			DNS: manifest.DNS{Servers: []string{"10.0.0.5", "10.0.0.53", "fe80::1%enp3s0", "::1"}}},
			`enp3s0: ports enp3s0 bond "" vlan 0 mtu 1500 addresses [10.0.0.5/24] dns [10.0.0.53]; 0.0.0.0/0 via 10.0.0.1; 192.168.7.0/24 via 10.0.0.9`},
		{"the bridge on a VLAN on a LACP bond, and the bond's own address", manifest.Network{
			Links: []manifest.Link{
				nic("eno1", "aa:aa:aa:aa:aa:01", manifest.Link{Master: "bond0", PermMAC: "aa:aa:aa:aa:aa:01"}),
				nic("eno2", "aa:aa:aa:aa:aa:01", manifest.Link{Master: "bond0", PermMAC: "aa:aa:aa:aa:aa:02"}),
				{Name: "bond0", Kind: "bond", Bond: "802.3ad", Up: true, MTU: 9000, Addresses: []string{"10.1.0.5/24"}},
				{Name: "bond0.20", Kind: "vlan", VLAN: 20, Parent: "bond0", Up: true, MTU: 9000, Master: "br0"},
				{Name: "tap0", Kind: "tun", Up: true, Master: "br0"},
				{Name: "br0", Kind: "bridge", Up: true, MTU: 9000, Addresses: []string{"10.2.0.5/24", "10.2.0.100/32", "2001:db8:2::5/64"}},
			},
			Routes: []manifest.Route{{To: "default", Via: "10.2.0.1", Dev: "br0", Family: 4, Metric: 100}, {To: "default", Via: "10.2.0.2", Dev: "br0", Family: 4, Metric: 10},
				{To: "2001:db8:2::/64", Dev: "br0", Family: 6}, {To: "default", Via: "fe80::1", Dev: "br0", Family: 6}}},
			`bond0: ports eno1+eno2 bond "802.3ad" vlan 0 mtu 9000 addresses [10.1.0.5/24] dns []
br0: ports eno1+eno2 bond "802.3ad" vlan 20 mtu 9000 addresses [10.2.0.5/24 2001:db8:2::5/64] dns []; 0.0.0.0/0 via 10.2.0.2; ::/0 via fe80::1`},
		{"a switch sees plain ports below active-backup; a VLAN with DHCP", manifest.Network{Links: []manifest.Link{
			nic("eno1", "aa:aa:aa:aa:aa:01", manifest.Link{Master: "bond0"}),
			{Name: "bond0", Kind: "bond", Bond: "active-backup", Up: true},
			{Name: "v5", Kind: "vlan", VLAN: 5, Parent: "bond0", Up: true, MTU: 1500, Dynamic: true, Leased: []string{"10.5.0.7/24"}, Addresses: []string{"10.5.0.7/24"}}}},
			`v5: ports eno1 bond "" vlan 5 mtu 1500 addresses [] dns []`},
		{"what a rescue system does not build", manifest.Network{Links: []manifest.Link{
			nic("eno1", "aa:aa:aa:aa:aa:01", manifest.Link{}),
			{Name: "q", Kind: "vlan", VLAN: 5, Parent: "eno1", Up: true},
			{Name: "qq", Kind: "vlan", VLAN: 6, Parent: "q", Up: true, Addresses: []string{"10.0.0.1/24"}},
			{Name: "loop", Kind: "vlan", VLAN: 5, Parent: "loop", Up: true, Addresses: []string{"10.0.0.2/24"}},
			{Name: "wg0", Kind: "wireguard", Up: true, Addresses: []string{"10.0.0.3/24"}},
			{Name: "docker0", Kind: "bridge", Up: true, Addresses: []string{"172.17.0.1/16"}},
			{Name: "down", Kind: "ether", BusPath: "x", MAC: "aa:aa:aa:aa:aa:09", Addresses: []string{"10.0.0.4/24"}}}}, ""},
	} {
		if got := text(Captured(&c.n)); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestMatch(t *testing.T) {
	a, b := Port{"eno1", "aa:00:00:00:00:01", "pci/0"}, Port{"eno2", "aa:00:00:00:00:02", "pci/1"}
	card := func(i int, mac, bus string, carrier bool) Card {
		return Card{Index: i, Name: fmt.Sprint("eth", i), MAC: mac, BusPath: bus, Carrier: carrier}
	}
	for _, c := range []struct {
		name  string
		ports []Port
		cards []Card
		loose bool
		want  string
	}{
		{"by MAC, though the places changed", []Port{a, b}, []Card{card(1, "AA:00:00:00:00:02", "pci/0", true), card(2, "aa:00:00:00:00:01", "pci/1", true)}, false, "eno1=2 eno2=1"},
		{"all MACs are new", []Port{a, b}, []Card{card(1, "bb:00:00:00:00:01", "pci/1", true), card(2, "bb:00:00:00:00:02", "pci/0", true)}, false, "eno1=2 eno2=1"},
		{"one was moved, one is new in its place", []Port{a, b}, []Card{card(1, a.MAC, "pci/1", true), card(2, "bb:00:00:00:00:02", "pci/0", true)}, false, "eno1=1"},
		{"the same later: the only one that is left", []Port{a, b}, []Card{card(1, a.MAC, "pci/1", true), card(2, "bb:00:00:00:00:02", "pci/0", true)}, true, "eno1=1 eno2=2"},
		{"a machine with one card of another kind", []Port{a, b}, []Card{card(1, "bb:00:00:00:00:01", "virtio0", true)}, true, "eno1=1 eno2=1"},
		{"two cables: no guess", []Port{a}, []Card{card(1, "bb:00:00:00:00:01", "x", true), card(2, "bb:00:00:00:00:02", "y", true)}, true, ""},
		{"one of two has a cable", []Port{a}, []Card{card(1, "bb:00:00:00:00:01", "x", false), card(2, "bb:00:00:00:00:02", "y", true)}, true, "eno1=2"},
		{"the number of the virtio device is no place", []Port{{"ens3", "aa:00:00:00:00:03", "pci/3/virtio0"}}, []Card{card(1, "bb:00:00:00:00:01", "pci/3/virtio2", true)}, false, "ens3=1"},
		{"too early to tell", []Port{a}, []Card{card(2, "bb:00:00:00:00:02", "y", true)}, false, ""},
		{"one MAC twice tells nothing", []Port{a, {"eno2", a.MAC, ""}}, []Card{card(1, a.MAC, "", true), card(2, "cc:00:00:00:00:00", "", true)}, false, ""},
	} {
		m := match(c.ports, c.cards, c.loose)
		var got []string
		for _, p := range c.ports {
			if x, ok := m[p]; ok {
				got = append(got, fmt.Sprintf("%s=%d", p.Name, x.Index))
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
}

func TestARP(t *testing.T) {
	us := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	a := netip.MustParseAddr("10.0.0.5")
	q := arpProbe(us, a)
	m, ok := parseARP(append(q, make([]byte, 18)...)) // padded to Ethernet's least size
	if !ok || m.op != arpRequest || m.target != a || !m.sender.IsUnspecified() {
		t.Fatalf("%+v %v", m, ok)
	}
	if m.conflicts(a, us) {
		t.Error("our own question is a conflict")
	}
	if !m.conflicts(a, net.HardwareAddr{2, 0, 0, 0, 0, 2}) {
		t.Error("another machine that is about to take the address is none")
	}
	m.sender = a
	if !m.conflicts(a, net.HardwareAddr{2, 0, 0, 0, 0, 2}) || m.conflicts(netip.MustParseAddr("10.0.0.6"), net.HardwareAddr{2}) {
		t.Error("an answer")
	}
}

func FuzzARP(f *testing.F) {
	f.Add(arpProbe(net.HardwareAddr{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("10.0.0.5")), []byte{0x60})
	f.Add([]byte{0, 1, 8, 0, 6, 4}, make([]byte, 64))
	f.Fuzz(func(t *testing.T, b, six []byte) {
		if m, ok := parseARP(b); ok && (len(m.senderMAC) != 6 || !m.sender.Is4()) {
			t.Errorf("%x: %+v", b, m)
		}
		advertises(six, netip.IPv6Unspecified())
	})
}

// FuzzCaptured: whatever a manifest says, no way has an address that is not
// the link's, no tag beyond the standard, and it ends.
func FuzzCaptured(f *testing.F) {
	f.Add("eth0", "vlan", "eth0", "10.0.0.1/24", 7)
	f.Add("b", "bridge", "b", "::/0", 0)
	f.Fuzz(func(t *testing.T, name, kind, other, addr string, tag int) {
		n := manifest.Network{Links: []manifest.Link{{Name: name, Kind: kind, Parent: other, Master: other, VLAN: tag, Up: true, Addresses: []string{addr}},
			nic(other, "aa:aa:aa:aa:aa:01", manifest.Link{Addresses: []string{addr}, Master: name})},
			Routes: []manifest.Route{{To: addr, Via: other, Dev: name}}, DNS: manifest.DNS{Servers: []string{addr, other}}}
		for _, w := range Captured(&n) {
			if w.VLAN < 0 || w.VLAN > 4094 || len(w.Ports) == 0 {
				t.Errorf("%+v", w)
			}
		}
	})
}
