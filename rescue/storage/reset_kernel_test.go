//go:build kernel

package storage

import (
	"context"
	"strings"
	"testing"

	"lifeboat/internal/tools/ext"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/tests/kernel/inguest"
)

// small is a plan of one disk with LVM, an ext4 and swap: one step of each
// verb that there is for them.
func small(t *testing.T, d, spare inguest.Disk) *builder {
	b := &builder{t: t, disks: map[manifest.ID]inguest.Disk{}}
	tb := b.table(b.disk(d), "gpt", "3F0B5C1D-9A3E-4C5B-8F6A-112233445566")
	p := b.part(tb, manifest.Partition{Number: 1, Start: mib, Size: 512 * mib, Type: manifest.TypeLVM, UUID: partUUID(1)})
	pv := b.add(manifest.Node{ID: "pv:" + pvA, Kind: manifest.KindPV, On: on(p), Bytes: 508 * mib,
		PV: &manifest.PV{UUID: pvA, VG: "vg-a--b", PEStart: mib, Extents: 127, DevSize: 512 * mib, MDACopies: 1}})
	vg := b.add(manifest.Node{ID: "vg:" + vgA, Kind: manifest.KindVG, On: on(pv), Bytes: 508 * mib,
		VG: &manifest.VG{Name: "vg-a--b", UUID: vgA, ExtentSize: 4 * mib, Extents: 127}})
	lv := func(name, uuid string, start, extents int64) manifest.ID {
		return b.add(manifest.Node{ID: manifest.ID("lv:" + uuid), Kind: manifest.KindLV, On: on(vg), Bytes: extents * 4 * mib, LV: &manifest.LV{Name: name, UUID: uuid, Type: "linear",
			Segments: []manifest.Segment{{Type: "linear", Extents: extents, Stripes: 1, Areas: []manifest.Area{{PV: pv, Start: start}}}}}})
	}
	root, swp := lv("root", lvA, 20, 50), lv("swap", "Rqjvim-QsZu-LJpQ-N9gF-nqm6-Vnao-UKN13P", 0, 16)
	b.fs(root, 200*mib, original(t, spare, 200*mib, "mke2fs -q -t ext4", ext.Read), "/")
	b.add(manifest.Node{ID: "swap:1", Kind: manifest.KindSwap, On: on(swp), Bytes: 64 * mib, Swap: &manifest.Swap{UUID: "5c3c6b2e-7a52-4f0e-9b5c-000000000002", Label: "SWAP", PageSize: 4096}})
	if f := b.g.Check(); len(f) > 0 {
		t.Fatalf("the graph is not valid: %v", f)
	}
	return b
}

// cutOff builds up to the n-th step of storage; the machine is reset after it.
// What the boot before left half built is never opened.
func cutOff(t *testing.T, n int) {
	var b *builder
	targets, spare, _ := wanted(t, inguest.Find(t))
	if n == 1 {
		inguest.Disks(t, 6) // a group of an earlier test reaches to other disks
		b = small(t, targets[0], spare)
		keepGraph(t, b)
	} else {
		b = keptGraph(t, targets[:1])
		if err := b.storage(true).Open(context.Background()); err == nil {
			t.Errorf("what was cut off after %d steps was opened as if it were whole", n-1)
		}
	}
	s := b.storage(n > 1)
	acts := s.Acts()
	for _, st := range s.Plan.Steps {
		if st.Stage == plan.StageRelease || st.Stage == plan.StageStorage && n > 0 {
			if err := acts[st.Verb](t.Context(), st, none); err != nil {
				t.Fatalf("%s: %v", st.ID, err)
			}
		}
		if st.Stage == plan.StageStorage {
			n--
		}
	}
	if n > 0 {
		t.Fatalf("the plan ends %d steps before the cut", n)
	}
}

