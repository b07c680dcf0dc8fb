package adapt

import (
	"testing"

	"lifeboat/internal/hostconf/fstab"
	"lifeboat/manifest"
)

func TestMendLines(t *testing.T) {
	old := "# keep\nUUID=aaaa  /  ext4 defaults 0 1\nUUID=aaaab /x ext4 noatime 0 2 # tail\nUUID=ffff\tnone swap sw 0 0\n"
	got, n := mendLines(fstab.Parse([]byte(old)), []Line{{"/", "UUID=aaaa", "UUID=bbbb"}, {"none", "UUID=ffff", "/dev/vg/swap"}, {"/y", "UUID=aaaab", ""}})
	want := "# keep\nUUID=bbbb  /  ext4 defaults 0 1\nUUID=aaaab /x ext4 noatime 0 2 # tail\n/dev/vg/swap\tnone swap sw 0 0\n"
	if string(got) != want || n != 2 {
		t.Errorf("%d\n%s", n, got)
	}
}

func TestCapturedFstab(t *testing.T) {
	m := &manifest.Manifest{Storage: manifest.Storage{
		Nodes: []manifest.Node{{ID: "fs:1", FS: &manifest.FS{Type: "ext4", UUID: "u1"}}, {ID: "fs:2", FS: &manifest.FS{Type: "xfs", UUID: "u2"}}, {ID: "swap:3", Swap: &manifest.Swap{UUID: "u3"}}},
		Mounts: []manifest.Mount{{Path: "/", Node: "fs:1", InFstab: true, Spec: "UUID=u1", Type: "ext4", Options: []string{"errors=remount-ro", "noatime"}},
			{Path: "/srv/a b", Node: "fs:2", InFstab: true, Spec: "LABEL=d", Type: "xfs"}, {Path: "/usb", Node: "fs:2", Spec: "LABEL=x"},
			{Path: "none", Node: "swap:3", InFstab: true, Spec: "UUID=u3", Options: []string{"sw"}}}}}
	target := manifest.Storage{Nodes: []manifest.Node{m.Storage.Nodes[0], {ID: "fs:2", FS: &manifest.FS{Type: "xfs", UUID: "new"}}, m.Storage.Nodes[2]}}
	got, n := capturedFstab(m, &target)
	want := "# written by Lifeboat's repair as captured: the old file was gone\nUUID=u1 / ext4 errors=remount-ro,noatime 0 1\nUUID=new /srv/a\\040b xfs defaults 0 2\nUUID=u3 none swap sw 0 0\n"
	if string(got) != want || n != 3 {
		t.Errorf("%d\n%s", n, got)
	}
}
