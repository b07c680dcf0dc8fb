package netup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// Cards are the Ethernet cards of this machine: links with a device below.
func Cards() ([]netlink.Link, error) {
	all, err := netlink.LinkList()
	// A dump that something changed under is looked at again by the caller's next round.
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list network links: %w", err)
	}
	var out []netlink.Link
	for _, l := range all {
		a := l.Attrs()
		if a.Flags&net.FlagLoopback != 0 || len(a.HardwareAddr) != 6 {
			continue
		}
		// A bridge or bond has no device link; veth stands in for a card in tests.
		if _, err := os.Stat(filepath.Join("/sys/class/net", a.Name, "device")); err != nil && l.Type() != "veth" {
			continue
		}
		out = append(out, l)
	}
	return out, nil
}

// Loopback brings lo up.
func Loopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback link: %w", err)
	}
	return netlink.LinkSetUp(lo)
}

// describe tells how a card is found again by what it is.
func describe(l netlink.Link) Card {
	a := l.Attrs()
	c := Card{Index: a.Index, Name: a.Name, MAC: a.HardwareAddr.String(), Carrier: hasCarrier(a.Name)}
	if len(a.PermHWAddr) == 6 && a.PermHWAddr.String() != "00:00:00:00:00:00" {
		c.MAC = a.PermHWAddr.String()
	}
	if dev, err := filepath.EvalSymlinks(filepath.Join("/sys/class/net", a.Name, "device")); err == nil {
		if rel, err := filepath.Rel("/sys/devices", dev); err == nil {
			c.BusPath = rel
		}
	}
	return c
}

func hasCarrier(name string) bool {
	b, err := os.ReadFile(filepath.Join("/sys/class/net", name, "carrier"))
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

func carrier(ctx context.Context, name string) error {
	for !hasCarrier(name) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// chain are a link and all that it stands on.
func chain(index int) map[int]bool {
	out := map[int]bool{index: true}
	all, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return out
	}
	for more := true; more; {
		more = false
		for _, l := range all {
			a := l.Attrs()
			if v, ok := l.(*netlink.Vlan); ok && out[a.Index] && !out[v.ParentIndex] {
				out[v.ParentIndex], more = true, true
			}
			if a.MasterIndex != 0 && out[a.MasterIndex] && !out[a.Index] {
				out[a.Index], more = true, true
			}
		}
	}
	return out
}
