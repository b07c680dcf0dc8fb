// Package netup brings the network up by netlink: links, addresses, DHCP.
// Level 1.
package netup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// Options say how to bring the network up.
type Options struct {
	Static   []Static      // of ip=; none: DHCP on every card
	Off      bool          // noip: links stay as they are
	BootIF   string        // MAC of BOOTIF=, tried first when others tie
	Patience time.Duration // how long to wait for carrier and lease; at least 90 s unless set
	Resolv   string        // where resolv.conf is written; "" = /etc/resolv.conf
	// Reach proves that the network serves its purpose, for example that the
	// backup answers. nil: an address is enough.
	Reach func(ctx context.Context) error
	Log   func(format string, args ...any)
}

// Up is a network that came up.
type Up struct {
	Name    string
	MAC     string
	Address netip.Prefix
	Gateway netip.Addr
	DNS     []netip.Addr
	NTP     []netip.Addr
	By      string // dhcp, static
	stop    context.CancelFunc
}

// Close ends the renewal of the lease; the address stays.
func (u *Up) Close() {
	if u != nil && u.stop != nil {
		u.stop()
	}
}

// ErrNoNetwork says that no card came up.
var ErrNoNetwork = errors.New("no network card came up")

// Cards are the Ethernet cards of this machine: links with a device below.
func Cards() ([]netlink.Link, error) {
	all, err := netlink.LinkList()
	if err != nil {
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

// Bring brings every card up at the same time; the first that reaches its
// purpose wins, and the others give their addresses back.
func Bring(ctx context.Context, opt Options) (*Up, error) {
	if opt.Off {
		return nil, fmt.Errorf("%w: the kernel command line says noip", ErrNoNetwork)
	}
	if opt.Log == nil {
		opt.Log = func(string, ...any) {}
	}
	if opt.Patience == 0 {
		opt.Patience = 120 * time.Second
	}
	if opt.Resolv == "" {
		opt.Resolv = "/etc/resolv.conf"
	}
	if err := Loopback(); err != nil {
		opt.Log("%v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, opt.Patience)
	defer cancel()
	r := &race{opt: opt, found: make(chan *Up), tried: map[string]string{}, using: map[string]bool{}}
	go r.watch(ctx)
	select {
	case u := <-r.found:
		cancel()
		r.wait.Wait()
		return u, nil
	case <-ctx.Done():
		r.wait.Wait()
		select { // a card that came up in the very last moment
		case u := <-r.found:
			return u, nil
		default:
		}
		return nil, r.failure(ctx.Err())
	}
}

// race holds the cards that try at the same time.
type race struct {
	opt   Options
	found chan *Up
	wait  sync.WaitGroup

	mu    sync.Mutex
	tried map[string]string // card → how far it came
	using map[string]bool
	route sync.Mutex // one card at a time tests whether it reaches the purpose
}

func (r *race) note(card, format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	r.mu.Lock()
	r.tried[card] = s
	r.mu.Unlock()
	r.opt.Log("%s: %s", card, s)
}

func (r *race) failure(cause error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.tried) == 0 {
		return fmt.Errorf("%w: none was found; a driver may be missing from the image", ErrNoNetwork)
	}
	var s []string
	for card, how := range r.tried {
		s = append(s, card+": "+how)
	}
	if errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("%w within %s (%s)", ErrNoNetwork, r.opt.Patience, strings.Join(s, "; "))
	}
	return fmt.Errorf("%w: %w (%s)", ErrNoNetwork, cause, strings.Join(s, "; "))
}

// watch starts a try for every card there is, and for those that appear
// later: a driver may take its time.
func (r *race) watch(ctx context.Context) {
	r.wait.Add(1)
	defer r.wait.Done()
	updates := make(chan netlink.LinkUpdate, 64)
	done := make(chan struct{})
	defer close(done)
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		r.opt.Log("watch network links: %v", err)
	}
	tick := time.NewTicker(2 * time.Second) // in case the kernel dropped a message
	defer tick.Stop()
	for {
		r.startNew(ctx)
		select {
		case <-ctx.Done():
			return
		case <-updates:
		case <-tick.C:
		}
	}
}

func (r *race) startNew(ctx context.Context) {
	cards, err := Cards()
	if err != nil {
		r.opt.Log("%v", err)
		return
	}
	for _, c := range cards {
		mac := c.Attrs().HardwareAddr.String()
		r.mu.Lock()
		begun := r.using[mac]
		r.using[mac] = true
		r.mu.Unlock()
		if begun {
			continue
		}
		static, by := forCard(r.opt.Static, c, cards)
		if len(r.opt.Static) > 0 && !by {
			continue // ip= names another card
		}
		r.wait.Add(1)
		go func() {
			defer r.wait.Done()
			r.try(ctx, c, static)
		}()
	}
}

// tryAgain is the pause before a card that did not reach its purpose is tried
// once more: the server may start later than this machine.
const tryAgain = 5 * time.Second

// try brings one card up and offers it when it reaches the purpose, as often
// as the patience allows.
func (r *race) try(ctx context.Context, l netlink.Link, static *Static) {
	name := l.Attrs().Name
	if err := netlink.LinkSetUp(l); err != nil {
		r.note(name, "cannot be set up: %v", err)
		return
	}
	r.note(name, "waiting for carrier")
	if err := carrier(ctx, name); err != nil {
		r.note(name, "no carrier")
		return
	}
	r.note(name, "carrier; asking for an address")
	for {
		up, err := r.once(ctx, l, static)
		if err == nil {
			select {
			case r.found <- up:
				r.opt.Log("%s: %s by %s", name, up.Address, up.By)
			case <-ctx.Done():
				up.Close()
				drop(l, up)
			}
			return
		}
		if ctx.Err() != nil {
			return // what stood in the way before says more than the end of patience
		}
		r.note(name, "%v", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(tryAgain):
		}
	}
}

// once gives a card an address and asks for the purpose.
func (r *race) once(ctx context.Context, l netlink.Link, static *Static) (up *Up, err error) {
	if static != nil && static.Address.IsValid() {
		up, err = configureStatic(l, static)
	} else {
		up, err = r.dhcp(ctx, l)
	}
	if err != nil {
		return nil, err
	}
	if err := r.reaches(ctx, l, up); err != nil {
		up.Close()
		drop(l, up)
		return nil, fmt.Errorf("%s, but %w", up.Address, err)
	}
	return up, nil
}

// reaches puts this card's routes in force and asks for the purpose.
func (r *race) reaches(ctx context.Context, l netlink.Link, up *Up) error {
	r.route.Lock()
	defer r.route.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if up.Gateway.IsValid() {
		if err := addDefault(l, up.Gateway); err != nil {
			return err
		}
	}
	if err := writeResolv(r.opt.Resolv, up.DNS); err != nil {
		return err
	}
	if r.opt.Reach == nil {
		return nil
	}
	if err := r.opt.Reach(ctx); err != nil {
		return fmt.Errorf("the backup is not reached: %w", err)
	}
	return nil
}

func carrier(ctx context.Context, name string) error {
	for {
		b, err := os.ReadFile(filepath.Join("/sys/class/net", name, "carrier"))
		if err == nil && strings.TrimSpace(string(b)) == "1" {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
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

func addDefault(l netlink.Link, gw netip.Addr) error {
	// The gateway of a /32 lease lies outside the prefix: onlink.
	rt := &netlink.Route{LinkIndex: l.Attrs().Index, Gw: gw.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
	if err := netlink.RouteReplace(rt); err != nil {
		return fmt.Errorf("set the default route by %s: %w", gw, err)
	}
	return nil
}

func drop(l netlink.Link, u *Up) {
	if u.Gateway.IsValid() {
		_ = netlink.RouteDel(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: u.Gateway.AsSlice()})
	}
	_ = netlink.AddrDel(l, &netlink.Addr{IPNet: ipnet(u.Address)})
}

func writeResolv(path string, dns []netip.Addr) error {
	if len(dns) == 0 {
		return nil
	}
	var b strings.Builder
	for _, d := range dns {
		fmt.Fprintf(&b, "nameserver %s\n", d)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write resolvers: %w", err)
	}
	return nil
}
