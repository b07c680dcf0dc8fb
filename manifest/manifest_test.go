package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"lifeboat/report"
)

// TestGolden reads the frozen manifest of each version: what a host wrote
// once must be readable for ever. The files are never changed.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/v*.json")
	if err != nil || len(files) != FormatVersion {
		t.Fatalf("%d golden files for %d versions: %v", len(files), FormatVersion, err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Decode(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m.Host.Name != "harbour-7" || len(m.Storage.OfKind(KindLV)) != 3 || len(m.Boot.BIOSBoot) != 1 {
			t.Errorf("%s: host %q, %d logical volumes, boot %+v", name, m.Host.Name, len(m.Storage.OfKind(KindLV)), m.Boot)
		}
		if again, err := m.Encode(); err != nil || name == "testdata/v1.json" && FormatVersion == 1 && !bytes.Equal(again, data) {
			t.Errorf("%s: written again it differs (%v)", name, err)
		}
	}
}

// fill sets every field of a value to something that is not its zero.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), n)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		e := reflect.New(v.Type().Elem()).Elem()
		fill(e, n)
		v.SetMapIndex(reflect.ValueOf("k"), e)
	case reflect.String:
		v.SetString(fmt.Sprintf("text\\x\xff %d", *n))
		if v.Type() != reflect.TypeFor[Bytes]() {
			v.SetString(fmt.Sprintf("text %d", *n))
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint8, reflect.Uint32:
		v.SetUint(uint64(*n & 0xff))
	case reflect.Uint64:
		v.SetUint(1<<63 + uint64(*n)) // more than a JSON number holds exactly
	default:
		panic("fill: a field of kind " + v.Kind().String())
	}
}

// TestRoundTrip writes and reads a manifest with every field set.
func TestRoundTrip(t *testing.T) {
	m, n := new(Manifest), 0
	fill(reflect.ValueOf(m).Elem(), &n)
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back := new(Manifest)
	if err := strict(data, back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m, back) {
		t.Error("a field is lost or changed")
	}
	if again, err := back.Encode(); err != nil || !bytes.Equal(again, data) {
		t.Errorf("written again it differs (%v)", err)
	}
}

func golden(t testing.TB) *Manifest {
	t.Helper()
	data, err := os.ReadFile("testdata/v1.json")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func code(err error) string {
	var f *report.Fault
	if errors.As(err, &f) {
		return f.Code
	}
	return ""
}

// TestRefused: what does not fit is refused, with what to do.
func TestRefused(t *testing.T) {
	data, err := golden(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, new, code, text string }{
		{"newer", Format, "lifeboat.manifest/2", report.CodeManifestNewer, "lifeboat.manifest/2"},
		{"other", Format, "something/1", report.CodeManifest, "something/1"},
		{"zero", Format, "lifeboat.manifest/0", report.CodeManifest, "/0"},
		{"unknown field", `"by": `, `"surprise": 1, "by": `, report.CodeManifest, "surprise"},
		{"no JSON", "{", "[", report.CodeManifest, "JSON"},
		{"no name", `"name": "harbour-7"`, `"name": ""`, report.CodeManifest, "no name"},
		{"no root", `"path": "/",`, `"path": "/elsewhere",`, report.CodeManifest, `"/"`},
	} {
		text := strings.Replace(string(data), c.old, c.new, 1)
		if _, err := Decode([]byte(text)); code(err) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v (%s)", c.name, err, code(err))
		}
	}
	if _, err := Decode(append(data, "{}"...)); code(err) != report.CodeManifest {
		t.Errorf("two documents: %v", err)
	}
}

// TestCheck breaks the golden graph in each way that Check must find.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*Storage)
		want  string
	}{
		{"twice", func(s *Storage) { s.Nodes = append(s.Nodes, s.Nodes[0]) }, "is there twice"},
		{"order", func(s *Storage) { s.Nodes[0], s.Nodes[1] = s.Nodes[1], s.Nodes[0] }, "does not come before it"},
		{"kind", func(s *Storage) { s.Nodes[0].Kind = "drum" }, `kind "drum" is not known`},
		{"body", func(s *Storage) { s.Nodes[0].Disk = nil }, `the part "disk" is missing`},
		{"bodies", func(s *Storage) { s.Nodes[0].Swap = &Swap{} }, "more than one kind"},
		{"size", func(s *Storage) { s.Nodes[0].Bytes = -1 }, "negative"},
		{"nothing below", func(s *Storage) { s.OfKind(KindFS)[0].On = nil }, "stands on nothing"},
		{"mount", func(s *Storage) { s.Mounts[0].Node = "fs:gone" }, "not in the graph"},
		{"mounts", func(s *Storage) { s.Mounts = append(s.Mounts, s.Mounts[0]) }, "there twice"},
		{"relative", func(s *Storage) { s.Mounts[0].Path = "srv" }, "not absolute"},
		{"overlap", func(s *Storage) {
			s.OfKind(KindPartition)[1].Partition.Start = s.OfKind(KindPartition)[0].Partition.Start
		}, "overlap"},
		{"number", func(s *Storage) {
			s.OfKind(KindPartition)[1].Partition.Number = s.OfKind(KindPartition)[0].Partition.Number
		}, "same number"},
		{"end", func(s *Storage) { s.OfKind(KindPartition)[0].Partition.Size = 1 << 50 }, "past the end"},
		{"zero", func(s *Storage) { s.OfKind(KindPartition)[0].Partition.Number = 0 }, "make no partition"},
		{"missing member", func(s *Storage) { s.OfKind(KindVG)[0].On[0].Node = "" }, "names no node"},
	} {
		m := golden(t)
		c.spoil(&m.Storage)
		if got := strings.Join(m.Storage.Check(), "\n"); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q does not hold %q", c.name, got, c.want)
		}
	}
	if f := golden(t).Storage.Check(); len(f) != 0 {
		t.Errorf("the golden graph: %v", f)
	}
}

