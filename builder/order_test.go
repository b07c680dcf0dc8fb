package builder

import (
	"bytes"
	"strings"
	"testing"

	"lifeboat/builder/payload"
	"lifeboat/internal/cpio"
	"lifeboat/internal/handoff"
	"lifeboat/internal/loaders"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

func planned(t *testing.T, m *manifest.Manifest) *build {
	t.Helper()
	b := &build{o: Options{Manifest: m, Config: settings(t)}, res: &Result{}, kernel: &payload.Kernel{Release: "6.1.0"}}
	b.plan = plan.Make(plan.Input{Manifest: m, Machine: &m.Machine, Policy: plan.Policy{OwnHardware: true, Method: "archive"}})
	return b
}

func TestOrderOfConfiguration(t *testing.T) {
	b := planned(t, alpha("6.1.0"))
	c := b.o.Config
	c.Recover.Mode, c.Recover.Then, c.Recover.Verify, c.Recover.Mapping = "auto", "poweroff", "full", "/etc/lifeboat/site.map"
	c.Backup.TokenFile, c.SSH.AuthorizedKeys, c.Server.URL = "/etc/lifeboat/token", "/root/keys", "https://hub.example"
	o := b.makeOrder()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	want := handoff.Order{Host: "alpha", Built: "2026-05-01T03:00:00Z", Recover: "auto", Then: "poweroff", Verify: "full", Mapping: mappingInImage, Server: "https://hub.example",
		SSH: sshKeysInImage, Consoles: []string{"ttyS0,115200"}, Backup: handoff.Backup{Method: "archive", URL: "https://backup.example/store", TokenFile: backupTokenInImage}}
	if !bytes.Equal(o.Encode(), want.Encode()) {
		t.Errorf("got %s\nproblems %v", o.Encode(), b.res.Problems)
	}
	b.order = o
	b.order.BuildID = "0123456789abcdef"
	if m := b.menu(); m.Default != loaders.Auto || m.MenuOnly || m.Check() != nil {
		t.Errorf("menu: %+v", m)
	}
}

// TestUncoveredGivesMenuOnly: what would be lost is named on the first
// screen, and nothing recovers by itself, whatever the configuration says.
func TestUncoveredGivesMenuOnly(t *testing.T) {
	m := alpha("6.1.0")
	m.Uncovered = []manifest.Uncovered{{Path: "/odd", Reason: "a storage layer that is not known"}, {Path: "/fine", Reason: "x", Accepted: true}}
	b := planned(t, m)
	b.o.Config.Recover.Mode = "auto"
	b.order = b.makeOrder()
	if b.order.Recover != handoff.Menu || !strings.Contains(b.order.Reason, "/odd") || strings.Contains(b.order.Reason, "/fine") {
		t.Errorf("order %+v", b.order)
	}
	if len(b.res.Problems) != 1 || b.res.Problems[0].Code != report.CodeUncovered {
		t.Errorf("problems %v", b.res.Problems)
	}
	b.order.BuildID = "0123456789abcdef"
	if menu := b.menu(); !menu.MenuOnly || menu.Default != loaders.Local {
		t.Errorf("menu %+v", menu)
	}
}

// TestFoldBase: where the base cannot stand as a segment of its own, its
// files follow the host's links, and the kernel still finds our modprobe.
func TestFoldBase(t *testing.T) {
	tree := payload.NewTree()
	for _, e := range []payload.Entry{
		{Path: "usr/bin", Mode: 0o755 | 1<<31}, {Path: "usr/sbin", Mode: 1 << 27, Target: "bin"},
		{Path: "usr/bin/ls", Mode: 0o755, Data: []byte("host")},
	} {
		if err := tree.Put(e); err != nil {
			t.Fatal(err)
		}
	}
	list := []cpio.Entry{
		{Name: "init", Mode: cpio.TypeFile | 0o755}, {Name: "usr/sbin", Mode: cpio.TypeDir | 0o755},
		{Name: "usr/sbin/modprobe", Mode: cpio.TypeLink | 0o777, Link: "../../init"}, {Name: "usr/bin/ls", Mode: cpio.TypeLink | 0o777, Link: "bb"},
		{Name: "usr/bin/bb", Mode: cpio.TypeFile | 0o755}, {Name: "dev/console", Mode: cpio.TypeChar | 0o600, Major: 5, Minor: 1},
	}
	if plainLayout(tree) {
		t.Error("usr/sbin is a link: the base cannot stand alone")
	}
	if err := foldBase(tree, list, map[string][]byte{"init": []byte("INIT"), "usr/bin/bb": []byte("BB")}); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{"/usr/sbin/modprobe": "INIT", "/usr/bin/modprobe": "INIT", "/usr/bin/ls": "host", "/usr/sbin/bb": "BB"} {
		e := tree.Resolve(p)
		if e == nil || string(e.Data) != want {
			t.Errorf("%s is %+v, want %s", p, e, want)
		}
	}
	if e := tree.Get("usr/sbin"); e.Target != "bin" {
		t.Errorf("usr/sbin became %+v", e)
	}
	if e := tree.Get("dev/console"); e == nil || e.Major != 5 {
		t.Errorf("console %+v", e)
	}
}
