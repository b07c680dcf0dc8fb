package bootloader

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/internal/chroot"
	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

const (
	guidNew   = "0A3407DE-014B-458B-B5C1-848E92A327A3" // the ESP of the target
	guidOld   = "0B3407DE-014B-458B-B5C1-848E92A327A3" // a partition of the captured table that is gone
	guidOther = "99999999-014B-458B-B5C1-848E92A327A3" // of a disk that is not touched
	guidKept  = "88888888-014B-458B-B5C1-848E92A327A3" // of a captured disk that is not rebuilt
)

func esp(disk, guid string) []manifest.Node {
	on := func(id string) []manifest.Edge {
		return []manifest.Edge{{Node: manifest.ID(id), Role: manifest.RoleMember}}
	}
	return []manifest.Node{
		{ID: manifest.ID("disk:" + disk), Kind: manifest.KindDisk, Disk: &manifest.Disk{Serial: disk}},
		{ID: manifest.ID("table:" + disk), Kind: manifest.KindTable, On: on("disk:" + disk), Table: &manifest.Table{Type: "gpt"}},
		{ID: manifest.ID("part:" + guid), Kind: manifest.KindPartition, On: on("table:" + disk), Partition: &manifest.Partition{Number: 1, UUID: guid}},
		{ID: manifest.ID("fs:" + disk), Kind: manifest.KindFS, On: on("part:" + guid), FS: &manifest.FS{Type: "vfat"}},
	}
}

// bench is a loader of a Debian in a folder, with a fake efibootmgr.
func bench(t *testing.T, files ...string) (*Loader, *run.Fake, *[]report.Problem) {
	t.Helper()
	dir := t.TempDir()
	for _, f := range append(files, "usr/bin/efibootmgr") {
		p := filepath.Join(dir, f)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte("x"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	fake := &run.Fake{}
	root, err := chroot.At(dir, fake)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	m := &manifest.Manifest{}
	m.Host.OS.ID = "debian"
	m.Boot.GRUB = &manifest.GRUB{EFIDirs: []string{"debian"}}
	m.Storage.Nodes = append(esp("A", guidOld), esp("B", guidKept)...)
	p := &plan.Plan{Assignments: []plan.Assignment{{Node: "disk:A"}}}
	p.Target.Nodes = esp("A", guidNew)
	p.Target.Mounts = []manifest.Mount{{Path: "/boot/efi", Node: "fs:A"}}
	var problems []report.Problem
	return &Loader{Root: root, Manifest: m, Plan: p, Device: func(manifest.ID) (string, error) { return "/dev/sda", nil },
		Sink: report.SinkFunc(func(e report.Event) {
			if e.Problem != nil {
				problems = append(problems, *e.Problem)
			}
		})}, fake, &problems
}

// TestNVRAMEntries: only entries that lead to our own partitions go; another
// Debian on a disk that is not touched keeps its way to start.
func TestNVRAMEntries(t *testing.T) {
	l, fake, problems := bench(t, "boot/efi/EFI/debian/shimx64.efi")
	l.Entries = func() []manifest.EFIEntry {
		return []manifest.EFIEntry{
			{Num: "0000", Label: "UiApp"},
			{Num: "0001", Label: "debian", PartUUID: guidNew},
			{Num: "0002", Label: "debian", PartUUID: strings.ToLower(guidOld)},
			{Num: "0003", Label: "debian", PartUUID: guidOther},
			{Num: "0004", Label: "debian", PartUUID: guidKept},
			{Num: "0005", Label: "debian"}, // by network, or not understood
			{Num: "0006", Label: "debian old", PartUUID: guidNew},
		}
	}
	if err := l.NVRAM(context.Background(), plan.Step{Node: "fs:A"}); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(fake.Calls(), "\n")
	for _, s := range []string{"--bootnum 0001", "--bootnum 0002", `--create --disk /dev/sda --part 1 --label debian --loader '\EFI\debian\shimx64.efi'`} {
		if !strings.Contains(got, s) {
			t.Errorf("%s is not among\n%s", s, got)
		}
	}
	if n := strings.Count(got, "--delete-bootnum"); n != 2 || len(*problems) != 0 {
		t.Errorf("%d entries removed, problems %v:\n%s", n, *problems, got)
	}
}

// TestNVRAMWithoutLoader: what is missing is named; no text holds a nil.
func TestNVRAMWithoutLoader(t *testing.T) {
	l, fake, problems := bench(t, "boot/efi/EFI/other/x.efi")
	l.Entries = func() []manifest.EFIEntry { return nil }
	if err := l.NVRAM(context.Background(), plan.Step{Node: "fs:A"}); err != nil {
		t.Fatal(err)
	}
	if len(fake.Calls()) != 0 || len(*problems) != 1 {
		t.Fatalf("%v, %v", fake.Calls(), *problems)
	}
	if p := (*problems)[0]; strings.Contains(p.Text, "nil") || !strings.Contains(p.Text, "no boot program") || p.Next == "" {
		t.Errorf("%+v", p)
	}
}
