package netup

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// race holds the ways that are tried at the same time.
type race struct {
	opt   Options
	ways  []Way
	ports []Port // all captured cards, those without a way too: they claim theirs
	found chan *Up
	wait  sync.WaitGroup
	began time.Time

	mu    sync.Mutex
	tried map[string]string // way → how far it came
	begun map[string]bool
	said  map[string]bool
	plain map[int]*running         // DHCP on single cards
	turns map[string]chan struct{} // a fixed address is on one card at a time
	keep  map[int]bool             // links of the winner

	route sync.Mutex // one way at a time tests whether it reaches the purpose
	won   bool
}

type running struct {
	stop context.CancelFunc
	done chan struct{}
}

func newRace(opt Options) *race {
	r := &race{opt: opt, found: make(chan *Up, 1), began: time.Now(), tried: map[string]string{}, begun: map[string]bool{},
		said: map[string]bool{}, plain: map[int]*running{}, turns: map[string]chan struct{}{}, keep: map[int]bool{}}
	if opt.Captured != nil && len(opt.Static) == 0 {
		r.ways = Captured(opt.Captured)
		for i := range opt.Captured.Links {
			if l := &opt.Captured.Links[i]; l.BusPath != "" && l.MAC != "" {
				r.ports = append(r.ports, port(l))
			}
		}
	}
	return r
}

func (r *race) note(way, format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	r.mu.Lock()
	same := r.tried[way] == s
	r.tried[way] = s
	r.mu.Unlock()
	if !same {
		r.opt.Log("%s: %s", way, s)
	}
}

// once tells whether something is done for the first time.
func (r *race) once(set map[string]bool, key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := !set[key]
	set[key] = true
	return first
}

// start runs a part of the race.
func (r *race) start(f func()) {
	r.wait.Add(1)
	go func() {
		defer r.wait.Done()
		f()
	}()
}

// watch starts a try for every card there is, and for those that appear
// later: a driver may take its time.
func (r *race) watch(ctx context.Context) {
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

// looseAfter is how long cards have to find their carriers before "the only
// one with a cable" means something.
const looseAfter = 5 * time.Second

// matched are the cards that take the places of captured ports now.
func (r *race) matched(cards []netlink.Link) map[Port]Card {
	var list []Card
	for _, l := range cards {
		list = append(list, describe(l))
	}
	return match(r.ports, list, time.Since(r.began) >= looseAfter)
}

func (r *race) startNew(ctx context.Context) {
	cards, err := Cards()
	if err != nil {
		r.opt.Log("%v", err)
		return
	}
	if len(r.opt.Static) > 0 {
		r.startStatic(ctx, cards)
		return
	}
	m := r.matched(cards)
	held := map[int]bool{}
	for _, g := range r.groups() {
		on := g.cards(m)
		for _, c := range on {
			held[c.Index] = true
		}
		if len(on) > 0 && r.once(r.begun, "bond "+g.key) {
			r.start(func() { r.group(ctx, g) })
		}
	}
	for _, l := range cards {
		index := l.Attrs().Index
		if !held[index] && r.once(r.begun, fmt.Sprint("card ", index)) {
			r.startPlain(ctx, l)
		}
		for _, w := range r.ways {
			on := slices.ContainsFunc(w.Ports, func(p Port) bool { return m[p].Index == index })
			if w.Bond == "" && on && !held[index] && r.once(r.begun, fmt.Sprint("way ", w.Name, " ", index)) {
				r.start(func() { r.on(ctx, l, []Way{w}, false) })
			}
		}
	}
}

// startStatic tries the ways that the kernel command line names, and no other.
func (r *race) startStatic(ctx context.Context, cards []netlink.Link) {
	for _, l := range cards {
		s, ok := forCard(r.opt.Static, l, cards)
		if !ok || !r.once(r.begun, fmt.Sprint("card ", l.Attrs().Index)) {
			continue
		}
		if !s.Address.IsValid() {
			r.startPlain(ctx, l)
			continue
		}
		r.start(func() {
			if r.ready(ctx, l) {
				r.loop(ctx, l.Attrs().Name, func() (*setup, error) { return r.fixed(ctx, s.setup(l)) })
			}
		})
	}
}

// startPlain asks by DHCP on one card until the race ends, or a bond claims
// the card.
func (r *race) startPlain(ctx context.Context, l netlink.Link) {
	ctx, stop := context.WithCancel(ctx)
	p := &running{stop: stop, done: make(chan struct{})}
	r.mu.Lock()
	r.plain[l.Attrs().Index] = p
	r.mu.Unlock()
	r.start(func() {
		defer close(p.done)
		defer stop()
		r.on(ctx, l, nil, true)
	})
}

// on tries DHCP and captured ways on one card or bond, until ctx ends.
func (r *race) on(ctx context.Context, l netlink.Link, ways []Way, dhcp bool) {
	if !r.ready(ctx, l) {
		return
	}
	var wg sync.WaitGroup
	if dhcp {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r.loop(ctx, l.Attrs().Name, func() (*setup, error) { return r.dhcp(ctx, l) })
		}()
	}
	for _, w := range ways {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r.way(ctx, l, w)
		}()
	}
	wg.Wait()
}

// ready sets a link up and waits for its carrier.
func (r *race) ready(ctx context.Context, l netlink.Link) bool {
	name := l.Attrs().Name
	if err := netlink.LinkSetUp(l); err != nil {
		r.note(name, "cannot be set up: %v", err)
		return false
	}
	if hasCarrier(name) {
		return true
	}
	r.note(name, "waiting for carrier")
	if err := carrier(ctx, name); err != nil {
		r.note(name, "no carrier")
		return false
	}
	return true
}

