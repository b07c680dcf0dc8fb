package check

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"lifeboat/builder"
	"lifeboat/internal/config"
	"lifeboat/manifest"
	"lifeboat/report"
)

var update = flag.Bool("update", false, "write the golden files anew")

// now is the frozen clock of all tests.
var now = time.Date(2026, 11, 25, 8, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

const day = 24 * time.Hour

// host is a small system: a root filesystem with two mounts on a disk.
func host() *manifest.Manifest {
	m := &manifest.Manifest{Format: manifest.Format, Made: now, Host: manifest.Host{Name: "web1", MachineID: "0123"}}
	m.Storage.Nodes = []manifest.Node{{ID: "disk:A", Kind: manifest.KindDisk, Bytes: 4 << 30, Disk: &manifest.Disk{Serial: "A", Model: "Disk"}}}
	add(m, "fs:root", "/")
	m.System.Kernels = []manifest.Kernel{{Version: "6.1.0-1"}}
	return m
}

func add(m *manifest.Manifest, id manifest.ID, path manifest.Bytes) {
	m.Storage.Nodes = append(m.Storage.Nodes, manifest.Node{ID: id, Kind: manifest.KindFS, On: []manifest.Edge{{Node: "disk:A"}}, FS: &manifest.FS{Type: "ext4"}})
	m.Storage.Mounts = append(m.Storage.Mounts, manifest.Mount{Path: path, Node: id, Type: "ext4", Backup: manifest.ScopeFull})
}

// good are the facts of a host with nothing wrong.
func good() *Facts {
	image := &builder.ImageState{Made: ago(3 * day), By: "1", Settings: "s", BuildID: "b1", Manifest: host(),
		Media: []builder.Medium{{Kind: "iso", Path: "/var/lib/lifeboat/output/web1.iso", Bytes: 80 << 20}}}
	f := &Facts{Now: now, Settings: "s", Host: host(), Image: image, Method: "archive",
		Backup:  &builder.BackupState{Made: ago(5*time.Hour - time.Minute), Method: "archive", Name: "https://nas/web1/20261125T030000Z.lba", UUID: "u1", Bytes: 1 << 30, Manifest: host()},
		Archive: &ArchiveFact{Name: "https://nas/web1/20261125T030000Z.lba", UUID: "u1", Started: ago(5 * time.Hour), Bytes: 1 << 30, Manifest: host()}}
	for _, m := range image.Media {
		f.Media = append(f.Media, MediumFact{Medium: m, BuildID: "b1"})
	}
	return f
}

// cases are what can be wrong, each by itself.
var cases = []struct {
	name   string
	spoil  func(*Facts)
	limits func(*config.Check)
	state  State
}{
	{"all is well", func(*Facts) {}, nil, OK},
	{"all of it read", func(f *Facts) { f.Archive.Full = true }, nil, OK},
	{"no limits", func(f *Facts) { f.Image.Made, f.Archive.Started = ago(999*day), ago(999*day) }, func(c *config.Check) { *c = config.Check{} }, OK},
	{"no backup of ours", func(f *Facts) { f.Method, f.Backup, f.Archive = "none", nil, nil }, nil, OK},
	{"a stick", func(f *Facts) { f.Media[0].Stick, f.Media[0].Path = true, "web1 on /dev/sdb" }, nil, OK},
	{"backup on the stick", func(f *Facts) { f.Archive, f.Backup.Name = nil, "usb:web1/20261125T030000Z.lba" }, nil, OK},
	{"new kernel, the backup is of yesterday", func(f *Facts) {
		for _, m := range []*manifest.Manifest{f.Host, f.Image.Manifest} {
			m.System.Kernels = append(m.System.Kernels, manifest.Kernel{Version: "6.1.0-2"})
		}
	}, nil, OK},
	{"exactly at the limit", func(f *Facts) { f.Archive.Started = ago(2 * day) }, nil, OK},
	{"backup old", func(f *Facts) { f.Archive.Started = ago(2*day + time.Second) }, nil, Warning},
	{"backup very old", func(f *Facts) { f.Archive.Started = ago(5 * day) }, nil, Critical},
	{"image old", func(f *Facts) { f.Image.Made = ago(100 * day) }, nil, Warning},
	{"image very old", func(f *Facts) { f.Image.Made = ago(400 * day) }, nil, Critical},
	{"clock set back", func(f *Facts) { f.Archive.Started = ago(-3 * day) }, nil, Warning},
	{"kernel came", func(f *Facts) {
		f.Host.System.Kernels = append(f.Host.System.Kernels, manifest.Kernel{Version: "6.1.0-2"})
	}, nil, Warning},
	{"filesystem came after the backup", func(f *Facts) { add(f.Host, "fs:srv", "/srv/d|ata\n") }, nil, Warning},
	{"filesystem came, the image is new", func(f *Facts) { add(f.Host, "fs:srv", "/srv"); add(f.Image.Manifest, "fs:srv", "/srv") }, nil, Warning},
	{"disk replaced", func(f *Facts) {
		f.Host.Storage.Nodes[0].ID, f.Host.Storage.Nodes[0].Disk.Serial = "disk:B", "B"
		f.Host.Storage.Nodes[1].On[0].Node = "disk:B"
	}, nil, Warning},
	{"settings", func(f *Facts) { f.Settings = "t" }, nil, Warning},
	{"another image", func(f *Facts) { f.Media[0].BuildID = "b2" }, nil, Warning},
	{"no image", func(f *Facts) { f.Image, f.Media = nil, nil }, nil, Critical},
	{"no medium", func(f *Facts) { f.Image.Media, f.Media = nil, nil }, nil, Critical},
	{"image gone", func(f *Facts) { f.Media[0].Err = errors.New("the rescue image /x.iso is gone") }, nil, Critical},
	{"image damaged", func(f *Facts) {
		f.Media[0].Err = report.Errorf(report.CodeFailed, "build the image again", "/x.iso is damaged: boot/initrd: its digest is another")
	}, nil, Critical},
	{"note damaged", func(f *Facts) {
		f.Image, f.Media, f.ImageErr = nil, nil, errors.New("image.json cannot be read: unexpected end")
	}, nil, Unknown},
	{"store empty", func(f *Facts) {
		f.Archive, f.Unread = nil, report.Errorf(report.CodeBackupMissing, "check the host's name", "https://nas holds no archive of web1")
	}, nil, Critical},
	{"backup damaged", func(f *Facts) {
		f.Unread = report.Errorf(report.CodeBackupDamaged, "choose an older archive", "the backup is not whole: frame 7: digest")
	}, nil, Critical},
	{"never backed up", func(f *Facts) { f.Archive, f.Backup, f.Method = nil, nil, "external" }, nil, Critical},
	{"backups expired", func(f *Facts) { f.Archive.UUID, f.Archive.Started = "u0", ago(30*time.Hour) }, nil, Warning},
	{"another host's settings backed it up later", func(f *Facts) { f.Archive.UUID, f.Archive.Started = "u2", ago(time.Hour) }, nil, OK},
	{"files not read", func(f *Facts) {
		f.Archive.Problems, f.Backup.Unread = 2, []string{`"/srv/a": open: input/output error`, `"/srv/b": read`}
	}, nil, Warning},
	{"cannot be recovered", func(f *Facts) {
		f.Host.Uncovered = []manifest.Uncovered{{Path: "/srv", Reason: "btrfs is not rebuilt yet"}, {Path: "/x", Accepted: true}}
	}, nil, Critical},
	{"host not captured", func(f *Facts) { f.Host, f.HostErr = nil, errors.New("lvm: exit 5") }, nil, Unknown},
	{"host not captured, image gone", func(f *Facts) { f.Host, f.HostErr, f.Media[0].Err = nil, errors.New("lvm: exit 5"), errors.New("gone") }, nil, Critical},
}

// TestJudge compares what a monitoring system and a person would read.
func TestJudge(t *testing.T) {
	var b strings.Builder
	for _, c := range cases {
		f, limits := good(), config.DefaultCheck
		c.spoil(f)
		if c.limits != nil {
			c.limits(&limits)
		}
		r := Judge(f, limits)
		if r.State != c.state || r.Exit != int(c.state) {
			t.Errorf("%s: %s, exit %d, instead of %s: %s", c.name, r.State, r.Exit, c.state, r.Line())
		}
		if (r.State == OK) != (len(r.Findings) == 0) {
			t.Errorf("%s: %s with %d findings", c.name, r.State, len(r.Findings))
		}
		plugin(t, c.name, r)
		fmt.Fprintf(&b, "# %s\n%s\n", c.name, r.Line())
		for _, l := range r.Long() {
			fmt.Fprintln(&b, l)
		}
	}
	const golden = "testdata/nagios.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the lines differ from %s (go test -update writes it anew): %s", golden, firstDifference(string(want), b.String()))
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range g {
		if i >= len(w) || w[i] != g[i] {
			return fmt.Sprintf("line %d is\n%s", i+1, g[i])
		}
	}
	return "lines are missing at the end"
}

