package lvm

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"lifeboat/internal/run"
	"lifeboat/manifest"
)

const (
	pvA = "fWTRTH-M0kk-iSVY-4ZiE-6aD5-cGvC-bQJMu8"
	pvB = "IcIOKD-45At-wmOJ-UAov-PacT-tfRU-emYgTZ"
)

// group is the volume group of testdata, made by lvm 2.03.16.
func group() Group {
	pv := func(id string, mda int64) manifest.PV {
		return manifest.PV{UUID: id, VG: "vg-a-b", PEStart: 5 << 20, Extents: 11, DevSize: 100 << 20, MDASize: mda, MDACopies: 1}
	}
	return Group{
		VG: manifest.VG{Name: "vg-a-b", UUID: "kdW6tw-UXOg-VntI-f8f0-jNDL-wdDX-cvIiPN", ExtentSize: 8 << 20, Extents: 22, Free: 15, Tags: []string{"tag/a=b"}},
		PVs: []manifest.PV{
			pv(pvA, 5238784), pv(pvB, 3141632),
		},
		LVs: []manifest.LV{
			{Name: "root-x", UUID: "Rqjvim-QsZu-LJpQ-N9gF-nqm6-Vnao-UKN13O", Type: "linear",
				Segments: []manifest.Segment{{Type: "linear", Extents: 3, Stripes: 1, Areas: []manifest.Area{{PV: "pv:" + pvA}}}}},
			{Name: "stripe", UUID: "K5ElC0-fnIj-WcUT-kVWz-JCHe-ELDy-WHfxuj", Type: "striped", Tags: []string{"ltag"},
				Segments: []manifest.Segment{{Type: "striped", Extents: 4, Stripes: 2, StripeSize: 64 << 10,
					Areas: []manifest.Area{{PV: "pv:" + pvA, Start: 3}, {PV: "pv:" + pvB}}}}},
		},
	}
}

