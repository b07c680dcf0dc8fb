package netup

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
)

// Addresses calls changed with the addresses at which this machine is reached,
// now and whenever they change, until ctx ends.
func Addresses(ctx context.Context, changed func([]netip.Addr)) {
	updates := make(chan netlink.AddrUpdate, 64)
	_ = netlink.AddrSubscribe(updates, ctx.Done()) // without it the tick does
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	var last []netip.Addr
	for {
		var now []netip.Addr
		list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		for _, a := range list {
			ip, ok := netip.AddrFromSlice(a.IP)
			if ip = ip.Unmap(); ok && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
				now = append(now, ip)
			}
		}
		slices.SortFunc(now, netip.Addr.Compare)
		if err == nil && !slices.Equal(now, last) {
			last = now
			changed(now)
		}
		select {
		case <-ctx.Done():
			return
		case _, ok := <-updates:
			if !ok {
				updates = nil
			}
		case <-tick.C:
		}
	}
}