// figure is one item of performance data, as the plugin guidelines have it:
// label=value[unit];[warn];[crit];[min]. Ranges are plain numbers here.
var figure = regexp.MustCompile(`^[a-z_]+=[0-9]+(s|B)?(;[0-9]*){0,4}$`)

// plugin holds the output against the rules of Nagios plugins.
func plugin(t *testing.T, name string, r *Result) {
	t.Helper()
	line := r.Line()
	text, data, has := strings.Cut(line, " | ")
	if strings.ContainsAny(line, "\n\r") || strings.Contains(text, "|") || !strings.HasPrefix(text, "LIFEBOAT "+r.State.String()+" - ") {
		t.Errorf("%s: %q", name, line)
	}
	if has {
		for _, f := range strings.Fields(data) {
			if !figure.MatchString(f) {
				t.Errorf("%s: %q is no performance data", name, f)
			}
		}
	}
	for _, l := range r.Long() {
		if strings.ContainsAny(l, "|\n") {
			t.Errorf("%s: %q", name, l)
		}
	}
}

// TestWorst: what is known to be bad outweighs what is not known.
func TestWorst(t *testing.T) {
	if !(Critical.weight() > Warning.weight() && Warning.weight() > Unknown.weight() && Unknown.weight() > OK.weight()) {
		t.Error("the order of states is wrong")
	}
	if r := Hung("the backup in /mnt/nas", 50*time.Second); r.Exit != 3 || !strings.Contains(r.Line(), "no answer within 50s while looking at the backup in /mnt/nas") {
		t.Error(r.Line())
	}
	if r := Failed(report.Errorf(report.CodeUsage, "run it as root", "no")); r.Exit != 3 {
		t.Error(r.Line())
	}
}

func TestDrift(t *testing.T) {
	if d := Drift(&builder.ImageState{Manifest: host()}, host()); len(d) != 0 || d == nil {
		t.Errorf("%q", d)
	}
	m := host()
	add(m, "fs:srv", "/srv")
	if d := Drift(&builder.ImageState{Manifest: host()}, m); len(d) != 2 {
		t.Errorf("%q", d)
	}
	if d := Drift(nil, m); len(d) != 1 {
		t.Errorf("%q", d)
	}
}

func TestRedacted(t *testing.T) {
	for raw, want := range map[string]string{"https://u:secret@nas/x": "https://u:xxxxx@nas/x", "/mnt/nas": "/mnt/nas", "https://u:secret@nas/%zz": "the configured store"} {
		if got := redacted(raw); got != want {
			t.Errorf("%s: %s", raw, got)
		}
	}
}