func TestReadRecorded(t *testing.T) {
	b, err := os.ReadFile("testdata/fullreport.json")
	if err != nil {
		t.Fatal(err)
	}
	f := &run.Fake{Answer: func(run.Cmd) (run.Result, error) { return run.Result{Stdout: b}, nil }}
	r, err := Tool{Run: f, Devices: []string{"/dev/loop0"}}.Read(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	g := group()
	if len(r.VGs) != 1 || !reflect.DeepEqual(r.VGs[0], VG{VG: g.VG, PVs: []string{pvA, pvB}}) {
		t.Errorf("volume groups %+v", r.VGs)
	}
	if len(r.PVs) != 3 || !reflect.DeepEqual(r.PVs[0], PV{PV: g.PVs[0], Dev: "/dev/loop0", VGID: g.VG.UUID}) || r.PVs[2].VG != "" || r.PVs[2].NoAlloc {
		t.Errorf("physical volumes %+v", r.PVs)
	}
	for i, lv := range r.LVs {
		if !reflect.DeepEqual(lv.LV, g.LVs[i]) || lv.VG != "vg-a-b" || lv.DevNo != "" {
			t.Errorf("logical volume %+v, not %+v", lv, g.LVs[i])
		}
	}
	if r.LVs[0].Path != "/dev/mapper/vg--a--b-root--x" || r.LVs[1].Bytes != 32<<20 {
		t.Errorf("%+v", r.LVs)
	}
	if c := f.Calls(); len(c) != 1 || !strings.HasPrefix(c[0], "lvm fullreport --config ") {
		t.Errorf("calls %q", c)
	}
}

const golden = `contents = "Text Format Volume Group"
version = 1
vg-a-b {
	id = "kdW6tw-UXOg-VntI-f8f0-jNDL-wdDX-cvIiPN"
	seqno = 1
	format = "lvm2"
	status = ["RESIZEABLE", "READ", "WRITE"]
	flags = []
	tags = ["tag/a=b"]
	extent_size = 16384
	max_lv = 0
	max_pv = 0
	metadata_copies = 0
	physical_volumes {
		pv0 {
			id = "fWTRTH-M0kk-iSVY-4ZiE-6aD5-cGvC-bQJMu8"
			device = "unknown"
			status = ["ALLOCATABLE"]
			flags = []
			dev_size = 204800
			pe_start = 10240
			pe_count = 11
		}
		pv1 {
			id = "IcIOKD-45At-wmOJ-UAov-PacT-tfRU-emYgTZ"
			device = "unknown"
			status = ["ALLOCATABLE"]
			flags = []
			dev_size = 204800
			pe_start = 10240
			pe_count = 11
		}
	}
	logical_volumes {
		root-x {
			id = "Rqjvim-QsZu-LJpQ-N9gF-nqm6-Vnao-UKN13O"
			status = ["READ", "WRITE", "VISIBLE"]
			flags = []
			segment_count = 1
			segment1 {
				start_extent = 0
				extent_count = 3
				type = "striped"
				stripe_count = 1
				stripes = ["pv0", 0]
			}
		}
		stripe {
			id = "K5ElC0-fnIj-WcUT-kVWz-JCHe-ELDy-WHfxuj"
			status = ["READ", "WRITE", "VISIBLE"]
			flags = []
			tags = ["ltag"]
			segment_count = 1
			segment1 {
				start_extent = 0
				extent_count = 4
				type = "striped"
				stripe_count = 2
				stripe_size = 128
				stripes = ["pv0", 3, "pv1", 0]
			}
		}
	}
}
`

func TestText(t *testing.T) {
	got, err := group().Text()
	if err != nil {
		t.Fatal(err)
	}
	if got != golden {
		t.Errorf("got\n%s", got)
	}
}

func TestTextRefuses(t *testing.T) {
	for name, change := range map[string]func(*Group){
		"taken twice":      func(g *Group) { g.LVs[1].Segments[0].Areas[0].Start = 2 },
		"past the end":     func(g *Group) { g.LVs[1].Segments[0].Areas[1].Start = 10 },
		"another's volume": func(g *Group) { g.LVs[0].Segments[0].Areas[0].PV = "pv:x" },
		"too small":        func(g *Group) { g.PVs[0].DevSize = 90 << 20 },
		"name":             func(g *Group) { g.LVs[0].Name = "a b" },
		"name as option":   func(g *Group) { g.VG.Name = "-x" },
		"id":               func(g *Group) { g.PVs[0].UUID = "x" },
		"hole":             func(g *Group) { g.LVs[0].Segments[0].Start = 1 },
		"odd stripes":      func(g *Group) { g.LVs[1].Segments[0].Extents = 3 },
		"tag":              func(g *Group) { g.VG.Tags = []string{`a"b`} },
		"no volumes":       func(g *Group) { g.PVs = nil },
	} {
		g := group()
		change(&g)
		if _, err := g.Text(); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	g := group()
	g.LVs[0].Segments[0].Type = "thin"
	if _, err := g.Text(); !errors.Is(err, ErrUnsupported) {
		t.Errorf("thin: %v", err)
	}
}

func TestArgv(t *testing.T) {
	f := &run.Fake{}
	x := Tool{Run: f, Devices: []string{"/dev/sda2", "/dev/mapper/mpath.a"}, SystemID: "host1"}
	ctx := context.Background()
	text, _ := group().Text()
	for _, err := range []error{
		x.CreatePV(ctx, "/dev/sda2", group().PVs[0], text), x.CreatePV(ctx, "/dev/sda2", manifest.PV{UUID: pvB, PEStart: 1 << 20}, ""),
		x.RestoreVG(ctx, "vg-a-b", text), x.Activate(ctx, "vg-a-b", "root-x"), x.Deactivate(ctx, "vg-a-b"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	const config = `--config 'config{checks=0} devices{filter=["a|^/dev/sda2$|","a|^/dev/mapper/mpath\\.a$|","r|.*|"] global_filter=["a|^/dev/sda2$|","a|^/dev/mapper/mpath\\.a$|","r|.*|"] ` +
		`use_devicesfile=0 hints="none" scan_lvs=1 obtain_device_list_from_udev=0 external_device_info_source="none"} ` +
		`global{activation=1 use_lvmlockd=0 use_lvmetad=0 use_lvmpolld=0 event_activation=0 notify_dbus=0 system_id_source="lvmlocal"} local{system_id="host1"}` +
		`activation{udev_sync=0 udev_rules=0 monitoring=0 auto_activation_volume_list=[]} backup{backup=0 archive=0}' `
	want := []string{
		"lvm pvcreate " + config + "--yes --zero y --uuid " + pvA + " --restorefile FILE /dev/sda2",
		"lvm pvcreate " + config + "--yes --zero y --uuid " + pvB + " --pvmetadatacopies 0 --norestorefile --dataalignment 1048576b /dev/sda2",
		"lvm vgcfgrestore " + config + "--file FILE vg-a-b",
		"lvm lvchange " + config + "--activate y --ignoreactivationskip --yes vg-a-b/root-x",
		"lvm vgchange " + config + "--activate n vg-a-b",
	}
	for i, got := range f.Calls() {
		words := strings.Fields(got)
		for j, w := range words {
			if strings.Contains(w, "lifeboat-vg-") {
				words[j] = "FILE"
			}
		}
		if got = strings.Join(words, " "); got != want[i] {
			t.Errorf("call %d:\n got %s\nwant %s", i, got, want[i])
		}
	}
}

// recordedPV are the first 2 MiB of the second physical volume of the group.
func recordedPV(t testing.TB) []byte {
	t.Helper()
	f, err := os.Open("testdata/pv.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadLabel(t *testing.T) {
	got, err := ReadLabel(bytes.NewReader(recordedPV(t)))
	want := &Label{UUID: pvB, VG: "vg-a-b", VGUUID: "kdW6tw-UXOg-VntI-f8f0-jNDL-wdDX-cvIiPN", PVs: []string{pvA, pvB}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := ReadLabel(bytes.NewReader(make([]byte, 4096))); !errors.Is(err, ErrNone) {
		t.Errorf("zeroes: %v", err)
	}
}

func FuzzReadLabel(f *testing.F) {
	b := recordedPV(f)
	// The area's ring made small, so that mutations stay near the headers.
	short := bytes.Clone(b[:12<<10])
	f.Add(short)
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := ReadLabel(bytes.NewReader(b)); err == nil && l == nil {
			t.Error("nothing and no error")
		}
	})
}

func FuzzParseReport(f *testing.F) {
	b, err := os.ReadFile("testdata/fullreport.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = parseReport(b) })
}
