package netup

import (
	"slices"
	"strings"

	"lifeboat/manifest"
)

// Card is a network card of this machine.
type Card struct {
	Index   int
	Name    string
	MAC     string // the one that it was made with
	BusPath string // below /sys/devices
	Carrier bool
}

// match gives captured ports their cards: by MAC, else by the place on the
// bus. A port that is left goes by the only card that is left with a cable,
// once loose says that cards had time to find their carriers. Names say
// nothing: another kernel gives others.
func match(ports []Port, cards []Card, loose bool) map[Port]Card {
	out := map[Port]Card{}
	taken := map[int]bool{}
	by := func(of func(Port) string, key func(Card) string) {
		for _, p := range ports {
			v := strings.ToLower(of(p))
			if _, ok := out[p]; ok || v == "" {
				continue
			}
			same := func(q Port) bool { return strings.ToLower(of(q)) == v && q != p }
			var found []Card
			for _, c := range cards {
				if !taken[c.Index] && strings.ToLower(key(c)) == v {
					found = append(found, c)
				}
			}
			// Two of one name tell nothing.
			if len(found) == 1 && !slices.ContainsFunc(ports, same) {
				out[p] = found[0]
				taken[found[0].Index] = true
			}
		}
	}
	by(func(p Port) string { return p.MAC }, func(c Card) string { return c.MAC })
	by(func(p Port) string { return manifest.Slot(p.BusPath) }, func(c Card) string { return manifest.Slot(c.BusPath) })
	if !loose {
		return out
	}
	var left []Card
	for _, c := range cards {
		if !taken[c.Index] && c.Carrier {
			left = append(left, c)
		}
	}
	if len(left) != 1 {
		return out
	}
	for _, p := range ports {
		if _, ok := out[p]; !ok {
			out[p] = left[0]
		}
	}
	return out
}
