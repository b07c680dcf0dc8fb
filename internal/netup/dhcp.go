package netup

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
)

// dhcp asks until the context ends: a switch port may drop everything for
// 50 s after carrier.
func (r *race) dhcp(ctx context.Context, l netlink.Link) (*setup, error) {
	name := l.Attrs().Name
	c, err := nclient4.New(name, nclient4.WithTimeout(4*time.Second), nclient4.WithRetry(2))
	if err != nil {
		return nil, fmt.Errorf("open DHCP: %w", err)
	}
	for {
		lease, err := c.Request(ctx)
		if err == nil {
			s, err := leased(l, lease)
			if err != nil {
				c.Close()
				return nil, err
			}
			s.stop = func() { c.Close() }
			s.renew = func(ctx context.Context) { renew(ctx, c, l, lease, r.opt.Log) }
			return s, nil
		}
		if ctx.Err() != nil {
			c.Close()
			return nil, fmt.Errorf("no DHCP server answered")
		}
		r.note(name, "no DHCP answer yet")
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// leased reads what a DHCP server gave.
func leased(l netlink.Link, lease *nclient4.Lease) (*setup, error) {
	ack := lease.ACK
	ip, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok || ip.IsUnspecified() {
		return nil, fmt.Errorf("the DHCP server gave no address")
	}
	bits := 32
	if m := ack.SubnetMask(); m != nil {
		bits, _ = m.Size()
		if bits == 0 {
			return nil, fmt.Errorf("the DHCP server gave the netmask %s", net.IP(m))
		}
	}
	s := &setup{link: l, by: "dhcp", addresses: []netip.Prefix{netip.PrefixFrom(ip, bits)}, dns: addrs(ack.DNS()), ntp: addrs(ack.NTPServers())}
	// Classless routes take the place of the router option (RFC 3442).
	for _, rt := range ack.ClasslessStaticRoute() {
		ones, _ := rt.Dest.Mask.Size()
		to, ok := netip.AddrFromSlice(rt.Dest.IP.To4())
		via, ok2 := netip.AddrFromSlice(rt.Router.To4())
		if !ok || !ok2 {
			continue
		}
		if via.IsUnspecified() {
			via = netip.Addr{} // on the link itself
		}
		s.routes = append(s.routes, Route{To: netip.PrefixFrom(to, ones).Masked(), Via: via})
	}
	if gws := addrs(ack.Router()); len(gws) > 0 && len(s.routes) == 0 {
		s.routes = []Route{{To: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Via: gws[0]}}
	}
	return s, nil
}

func addrs(ips []net.IP) []netip.Addr {
	var out []netip.Addr
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip.To4()); ok && !a.IsUnspecified() {
			out = append(out, a)
		}
	}
	return out
}

// renew keeps the lease while a long restore runs.
func renew(ctx context.Context, c *nclient4.Client, l netlink.Link, lease *nclient4.Lease, log func(string, ...any)) {
	defer c.Close()
	for {
		pause := lease.ACK.IPAddressLeaseTime(time.Hour) / 2
		if t1 := lease.ACK.IPAddressRenewalTime(0); t1 > 0 {
			pause = t1
		}
		pause = min(max(pause, 10*time.Second), 12*time.Hour)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		next, err := c.Renew(ctx, lease, dhcpv4.WithBroadcast(true))
		if err != nil {
			// The address is kept: losing it in the middle of a restore helps nobody.
			log("%s: the DHCP lease was not renewed: %v", l.Attrs().Name, err)
			continue
		}
		lease = next
	}
}
