package storage

import (
	"reflect"
	"testing"

	"lifeboat/internal/tools/wipe"
	"lifeboat/manifest"
)

func TestSpans(t *testing.T) {
	u := union([]wipe.Span{{Start: 50, Len: 10}, {Start: -5, Len: 15}, {Start: 5, Len: 10}, {Start: 95, Len: 50}, {Start: 60, Len: 5}, {Start: 200, Len: 9}}, 100)
	if want := []wipe.Span{{Start: 0, Len: 15}, {Start: 50, Len: 15}, {Start: 95, Len: 5}}; !reflect.DeepEqual(u, want) {
		t.Errorf("%v", u)
	}
	w := without([]wipe.Span{{Start: 0, Len: 100}, {Start: 200, Len: 10}}, []wipe.Span{{Start: 0, Len: 5}, {Start: 20, Len: 10}, {Start: 95, Len: 110}})
	if want := []wipe.Span{{Start: 5, Len: 15}, {Start: 30, Len: 65}, {Start: 205, Len: 5}}; !reflect.DeepEqual(w, want) {
		t.Errorf("%v", w)
	}
}

// TestVolumePlaces: bytes of a volume lie where device mapper would put them.
func TestVolumePlaces(t *testing.T) {
	first := map[manifest.ID]int64{"pv:a": 1000, "pv:b": 5000}
	lv := &manifest.LV{Segments: []manifest.Segment{
		{Type: "linear", Extents: 2, Areas: []manifest.Area{{PV: "pv:a", Start: 3}}},
		{Type: "striped", Start: 2, Extents: 4, Stripes: 2, StripeSize: 50, Areas: []manifest.Area{{PV: "pv:b"}, {PV: "pv:gone"}}}}}
	got := lvPlaces(lv, 100, first, wipe.Span{Start: 150, Len: 200})
	want := []wipe.Span{{Start: 1450, Len: 50}, {Start: 5000, Len: 50}, {Start: 5050, Len: 50}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}
