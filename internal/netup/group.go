package netup

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// group are the captured ways over one bond that the switch takes part in.
type group struct {
	key, mode string
	ports     []Port
	ways      []Way
}

func (r *race) groups() []group {
	var out []group
	for _, w := range r.ways {
		if w.Bond == "" {
			continue
		}
		var names []string
		for _, p := range w.Ports {
			names = append(names, p.Name)
		}
		slices.Sort(names)
		key := strings.Join(names, "+")
		i := slices.IndexFunc(out, func(g group) bool { return g.key == key })
		if i < 0 {
			out = append(out, group{key: key, mode: w.Bond, ports: w.Ports})
			i = len(out) - 1
		}
		out[i].ways = append(out[i].ways, w)
	}
	return out
}

// cards are the cards that take the ports' places, each once.
func (g group) cards(m map[Port]Card) []Card {
	var out []Card
	for _, p := range g.ports {
		c, ok := m[p]
		if ok && !slices.ContainsFunc(out, func(x Card) bool { return x.Index == c.Index }) {
			out = append(out, c)
		}
	}
	return out
}

// group tries ports as the bond that they were, and as single cards, in turn.
func (r *race) group(ctx context.Context, g group) {
	for asBond := true; ctx.Err() == nil; asBond = !asBond {
		phase, cancel := context.WithTimeout(ctx, bondTime)
		cards, err := Cards()
		if err != nil {
			r.opt.Log("%v", err)
		}
		on := g.cards(r.matched(cards))
		if asBond {
			r.bonded(phase, g, on)
		} else {
			var wg sync.WaitGroup
			for _, l := range cards {
				if slices.ContainsFunc(on, func(c Card) bool { return c.Index == l.Attrs().Index }) {
					wg.Add(1)
					go func() { defer wg.Done(); r.on(phase, l, g.ways, true) }()
				}
			}
			wg.Wait()
			<-phase.Done()
		}
		cancel()
	}
}

func (r *race) bonded(ctx context.Context, g group, on []Card) {
	for _, c := range on {
		r.mu.Lock()
		p := r.plain[c.Index]
		r.mu.Unlock()
		if p != nil {
			p.stop()
			<-p.done
		}
	}
	if len(on) == 0 || ctx.Err() != nil {
		return
	}
	b, err := bond(g.mode, on, r.opt.Log)
	if err != nil {
		r.note("bond of "+g.key, "%v", err)
		return
	}
	defer r.remove(b)
	r.on(ctx, b, g.ways, true)
}
