package netup

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
)

// Static is one ip= of the kernel command line:
// client:server:gateway:netmask:hostname:device:autoconf:dns0:dns1:ntp0.
type Static struct {
	Address  netip.Prefix // invalid: by DHCP
	Gateway  netip.Addr
	Hostname string
	Device   string // name or MAC; "" any
	DNS      []netip.Addr
	NTP      []netip.Addr
	Off      bool
}

// ParseIP reads the value of ip= in the kernel's syntax; IPv6 addresses stand
// in brackets. "dhcp", "on", "any" mean DHCP, "off" and "none" alone no
// network.
func ParseIP(v string) (Static, error) {
	var s Static
	bad := func(what string) (Static, error) {
		return Static{}, fmt.Errorf("ip=%s: %s; write ip=ADDRESS::GATEWAY:NETMASK:HOSTNAME:DEVICE:none:DNS or ip=dhcp", v, what)
	}
	f := fields(v)
	if len(f) == 1 {
		switch f[0] {
		case "dhcp", "on", "any", "both":
			return s, nil
		case "off", "none":
			s.Off = true
			return s, nil
		}
	}
	if len(f) == 2 && f[1] == "dhcp" { // ip=DEVICE:dhcp as dracut writes it
		s.Device = f[0]
		return s, nil
	}
	if len(f) > 10 {
		return bad("too many fields")
	}
	f = append(f, make([]string, 10-len(f))...)
	s.Hostname, s.Device = f[4], f[5]
	for _, d := range []struct {
		text string
		to   *[]netip.Addr
	}{{f[7], &s.DNS}, {f[8], &s.DNS}, {f[9], &s.NTP}} {
		if d.text == "" {
			continue
		}
		a, err := netip.ParseAddr(d.text)
		if err != nil {
			return bad(d.text + " is no address")
		}
		*d.to = append(*d.to, a)
	}
	if f[0] == "" {
		switch f[6] {
		case "off", "none":
			return bad("no address and no DHCP")
		}
		return s, nil
	}
	return s.address(f[0], f[2], f[3], bad)
}

func (s Static) address(addr, gw, mask string, bad func(string) (Static, error)) (Static, error) {
	bits := -1
	if p, b, ok := strings.Cut(addr, "/"); ok {
		addr, mask = p, b
	}
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return bad(addr + " is no address")
	}
	switch {
	case mask == "":
		return bad("the netmask is missing")
	case strings.Contains(mask, "."):
		ip := net.ParseIP(mask).To4()
		if ip == nil {
			return bad(mask + " is no netmask")
		}
		ones, size := net.IPMask(ip).Size()
		if size == 0 {
			return bad(mask + " is no netmask")
		}
		bits = ones
	default:
		if _, err := fmt.Sscanf(mask, "%d", &bits); err != nil {
			return bad(mask + " is no netmask")
		}
	}
	s.Address = netip.PrefixFrom(a, bits)
	if !s.Address.IsValid() || bits == 0 {
		return bad(mask + " is no netmask of " + addr)
	}
	if gw != "" {
		if s.Gateway, err = netip.ParseAddr(gw); err != nil {
			return bad(gw + " is no gateway")
		}
	}
	return s, nil
}

// fields splits at colons outside brackets and takes the brackets off.
func fields(v string) []string {
	var out []string
	var w strings.Builder
	depth := 0
	for _, r := range v {
		switch {
		case r == '[':
			depth++
		case r == ']' && depth > 0:
			depth--
		case r == ':' && depth == 0:
			out = append(out, w.String())
			w.Reset()
		default:
			w.WriteRune(r)
		}
	}
	return append(out, w.String())
}

// forCard finds the ip= that is meant for a card. One without a device is for
// the first card in kernel order.
func forCard(all []Static, c netlink.Link, cards []netlink.Link) (*Static, bool) {
	a := c.Attrs()
	for i := range all {
		s := &all[i]
		if s.Off {
			continue
		}
		if s.Device == a.Name || strings.EqualFold(s.Device, a.HardwareAddr.String()) {
			return s, true
		}
		if s.Device == "" {
			if !s.Address.IsValid() || cards[0].Attrs().Index == a.Index {
				return s, true
			}
		}
	}
	return nil, false
}

// setup is what an ip= puts on a card.
func (s *Static) setup(l netlink.Link) *setup {
	out := &setup{link: l, by: "static", addresses: []netip.Prefix{s.Address}, dns: s.DNS, ntp: s.NTP}
	if g := s.Gateway; g.IsValid() {
		to := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if g.Is6() {
			to = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		out.routes = []Route{{To: to, Via: g}}
	}
	return out
}
