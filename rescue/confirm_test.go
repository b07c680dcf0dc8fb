package rescue

import (
	"testing"

	"lifeboat/internal/blockdev"
)

// TestNewDevices: a card reader that comes and goes is new once.
func TestNewDevices(t *testing.T) {
	view := func(names ...string) *blockdev.View {
		v := &blockdev.View{}
		for _, n := range names {
			v.Devices = append(v.Devices, &blockdev.Device{Name: n})
		}
		return v
	}
	known := map[string]bool{}
	for i, c := range []struct {
		v    *blockdev.View
		want bool
	}{{view("sda"), true}, {view("sda", "sdb"), true}, {view("sda"), false}, {view("sda", "sdb"), false}, {view(), false}, {view("sdc"), true}} {
		if got := newDevices(c.v, known); got != c.want {
			t.Errorf("look %d: %v", i, got)
		}
	}
}
