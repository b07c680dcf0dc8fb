// Package netup brings the network up by netlink: links, addresses, DHCP.
// Level 1.
package netup

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"lifeboat/manifest"
)

// Options say how to bring the network up.
type Options struct {
	Static   []Static          // of ip=; none: DHCP on every card, and the network as captured beside it
	Captured *manifest.Network // of the host; nil is none
	Off      bool              // noip: links stay as they are
	BootIF   string            // MAC of BOOTIF=, tried first when others tie
	Patience time.Duration     // how long to wait for carrier and lease; at least 90 s unless set
	Resolv   string            // where resolv.conf is written; "" = /etc/resolv.conf
	// Reach proves that the network serves its purpose, for example that the
	// backup answers. nil: an address is enough.
	Reach func(ctx context.Context) error
	// Keep leaves a network up that has an address when none reaches the
	// purpose: people may need it to look. Bring then returns it with its error.
	Keep bool
	Log  func(format string, args ...any)
	Say  func(format string, args ...any) // what people must read; nil goes to Log
}

// Up is a network that came up.
type Up struct {
	Name      string // of the link
	MAC       string
	Address   netip.Prefix   // the first
	Addresses []netip.Prefix // all that were set
	Gateway   netip.Addr
	DNS       []netip.Addr
	NTP       []netip.Addr
	By        string // dhcp, static (of ip=), captured
	As        string // the captured interface, by captured
	index     int
	stop      context.CancelFunc
}

// Close ends the renewal of the lease; the address stays.
func (u *Up) Close() {
	if u != nil && u.stop != nil {
		u.stop()
	}
}

// ErrNoNetwork says that no card came up.
var ErrNoNetwork = errors.New("no network card came up")

// keepPatience is how long an address is sought that is only to be kept.
const keepPatience = 45 * time.Second

// Bring tries every way on every card at the same time: DHCP, and what the
// host itself had. The first that reaches its purpose wins; the others give
// their addresses back and are taken down again.
func Bring(ctx context.Context, opt Options) (*Up, error) {
	if opt.Off {
		return nil, fmt.Errorf("%w: the kernel command line says noip", ErrNoNetwork)
	}
	if opt.Log == nil {
		opt.Log = func(string, ...any) {}
	}
	if opt.Say == nil {
		opt.Say = opt.Log
	}
	if opt.Patience == 0 {
		opt.Patience = 120 * time.Second
		if opt.Captured != nil && slices.ContainsFunc(Captured(opt.Captured), func(w Way) bool { return w.Bond != "" }) {
			opt.Patience = 3 * bondTime // as a bond, as cards, and once more
		}
	}
	if opt.Resolv == "" {
		opt.Resolv = "/etc/resolv.conf"
	}
	if err := Loopback(); err != nil {
		opt.Log("%v", err)
	}
	up, err := bring(ctx, opt)
	if err != nil && opt.Keep && opt.Reach != nil && ctx.Err() == nil {
		opt.Reach, opt.Patience = nil, keepPatience
		up, _ = bring(ctx, opt)
	}
	return up, err
}

// bring is one race.
func bring(ctx context.Context, opt Options) (*Up, error) {
	if err := cleanOwn(nil); err != nil {
		opt.Log("%v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, opt.Patience)
	defer cancel()
	r := newRace(opt)
	r.start(func() { r.watch(ctx) })
	var up *Up
	select {
	case up = <-r.found:
	case <-ctx.Done():
	}
	cause := ctx.Err()
	cancel()
	r.wait.Wait()
	if up == nil {
		select { // a way that came up in the very last moment
		case up = <-r.found:
		default:
		}
	}
	if up == nil {
		if err := cleanOwn(nil); err != nil {
			opt.Log("%v", err)
		}
		return nil, r.failure(cause)
	}
	r.takeDown(up)
	return up, nil
}

// takeDown leaves nothing up but the way that won.
func (r *race) takeDown(up *Up) {
	keep := chain(up.index)
	if err := cleanOwn(keep); err != nil {
		r.opt.Log("%v", err)
	}
	cards, err := Cards()
	if err != nil {
		r.opt.Log("%v", err)
	}
	for _, l := range cards {
		if !keep[l.Attrs().Index] {
			_ = netlink.LinkSetDown(l)
		}
	}
}

func (r *race) failure(cause error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.tried) == 0 {
		return fmt.Errorf("%w: none was found; a driver may be missing from the image", ErrNoNetwork)
	}
	var s []string
	for way, how := range r.tried {
		s = append(s, way+": "+how)
	}
	slices.Sort(s)
	if errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("%w within %s (%s)", ErrNoNetwork, r.opt.Patience, strings.Join(s, "; "))
	}
	return fmt.Errorf("%w: %w (%s)", ErrNoNetwork, cause, strings.Join(s, "; "))
}