// TestFingerprint counts intent, and nothing that differs on two days of an
// unchanged host.
func TestFingerprint(t *testing.T) {
	was := golden(t).Fingerprint()
	same := golden(t)
	same.Made = same.Made.Add(24 * time.Hour)
	same.By = "later"
	same.Machine.Memory++
	same.Network.Links = nil
	same.LeftOut = append(same.LeftOut, LeftOut{Path: "/run/x", Reason: "runtime"})
	same.System.Cmdline = "other"
	same.Boot.Order = []string{"0001"}
	for i := range same.Storage.Nodes {
		same.Storage.Nodes[i].Seen = Seen{Device: "sdq", Used: 7}
	}
	for i := range same.Storage.Mounts {
		same.Storage.Mounts[i].Live = false
	}
	if same.Fingerprint() != was {
		t.Error("what was only observed counts")
	}
	for name, change := range map[string]func(*Manifest){
		"size":    func(m *Manifest) { m.Storage.OfKind(KindPartition)[0].Partition.Size += 512 },
		"mount":   func(m *Manifest) { m.Storage.Mounts[0].Options = []string{"ro"} },
		"kernel":  func(m *Manifest) { m.System.Kernels = nil },
		"network": func(m *Manifest) { m.Network.Files = []File{{Path: "/etc/x", Text: "y"}} },
		"dir":     func(m *Manifest) { m.Dirs = nil },
		"loader":  func(m *Manifest) { m.Boot.Loader = "none" },
	} {
		m := golden(t)
		change(m)
		if m.Fingerprint() == was {
			t.Errorf("%s does not count", name)
		}
	}
	if golden(t).Fingerprint() != was {
		t.Error("not stable")
	}
}

// TestOwnDisks: a stick that is merely plugged in is no disk of the host,
// wherever it stands in the graph.
func TestOwnDisks(t *testing.T) {
	m := golden(t)
	want := len(m.OwnDisks())
	stick := []Node{{ID: "disk:serial-STICK", Kind: KindDisk, Disk: &Disk{Serial: "STICK"}},
		{ID: "fs:lent", Kind: KindFS, On: []Edge{{Node: "disk:serial-STICK"}}, FS: &FS{}}}
	m.Storage.Nodes = append(stick, m.Storage.Nodes...)
	if got := m.OwnDisks(); want == 0 || len(got) != want || got[0].ID == "disk:serial-STICK" {
		t.Errorf("%d disks, want %d: %+v", len(got), want, got)
	}
	if m.Fingerprint() != golden(t).Fingerprint() {
		t.Error("a stick that is plugged in counts")
	}
	m.Storage.Mounts = append(m.Storage.Mounts, Mount{Path: "/lent", Node: "fs:lent", Backup: ScopeFull})
	if got := m.OwnDisks(); len(got) != want+1 {
		t.Errorf("%d disks with a mount of the stick", len(got))
	}
}

func TestGraph(t *testing.T) {
	s := &golden(t).Storage
	root := golden(t).Boot.RootFS
	if d := s.Disks(root); len(d) != 1 || d[0].Kind != KindDisk {
		t.Errorf("disks under /: %v", d)
	}
	disk := s.OfKind(KindDisk)[0].ID
	if n := len(s.Above(disk)); n != len(s.Nodes)-len(s.OfKind(KindDisk)) {
		t.Errorf("%d of %d nodes above the only disk", n, len(s.Nodes))
	}
	if b := s.Below(root); b[0].ID != root || b[len(b)-1].Kind != KindDisk {
		t.Errorf("below /: %v", b)
	}
	if m := s.MountsOf(root); len(m) != 1 || m[0].Path != "/" {
		t.Errorf("mounts of the root filesystem: %v", m)
	}
	if s.Node("fs:nothing") != nil || len(s.Below("fs:nothing")) != 0 {
		t.Error("a node that is not there was found")
	}
}

func TestBytes(t *testing.T) {
	for in, want := range map[Bytes]string{
		"/srv/ü": "/srv/ü", "a\xffb": `a\xffb`, `a\b`: `a\x5cb`, "a\nb\x00": `a\x0ab\x00`, "a\u202eb": `a\xe2\x80\xaeb`, "": "",
	} {
		if got := in.String(); got != want {
			t.Errorf("%q is written %s, not %s", string(in), got, want)
		}
		var back Bytes
		if err := back.UnmarshalText([]byte(want)); err != nil || back != in {
			t.Errorf("%s is read as %q: %v", want, string(back), err)
		}
	}
	for _, bad := range []string{`\`, `a\x`, `a\x4`, `\xzz`, `\n`} {
		var b Bytes
		if err := b.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func FuzzBytes(f *testing.F) {
	f.Add("a\xff\\\n ü")
	f.Fuzz(func(t *testing.T, s string) {
		text, err := Bytes(s).MarshalText()
		var back Bytes
		if err != nil || back.UnmarshalText(text) != nil || string(back) != s {
			t.Errorf("%q → %s → %q", s, text, string(back))
		}
	})
}

func FuzzDecode(f *testing.F) {
	if data, err := os.ReadFile("testdata/v1.json"); err == nil {
		f.Add(data)
	}
	f.Add([]byte(`{"format":"lifeboat.manifest/1","storage":{"nodes":[{"id":"a","kind":"fs","on":[{"node":"a"}]}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode(data)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(again); err != nil {
			t.Errorf("what was read is refused when written again: %v", err)
		}
	})
}
