package capture

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lifeboat/manifest"
)

// network reads the network as running, by netlink, and as configured.
func (h *host) network() error {
	n := &h.m.Network
	var err error
	if n.Links, err = h.links(); err != nil {
		return fmt.Errorf("read the network links: %w", err)
	}
	if n.Routes, err = routes(n.Links); err != nil {
		return fmt.Errorf("read the routes: %w", err)
	}
	n.DNS = h.dns()
	if n.Files, err = h.networkFiles(); err != nil {
		return err
	}
	n.System = h.networkSystem()
	return nil
}

func (h *host) links() ([]manifest.Link, error) {
	list, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	for _, l := range list {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	out := []manifest.Link{}
	for _, l := range list {
		a := l.Attrs()
		k := manifest.Link{Name: a.Name, Kind: kindOf(l), MAC: a.HardwareAddr.String(), PermMAC: a.PermHWAddr.String(), MTU: a.MTU,
			Up: a.Flags&net.FlagUp != 0, Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0, Master: names[a.MasterIndex]}
		if k.PermMAC == k.MAC {
			k.PermMAC = ""
		}
		if dev, err := filepath.EvalSymlinks(h.sys("class/net/" + a.Name + "/device")); err == nil {
			if top, err := filepath.EvalSymlinks(h.sys("devices")); err == nil {
				k.BusPath, _ = filepath.Rel(top, dev)
			}
			if t, err := os.Readlink(filepath.Join(dev, "driver")); err == nil {
				k.Driver = filepath.Base(t)
			}
		}
		switch t := l.(type) {
		case *netlink.Vlan:
			k.VLAN, k.Parent = t.VlanId, names[a.ParentIndex]
		case *netlink.Bond:
			k.Bond = t.Mode.String()
		}
		if err := addresses(l, &k); err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b manifest.Link) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func kindOf(l netlink.Link) string {
	switch {
	case l.Type() != "device":
		return l.Type()
	case l.Attrs().Flags&net.FlagLoopback != 0:
		return "loopback"
	case l.Attrs().EncapType != "":
		return l.Attrs().EncapType
	}
	return "ether"
}

// addresses adds a link's addresses but those that it gives itself.
func addresses(l netlink.Link, k *manifest.Link) error {
	list, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if errors.Is(err, unix.ENODEV) {
		return nil // the link went meanwhile
	}
	if err != nil {
		return fmt.Errorf("addresses of %s: %w", k.Name, err)
	}
	for _, a := range list {
		if a.IP.IsLinkLocalUnicast() && a.IP.To4() == nil {
			continue
		}
		k.Addresses = append(k.Addresses, a.IPNet.String())
		if a.ValidLft > 0 && a.ValidLft < math.MaxInt32 {
			k.Dynamic, k.Leased = true, append(k.Leased, a.IPNet.String())
		}
	}
	return nil
}

// routes reads the main table; what the kernel makes by itself for multicast
// and link-local addresses is left out.
func routes(links []manifest.Link) ([]manifest.Route, error) {
	list, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	for _, l := range list {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	out := []manifest.Route{}
	for family, number := range map[int]int{netlink.FAMILY_V4: 4, netlink.FAMILY_V6: 6} {
		rs, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, err
		}
		for _, r := range rs {
			if r.Type != unix.RTN_UNICAST || r.Dst != nil && (r.Dst.IP.IsMulticast() || r.Dst.IP.IsLinkLocalUnicast() && number == 6) {
				continue
			}
			to := "default"
			if r.Dst != nil {
				if ones, _ := r.Dst.Mask.Size(); ones > 0 || !r.Dst.IP.IsUnspecified() {
					to = r.Dst.String()
				}
			}
			base := manifest.Route{To: to, Metric: r.Priority, Family: number, Dev: names[r.LinkIndex], Via: address(r.Gw), Source: address(r.Src)}
			if len(r.MultiPath) == 0 {
				out = append(out, base)
			}
			for _, hop := range r.MultiPath {
				base.Dev, base.Via = names[hop.LinkIndex], address(hop.Gw)
				out = append(out, base)
			}
		}
	}
	slices.SortFunc(out, func(a, b manifest.Route) int {
		return strings.Compare(fmt.Sprint(a.Family, a.To, a.Metric, a.Dev, a.Via), fmt.Sprint(b.Family, b.To, b.Metric, b.Dev, b.Via))
	})
	return out, nil
}

func address(ip net.IP) string {
	if ip == nil {
		return ""
	}
	return ip.String()
}

// resolvers are where the real servers stand, when /etc/resolv.conf names
// only a stub on the host itself.
var resolvers = []string{"etc/resolv.conf", "run/systemd/resolve/resolv.conf", "run/NetworkManager/no-stub-resolv.conf",
	"run/resolvconf/resolv.conf", "run/dnsmasq/resolv.conf", "etc/resolv.dnsmasq.conf"}

// dns reads the resolver configuration; stubs on the host's own addresses
// would answer nobody in a rescue system.
func (h *host) dns() manifest.DNS {
	var d manifest.DNS
	for _, name := range resolvers {
		got := parseResolv(h.text(name))
		if len(d.Search) == 0 {
			d.Search = got.Search
		}
		if len(got.Servers) > 0 {
			d.Servers = got.Servers
			break
		}
	}
	return d
}

// parseResolv reads resolv.conf(5) without loopback servers.
func parseResolv(text string) manifest.DNS {
	var d manifest.DNS
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			host, _, _ := strings.Cut(f[1], "%")
			if ip := net.ParseIP(host); ip != nil && !ip.IsLoopback() {
				d.Servers = append(d.Servers, f[1])
			}
		case "search", "domain":
			d.Search = f[1:]
			if d.Search[0] == "." {
				d.Search = nil
			}
		}
	}
	return d
}