// A machine that is reset after every step of storage in turn: each boot
// begins over what the one before left, and the last one comes to the end.
func TestResetAtEveryStep_Boot3(t *testing.T)  { cutOff(t, 1) }
func TestResetAtEveryStep_Boot4(t *testing.T)  { cutOff(t, 2) }
func TestResetAtEveryStep_Boot5(t *testing.T)  { cutOff(t, 3) }
func TestResetAtEveryStep_Boot6(t *testing.T)  { cutOff(t, 4) }
func TestResetAtEveryStep_Boot7(t *testing.T)  { cutOff(t, 5) }
func TestResetAtEveryStep_Boot8(t *testing.T)  { cutOff(t, 6) }
func TestResetAtEveryStep_Boot9(t *testing.T)  { cutOff(t, 7) }
func TestResetAtEveryStep_Boot10(t *testing.T) { cutOff(t, 8) }

func TestResetAtEveryStep_Boot11(t *testing.T) {
	targets, _, _ := wanted(t, inguest.Find(t))
	b := keptGraph(t, targets[:1])
	s := b.storage(true)
	steps := 0
	for _, st := range s.Plan.Steps {
		if st.Stage == plan.StageStorage {
			steps++
		}
	}
	if steps != 8 {
		t.Fatalf("the plan has %d steps of storage, the machine was reset after 8", steps)
	}
	// All of them were done: they are opened, or made again, but never mixed.
	if err := s.Open(t.Context()); err != nil {
		t.Logf("not opened: %v", err)
		s = b.storage(true)
		s.run(t, plan.StageRelease, plan.StageStorage)
	}
	s.run(t, plan.StageMount)
	files(t, s, true)
	files(t, s, false)
	s.run(t, plan.StageFinish)
	check(t, s)
	judgeSmall(t, targets[0], b)
}

// judgeSmall has the standard tools say what lies on the disk of small.
func judgeSmall(t *testing.T, d inguest.Disk, b *builder) {
	t.Helper()
	if out := sh(t, "sgdisk -v "+d.Path); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v: %s", out)
	}
	if out := sh(t, "sfdisk -d "+d.Path+" | sed 's/  */ /g'"); !strings.Contains(out, "label-id: 3F0B5C1D-9A3E-4C5B-8F6A-112233445566") ||
		!strings.Contains(out, "1 : start= 2048, size= 1048576, type=E6D6D379-F507-44C2-A23C-238F2A3DF928, uuid=11111111-2222-4333-8444-555555555501") ||
		strings.Count(out, "start=") != 1 {
		t.Errorf("sfdisk -d: %s", out)
	}
	if got, want := sh(t, `vgck vg-a--b; lvs --noheadings -o vg_uuid,lv_name,lv_uuid,segtype,seg_start_pe,seg_size_pe,seg_pe_ranges vg-a--b | sed 's,/dev/[a-z0-9]*:,:,g; s/^ *//; s/ *$//; s/  */ /g' | sort`),
		vgA+" root "+lvA+" linear 0 50 :20-69\n"+vgA+" swap Rqjvim-QsZu-LJpQ-N9gF-nqm6-Vnao-UKN13P linear 0 16 :0-15\n"; got != want {
		t.Errorf("lvs:\n%s\nnot\n%s", got, want)
	}
	want := []string{"LABEL=SWAP UUID=5c3c6b2e-7a52-4f0e-9b5c-000000000002 TYPE=swap"}
	for _, f := range b.g.OfKind(manifest.KindFS) {
		want = append(want, "UUID="+f.FS.UUID+" TYPE=ext4")
	}
	sh(t, "vgchange -qay vg-a--b")
	out := sh(t, `for d in /dev/vg-a--b/*; do blkid -p -s TYPE -s UUID -s LABEL -o export $d | grep -v DEVNAME | tr '\n' ' '; echo; done`)
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("blkid does not say %q:\n%s", w, out)
		}
	}
	sh(t, "vgchange -qan vg-a--b")
}