// way tries one captured way on a card or bond.
func (r *race) way(ctx context.Context, base netlink.Link, w Way) {
	label := fmt.Sprintf("%s as %s was", base.Attrs().Name, w.Name)
	l := base
	if w.VLAN != 0 {
		v, err := vlan(base, w.VLAN)
		if err != nil {
			r.note(label, "VLAN %d: %v", w.VLAN, err)
			return
		}
		defer r.remove(v)
		if l = v; !r.ready(ctx, l) {
			return
		}
		label += fmt.Sprintf(" (VLAN %d)", w.VLAN)
	}
	if len(w.Addresses) == 0 {
		r.loop(ctx, label, func() (*setup, error) {
			s, err := r.dhcp(ctx, l)
			if err == nil {
				s.name = w.Name
			}
			return s, err
		})
		return
	}
	r.loop(ctx, label, func() (*setup, error) {
		free, err := r.turn(ctx, w.Name)
		if err != nil {
			return nil, err
		}
		s, err := r.fixed(ctx, &setup{link: l, by: "captured", name: w.Name, addresses: w.Addresses, routes: w.Routes, dns: w.DNS, search: w.Search, mtu: w.MTU})
		if err != nil {
			free()
			return nil, err
		}
		s.end = free
		return s, nil
	})
}

// turn waits until no other card tries the same captured way.
func (r *race) turn(ctx context.Context, way string) (free func(), err error) {
	r.mu.Lock()
	c := r.turns[way]
	if c == nil {
		c = make(chan struct{}, 1)
		r.turns[way] = c
	}
	r.mu.Unlock()
	select {
	case c <- struct{}{}:
		return func() { <-c }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fixed asks for each IPv4 address whether somebody has it, and takes those
// that are free. The kernel asks for IPv6 itself.
func (r *race) fixed(ctx context.Context, s *setup) (*setup, error) {
	ifc, err := net.InterfaceByIndex(s.link.Attrs().Index)
	if err != nil {
		return nil, err
	}
	var left []netip.Prefix
	var last error
	for _, p := range s.addresses {
		if p.Addr().Is4() {
			if err := free(ctx, ifc, p.Addr(), probeCount, probeEnd); err != nil {
				last = err
				r.sayTaken(err)
				continue
			}
		}
		left = append(left, p)
	}
	if len(left) == 0 {
		return nil, last
	}
	s.addresses = left
	return s, nil
}

// sayTaken tells people once that an address is another machine's.
func (r *race) sayTaken(err error) {
	if t, ok := err.(*Taken); ok && r.once(r.said, t.Error()) {
		r.opt.Say("%s", t.Error())
	}
}

// tryAgain is the pause before a way that did not reach its purpose is tried
// once more: the server may start later than this machine.
const tryAgain = 5 * time.Second

// loop makes setups and offers them, as often as the patience allows.
func (r *race) loop(ctx context.Context, label string, get func() (*setup, error)) {
	r.note(label, "carrier; asking for an address")
	for {
		s, err := get()
		if err == nil {
			if err = r.offer(ctx, s); err == nil {
				return
			}
		}
		if ctx.Err() != nil {
			return // what stood in the way before says more than the end of patience
		}
		r.note(label, "%v", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(tryAgain):
		}
	}
}

// offer puts a setup in force and asks for the purpose. Only one may do so at
// a time, and none once one has won: another's route would take its place.
func (r *race) offer(ctx context.Context, s *setup) error {
	r.route.Lock()
	defer r.route.Unlock()
	if s.end != nil {
		defer s.end()
	}
	if r.won || ctx.Err() != nil {
		s.close()
		return context.Canceled
	}
	u, err := s.apply(ctx, r)
	if err == nil && r.opt.Reach != nil {
		if e := r.opt.Reach(ctx); e != nil {
			err = fmt.Errorf("%s, but the backup is not reached: %w", s.addresses[0], e)
		}
	}
	if err == nil && s.by != "dhcp" {
		err = s.stillFree(ctx)
	}
	if err != nil {
		r.sayTaken(err)
		u.all()
		s.close()
		return err
	}
	up := s.up()
	if s.renew != nil {
		var rctx context.Context
		rctx, up.stop = context.WithCancel(context.WithoutCancel(ctx))
		go s.renew(rctx)
	}
	r.won = true
	r.mu.Lock()
	r.keep = chain(up.index)
	r.mu.Unlock()
	r.opt.Log("%s: %s by %s", up.Name, up.Address, up.By)
	r.found <- up
	return nil
}

// stillFree asks once more: a switch port that blocked may have swallowed the
// first questions.
func (s *setup) stillFree(ctx context.Context) error {
	ifc, err := net.InterfaceByIndex(s.link.Attrs().Index)
	if err != nil {
		return err
	}
	for _, p := range s.addresses {
		if p.Addr().Is4() {
			if err := free(ctx, ifc, p.Addr(), 1, probeAgain); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *setup) close() {
	if s.stop != nil {
		s.stop()
	}
}

func (s *setup) up() *Up {
	a := s.link.Attrs()
	up := &Up{Name: a.Name, MAC: a.HardwareAddr.String(), By: s.by, As: s.name, Address: s.addresses[0], Addresses: s.addresses, DNS: s.dns, NTP: s.ntp, index: a.Index}
	for _, rt := range s.routes {
		if rt.To.Bits() == 0 && rt.Via.IsValid() && (!up.Gateway.IsValid() || rt.Via.Is4()) {
			up.Gateway = rt.Via
		}
	}
	return up
}

// remove takes a link of ours away unless it leads to the winner.
func (r *race) remove(l netlink.Link) {
	r.mu.Lock()
	keep := r.keep[l.Attrs().Index]
	r.mu.Unlock()
	if !keep {
		_ = netlink.LinkDel(l)
	}
}
