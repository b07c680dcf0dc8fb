package netup

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// own is how names of links begin that this package made: it may take them
// away again.
const own = "lb"

// vlan makes a tagged link on a card or bond.
func vlan(parent netlink.Link, tag int) (netlink.Link, error) {
	name := fmt.Sprintf("%s%d.%d", own, parent.Attrs().Index, tag)
	a := netlink.NewLinkAttrs()
	a.Name, a.ParentIndex = name, parent.Attrs().Index
	return made(&netlink.Vlan{LinkAttrs: a, VlanId: tag, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q})
}

// bond makes a bond of ports, which lose their addresses to it.
func bond(mode string, ports []Card, log func(string, ...any)) (netlink.Link, error) {
	b := netlink.NewLinkBond(netlink.LinkAttrs{Name: fmt.Sprintf("%sbond%d", own, ports[0].Index), MTU: 0, TxQLen: -1})
	b.Mode = netlink.StringToBondMode(mode)
	b.Miimon = 100
	if b.Mode == netlink.BOND_MODE_802_3AD {
		b.LacpRate = netlink.BOND_LACP_RATE_FAST // the first answer comes within seconds
	}
	l, err := made(b)
	if err != nil {
		return nil, err
	}
	joined := 0
	for _, p := range ports {
		if err := enslave(p, l); err != nil {
			log("%s: %v", p.Name, err)
			continue
		}
		joined++
	}
	if joined == 0 {
		_ = netlink.LinkDel(l)
		return nil, fmt.Errorf("no card could join a bond of mode %s", mode)
	}
	return l, netlink.LinkSetUp(l)
}

// enslave adds a card to a bond: the kernel wants it down.
func enslave(p Card, bond netlink.Link) error {
	l, err := netlink.LinkByIndex(p.Index)
	if err == nil {
		err = netlink.LinkSetDown(l)
	}
	if err == nil {
		err = netlink.LinkSetMasterByIndex(l, bond.Attrs().Index)
	}
	if err != nil {
		return fmt.Errorf("join the bond: %w", err)
	}
	return nil
}

// made adds a link, in place of one of ours that was left behind, and returns
// it as the kernel has it.
func made(l netlink.Link) (netlink.Link, error) {
	name := l.Attrs().Name
	if old, err := netlink.LinkByName(name); err == nil {
		if err := netlink.LinkDel(old); err != nil {
			return nil, fmt.Errorf("take the old %s away: %w", name, err)
		}
	}
	if err := netlink.LinkAdd(l); err != nil {
		return nil, fmt.Errorf("make a %s link (is the kernel module there?): %w", l.Type(), err)
	}
	return netlink.LinkByName(name)
}

// cleanOwn takes away links of an earlier try, and the addresses that it put
// on cards: what is tested next must not lean on them.
func cleanOwn(keep map[int]bool) error {
	all, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list network links: %w", err)
	}
	for _, kind := range []string{"vlan", "bond"} { // what stands on others first
		for _, l := range all {
			if l.Type() == kind && strings.HasPrefix(l.Attrs().Name, own) && !keep[l.Attrs().Index] {
				if err := netlink.LinkDel(l); err != nil {
					return fmt.Errorf("take %s away: %w", l.Attrs().Name, err)
				}
			}
		}
	}
	cards, err := Cards()
	if err != nil {
		return err
	}
	for _, l := range cards {
		if keep[l.Attrs().Index] {
			continue
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if !a.IP.IsLinkLocalUnicast() {
				_ = netlink.AddrDel(l, &a)
			}
		}
	}
	return nil
}

// bondTime is how long the ports of a bond are tried as a bond, and as long
// as single cards, in turn: the switch here may be another than the host's.
const bondTime = 60 * time.Second
