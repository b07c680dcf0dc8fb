package netup

import (
	"net/netip"
	"slices"

	"lifeboat/manifest"
)

// Way is one way in which the host itself was on the network, made simple: no
// bridge, no second port that is not needed. The first way that reaches the
// backup wins.
type Way struct {
	Name  string // the captured interface
	Ports []Port // captured cards that lead to it, any of which will do
	// Bond is the mode of a bond that the switch takes part in. Empty where the
	// switch sees plain ports (active-backup, balance-tlb, balance-alb): then a
	// port alone does, whatever the switch.
	Bond      string
	VLAN      int            // tag; 0 is untagged
	MTU       int            // 0 or the kernel's default stay as they are
	Addresses []netip.Prefix // fixed ones; none: by DHCP
	Routes    []Route
	DNS       []netip.Addr
	Search    []string
}

// Port is a captured card.
type Port struct {
	Name, MAC, BusPath string // MAC is the one that it was made with
}

// Route is a route of a way; an invalid Via is a network on the link.
type Route struct {
	To     netip.Prefix
	Via    netip.Addr
	Source netip.Addr
}

// lag are modes in which both ends of a bond must agree. 802.3ad works with one
// port, and with a switch that knows nothing of it, too: a bond without an
// answer uses its port as it is. In the other modes the switch sends to every
// port that has a link, so all of them must be in.
var lag = []string{"802.3ad", "balance-rr", "balance-xor", "broadcast"}

// Captured are the ways of a captured network that DHCP on a card would not
// find: fixed addresses, and whatever lies on a VLAN.
func Captured(n *manifest.Network) []Way {
	c := captured{n: n, own: map[netip.Addr]bool{}}
	for _, l := range n.Links {
		for _, a := range l.Addresses {
			if p, err := netip.ParsePrefix(a); err == nil {
				c.own[p.Addr()] = true
			}
		}
	}
	var out []Way
	for i := range n.Links {
		l := &n.Links[i]
		if !l.Up || len(l.Addresses) == 0 {
			continue
		}
		w := Way{Name: l.Name, MTU: l.MTU, Addresses: fixed(l), Search: n.DNS.Search}
		if !c.below(l, &w, 0) || len(w.Addresses) == 0 && w.VLAN == 0 {
			continue
		}
		if len(w.Addresses) > 0 {
			w.Routes, w.DNS = c.routes(l.Name), c.dns()
		}
		out = append(out, w)
	}
	return out
}

type captured struct {
	n   *manifest.Network
	own map[netip.Addr]bool
}

// fixed are the addresses without a lifetime. Addresses of a single host
// beside one of a network are left out: such are moved between machines by
// programs, and another may have them now.
func fixed(l *manifest.Link) []netip.Prefix {
	var out []netip.Prefix
	network := map[bool]bool{}
	for _, s := range l.Addresses {
		p, err := netip.ParsePrefix(s)
		leased := slices.Contains(l.Leased, s) || l.Dynamic && len(l.Leased) == 0
		if err != nil || leased || p.Addr().IsLinkLocalUnicast() || p.Addr().IsLoopback() || p.Addr().Zone() != "" {
			continue
		}
		out = append(out, p)
		network[p.Addr().Is4()] = network[p.Addr().Is4()] || !p.IsSingleIP()
	}
	return slices.DeleteFunc(out, func(p netip.Prefix) bool { return p.IsSingleIP() && network[p.Addr().Is4()] })
}

// maxDepth is more than any host stacks: a bridge on a VLAN on a bond.
const maxDepth = 6

