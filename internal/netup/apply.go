package netup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// setup is what one way puts on a link.
type setup struct {
	link      netlink.Link
	by        string // dhcp, static, captured
	name      string // of the captured interface
	addresses []netip.Prefix
	routes    []Route
	dns, ntp  []netip.Addr
	search    []string
	mtu       int
	renew     func(context.Context) // keeps the lease
	stop      func()                // gives the lease up
	end       func()                // lets another card try the same way
}

// undo is what takes a setup down again, last first.
type undo []func() error

func (u undo) all() {
	for _, f := range slices.Backward(u) {
		_ = f()
	}
}

// apply puts a setup in force. What it returns takes it back, after an error,
// too.
func (s *setup) apply(ctx context.Context, r *race) (u undo, err error) {
	log := r.opt.Log
	u = s.setMTU(log)
	var last error
	var done []netip.Prefix
	for _, p := range s.addresses {
		if err := setAddress(s.link, p); err != nil {
			last = err
			log("%s: %v", s.link.Attrs().Name, err)
			continue
		}
		u = append(u, func() error { return netlink.AddrDel(s.link, &netlink.Addr{IPNet: ipnet(p)}) })
		if p.Addr().Is6() {
			if err := settled6(ctx, s.link, p); err != nil {
				last = err
				log("%s: %v", s.link.Attrs().Name, err)
				r.sayTaken(err)
				_ = u[len(u)-1]()
				u = u[:len(u)-1]
				continue
			}
		}
		done = append(done, p)
	}
	if len(done) == 0 {
		return u, last
	}
	s.addresses = done
	for _, to := range s.routes {
		rt := s.route(to)
		if err := netlink.RouteReplace(rt); err != nil {
			// One of several routes may be what the backup needs, or not.
			last = fmt.Errorf("set the route to %s: %w", to.To, err)
			log("%s: %v", s.link.Attrs().Name, last)
			continue
		}
		u = append(u, func() error { return netlink.RouteDel(rt) })
	}
	return u, writeResolv(r.opt.Resolv, s.dns, s.search)
}

func (s *setup) route(r Route) *netlink.Route {
	rt := &netlink.Route{LinkIndex: s.link.Attrs().Index, Dst: ipnet(r.To)}
	if r.Via.IsValid() {
		rt.Gw = r.Via.AsSlice()
	} else {
		rt.Scope = netlink.SCOPE_LINK
	}
	// A gateway may lie outside of every prefix, as that of a /32 lease does.
	inside := slices.ContainsFunc(s.addresses, func(p netip.Prefix) bool { return p.Masked().Contains(r.Via) })
	if r.Via.IsValid() && !inside && !r.Via.IsLinkLocalUnicast() {
		rt.Flags = int(netlink.FLAG_ONLINK)
	}
	if own := slices.ContainsFunc(s.addresses, func(p netip.Prefix) bool { return p.Addr() == r.Source }); own {
		rt.Src = r.Source.AsSlice()
	}
	return rt
}

// setMTU sets the captured frame size on the link and what it stands on; a card
// that cannot carry it keeps its own.
func (s *setup) setMTU(log func(string, ...any)) (u undo) {
	links := []netlink.Link{s.link}
	if v, ok := s.link.(*netlink.Vlan); ok {
		if p, err := netlink.LinkByIndex(v.ParentIndex); err == nil && p.Attrs().MTU < s.mtu {
			links = []netlink.Link{p, s.link}
		}
	}
	for _, l := range links {
		old := l.Attrs().MTU
		if s.mtu < 576 || s.mtu == old {
			continue
		}
		if err := netlink.LinkSetMTU(l, s.mtu); err != nil {
			log("%s: frames of %d bytes as on the host are not possible: %v", l.Attrs().Name, s.mtu, err)
			continue
		}
		u = append(u, func() error { return netlink.LinkSetMTU(l, old) })
	}
	return u
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func setAddress(l netlink.Link, p netip.Prefix) error {
	if err := netlink.AddrReplace(l, &netlink.Addr{IPNet: ipnet(p)}); err != nil {
		return fmt.Errorf("set address %s: %w", p, err)
	}
	return nil
}

// settled6 waits until the kernel knows that nobody else has an IPv6 address.
func settled6(ctx context.Context, l netlink.Link, p netip.Prefix) error {
	who := func() string { return "" }
	if ifc, err := net.InterfaceByIndex(l.Attrs().Index); err == nil {
		if f, err := advert(ifc, p.Addr()); err == nil {
			who = f
		}
	}
	state, err := dad(ctx, l, p)
	mac := who()
	switch {
	case err != nil:
		return err
	case state&unix.IFA_F_DADFAILED != 0:
		return &Taken{Address: p.Addr(), MAC: mac}
	}
	return nil
}

// dad follows an address until it is no longer tentative.
func dad(ctx context.Context, l netlink.Link, p netip.Prefix) (flags int, err error) {
	for {
		list, err := netlink.AddrList(l, netlink.FAMILY_V6)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return 0, fmt.Errorf("read the addresses of %s: %w", l.Attrs().Name, err)
		}
		i := slices.IndexFunc(list, func(a netlink.Addr) bool { return a.IP.Equal(p.Addr().AsSlice()) })
		if i < 0 && err == nil {
			return unix.IFA_F_DADFAILED, nil // newer kernels take a double away at once
		}
		if i >= 0 {
			f := list[i].Flags
			if f&unix.IFA_F_DADFAILED != 0 || f&unix.IFA_F_TENTATIVE == 0 {
				return f, nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func writeResolv(path string, dns []netip.Addr, search []string) error {
	if len(dns) == 0 {
		return nil
	}
	var b strings.Builder
	if len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	for _, d := range dns {
		fmt.Fprintf(&b, "nameserver %s\n", d)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write resolvers: %w", err)
	}
	return nil
}
