package rescue

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/archive"
	"lifeboat/backup"
	"lifeboat/internal/handoff"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// volumes is a host with a root on a volume, and on more volumes of the same
// group what the names say.
func volumes(made time.Time, more ...string) *manifest.Manifest {
	const mib = 1 << 20
	on := func(id manifest.ID) []manifest.Edge { return []manifest.Edge{{Node: id, Role: manifest.RoleMember}} }
	m := &manifest.Manifest{Format: manifest.Format, Made: made, By: "test", Host: manifest.Host{Name: "alpha", MachineID: "0123", OS: manifest.OSRelease{ID: "debian", Arch: "amd64"}},
		Boot: manifest.Boot{Firmware: manifest.FirmwareBIOS, Loader: "none"}, System: manifest.System{Kernel: "6.1"}}
	m.Machine.Firmware.Mode = manifest.FirmwareBIOS
	s := &m.Storage
	s.Nodes = []manifest.Node{
		{ID: "disk:1", Kind: manifest.KindDisk, Bytes: 4 << 30, Disk: &manifest.Disk{Serial: "ONE", Bytes: 4 << 30, Logical: 512, Physical: 512}},
		{ID: "pv:1", Kind: manifest.KindPV, On: on("disk:1"), Bytes: 4 << 30, PV: &manifest.PV{UUID: "1", VG: "vg", PEStart: mib, Extents: 1000, DevSize: 4 << 30, MDACopies: 1}},
		{ID: "vg:1", Kind: manifest.KindVG, On: on("pv:1"), Bytes: 4000 * mib, VG: &manifest.VG{Name: "vg", UUID: "1", ExtentSize: 4 * mib, Extents: 1000}},
	}
	for i, typ := range append([]string{"ext4"}, more...) {
		lv, fs := manifest.ID(fmt.Sprintf("lv:%d", i)), manifest.ID(fmt.Sprintf("fs:%d", i))
		f := &manifest.FS{Type: typ, UUID: fmt.Sprintf("0000000%d-0000-4000-8000-000000000000", i)}
		if typ == "xfs" {
			f.XFS = &manifest.XFS{BlockSize: 4096, SectorSize: 512}
		} else {
			f.Ext = &manifest.Ext{BlockSize: 4096, Blocks: 25600}
		}
		path := manifest.Bytes("/")
		if i > 0 {
			path += manifest.Bytes(fmt.Sprintf("data%d", i))
		}
		s.Nodes = append(s.Nodes,
			manifest.Node{ID: lv, Kind: manifest.KindLV, On: on("vg:1"), Bytes: 100 * mib, LV: &manifest.LV{Name: fmt.Sprintf("lv%d", i), UUID: fmt.Sprint(i), Type: "linear",
				Segments: []manifest.Segment{{Type: "linear", Extents: 25, Stripes: 1, Areas: []manifest.Area{{PV: "pv:1", Start: int64(25 * i)}}}}}},
			manifest.Node{ID: fs, Kind: manifest.KindFS, On: on(lv), Bytes: 100 * mib, FS: f})
		s.Mounts = append(s.Mounts, manifest.Mount{Path: path, Node: fs, Type: typ, InFstab: true, Live: true, Backup: manifest.ScopeFull})
	}
	m.Boot.RootFS, m.Boot.BootFS = "fs:0", "fs:0"
	return m
}