// below follows an interface down to its cards. False: it is something that a
// rescue system does not build, such as a tunnel or a VLAN inside a VLAN.
func (c *captured) below(l *manifest.Link, w *Way, depth int) bool {
	if depth > maxDepth {
		return false
	}
	switch l.Kind {
	case "vlan":
		parent := c.link(l.Parent)
		if w.VLAN != 0 || l.VLAN < 1 || l.VLAN > 4094 || parent == nil {
			return false
		}
		w.VLAN = l.VLAN
		return c.below(parent, w, depth+1)
	case "bond", "team":
		// What a team does is not captured; LACP does no harm where nobody answers.
		mode := l.Bond
		if l.Kind == "team" {
			mode = "802.3ad"
		}
		if slices.Contains(lag, mode) {
			w.Bond = mode
		}
		for _, m := range c.members(l.Name) {
			w.Ports = append(w.Ports, port(m))
		}
		return len(w.Ports) > 0
	case "bridge":
		for _, m := range c.members(l.Name) {
			if m.BusPath != "" || m.Kind == "vlan" || m.Kind == "bond" || m.Kind == "team" {
				return c.below(m, w, depth+1)
			}
		}
		return false
	}
	if l.BusPath == "" || l.MAC == "" {
		return false
	}
	w.Ports = append(w.Ports, port(l))
	return true
}

func (c *captured) link(name string) *manifest.Link {
	i := slices.IndexFunc(c.n.Links, func(l manifest.Link) bool { return l.Name == name })
	if i < 0 || name == "" {
		return nil
	}
	return &c.n.Links[i]
}

// members are the links of a bond or bridge, those with a cable first.
func (c *captured) members(name string) []*manifest.Link {
	var with, without []*manifest.Link
	for i := range c.n.Links {
		switch l := &c.n.Links[i]; {
		case l.Master != name:
		case l.Carrier:
			with = append(with, l)
		default:
			without = append(without, l)
		}
	}
	return append(with, without...)
}

func port(l *manifest.Link) Port {
	p := Port{Name: l.Name, MAC: l.PermMAC, BusPath: l.BusPath}
	if p.MAC == "" {
		p.MAC = l.MAC
	}
	return p
}

// routes are those of an interface that do not follow from its addresses.
func (c *captured) routes(dev string) []Route {
	var out []Route
	metric := map[netip.Prefix]int{}
	for _, r := range c.n.Routes {
		rt, ok := route(r)
		if !ok || r.Dev != dev || !rt.Via.IsValid() && rt.Source.IsValid() {
			continue // the kernel makes the route of an address by itself
		}
		if !rt.Via.IsValid() && slices.ContainsFunc(c.n.Links, func(l manifest.Link) bool { return l.Name == dev && connected(l, rt.To) }) {
			continue
		}
		i := slices.IndexFunc(out, func(o Route) bool { return o.To == rt.To })
		switch {
		case i < 0:
			out = append(out, rt)
		case r.Metric < metric[rt.To]:
			out[i] = rt
		default:
			continue
		}
		metric[rt.To] = r.Metric
	}
	// A gateway may itself be reached by one of the routes.
	slices.SortStableFunc(out, func(a, b Route) int {
		switch {
		case a.Via.IsValid() == b.Via.IsValid():
			return 0
		case b.Via.IsValid():
			return -1
		}
		return 1
	})
	return out
}

func connected(l manifest.Link, to netip.Prefix) bool {
	return slices.ContainsFunc(l.Addresses, func(s string) bool {
		p, err := netip.ParsePrefix(s)
		return err == nil && p.Masked() == to
	})
}

func route(r manifest.Route) (Route, bool) {
	var out Route
	var err error
	switch {
	case r.To == "default" && r.Family == 6:
		out.To = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	case r.To == "default":
		out.To = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	default:
		if out.To, err = netip.ParsePrefix(r.To); err != nil {
			return out, false
		}
	}
	if r.Via != "" {
		if out.Via, err = netip.ParseAddr(r.Via); err != nil || out.Via.Is4() != out.To.Addr().Is4() {
			return out, false // a gateway of the other family
		}
	}
	if r.Source != "" {
		if out.Source, err = netip.ParseAddr(r.Source); err != nil {
			return out, false
		}
	}
	return out, true
}

// dns are the resolvers that answer others too: none on the host itself.
func (c *captured) dns() []netip.Addr {
	var out []netip.Addr
	for _, s := range c.n.DNS.Servers {
		a, err := netip.ParseAddr(s)
		if err == nil && !a.IsLoopback() && a.Zone() == "" && !c.own[a] {
			out = append(out, a)
		}
	}
	return out
}