// backedUp is an archive with that manifest inside.
func backedUp(t *testing.T, host string, inside *manifest.Manifest) *archive.Archive {
	t.Helper()
	doc, err := inside.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var sources []archive.Source
	for _, mt := range inside.Storage.Mounts {
		sources = append(sources, archive.Source{Path: string(mt.Path), At: t.TempDir()})
	}
	var b bytes.Buffer
	if _, err := archive.Create(context.Background(), &b, archive.Options{HostID: host, Manifest: doc}, sources); err != nil {
		t.Fatal(err)
	}
	a, err := archive.Open(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// session of a medium that was made in May, with the backup's manifest taken.
func taken(t *testing.T, medium, inside *manifest.Manifest) (*session, string) {
	t.Helper()
	s := (&Worker{J: NewJournal(), Order: handoff.Order{ID: "o", Backup: handoff.Backup{Method: "archive"}}}).newSession(Request{Do: "recover"})
	s.manifest, s.archive = medium, backedUp(t, backup.HostID(medium), inside)
	own, err := backup.CheckArchive(context.Background(), s.archive, s.manifest, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.takeManifest(own)
	var said strings.Builder
	for _, e := range s.w.J.Events() {
		said.WriteString(e.Text + "\n")
	}
	return s, said.String()
}

var may = time.Date(2026, 5, 1, 3, 0, 0, 0, time.UTC)

// TestBackupsManifestWins: a volume that was added after the medium was made
// is planned, and what differs is said.
func TestBackupsManifestWins(t *testing.T) {
	s, said := taken(t, volumes(may), volumes(may.AddDate(0, 1, 0), "xfs"))
	for _, want := range []string{"differs from the medium: ", "/data1", "vg/lv1", "The layout of the backup (2026-06-01T03:00:00Z) is used, not the medium's (2026-05-01T03:00:00Z)"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	s.machine = &manifest.Machine{Firmware: manifest.Firmware{Mode: manifest.FirmwareBIOS}, Disks: []manifest.MachineDisk{
		{Name: "sda", DevNo: "8:0", Disk: manifest.Disk{Serial: "ONE", Bytes: 4 << 30, Logical: 512, Physical: 512}}}}
	p := plan.Make(s.input())
	if p.Refused() || !slices.ContainsFunc(p.Steps, func(x plan.Step) bool { return x.ID == "mkfs/fs:1" }) {
		t.Errorf("the added volume is not planned:\n%s", p.Text())
	}
	// Rule 15: every tool that the newer manifest needs must be in the image.
	s.machine.Rescue = true
	for tool := range plan.Probes() {
		if tool != "mkfs.xfs" {
			s.machine.Tools = append(s.machine.Tools, manifest.Tool{Name: tool, Works: true})
		}
	}
	s.machine.Tools = append(s.machine.Tools, manifest.Tool{Name: "tune2fs"})
	s.machine.Kernel = manifest.KernelInfo{Filesystems: []string{"ext4", "xfs"}, Modules: []string{"dm_mod", "ext4", "xfs"}}
	if p = plan.Make(s.input()); len(p.Refusals) != 1 || p.Refusals[0].Code != report.CodeToolMissing || p.Refusals[0].Object != "mkfs.xfs" {
		t.Errorf("without mkfs.xfs in the image: %v", p.Refusals)
	}
}

// TestSameManifest: a backup of the layout that the medium knows says nothing,
// and a volume that is gone since then is not made again.
func TestSameManifest(t *testing.T) {
	if s, said := taken(t, volumes(may), volumes(may.AddDate(0, 1, 0))); said != "" || !s.manifest.Made.After(may) {
		t.Errorf("%s; manifest of %v", said, s.manifest.Made)
	}
	s, said := taken(t, volumes(may, "xfs", "ext4"), volumes(may.AddDate(0, 1, 0), "xfs"))
	if !strings.Contains(said, "/data2") || len(s.manifest.Storage.Mounts) != 2 {
		t.Errorf("%s; mounts %v", said, s.manifest.Storage.Mounts)
	}
}

// TestManifestOfAnotherHost: neither an archive of another host is taken, nor
// one that holds the manifest of another.
func TestManifestOfAnotherHost(t *testing.T) {
	medium, other := volumes(may), volumes(may)
	other.Host.MachineID, other.Host.Name = "4567", "beta"
	for name, a := range map[string]*archive.Archive{"archive": backedUp(t, "4567", medium), "manifest": backedUp(t, "0123", other)} {
		if _, err := backup.CheckArchive(context.Background(), a, medium, true, nil); report.ProblemOf(err).Code != report.CodeBackupHost {
			t.Errorf("%s of another host: %v", name, err)
		}
	}
	renamed := volumes(may)
	renamed.Host.Name = "alpha-new"
	if _, err := backup.CheckArchive(context.Background(), backedUp(t, "0123", renamed), medium, true, nil); err != nil {
		t.Errorf("the same host by another name: %v", err)
	}
}
