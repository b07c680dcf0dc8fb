package probe

import (
	"context"
	"errors"
	"strings"
	"testing"

	"lifeboat/internal/run"
	"lifeboat/manifest"
)

// TestPlainly: only signatures of one usual kind speak for themselves.
func TestPlainly(t *testing.T) {
	for types, want := range map[string]string{
		"ext4": "ext4", "vfat vfat vfat": "vfat", "gpt gpt PMBR": "table gpt", "gpt": "table gpt", "dos": "table dos", "LVM2_member": "LVM2_member", "swap": "swap",
		"": "", "PMBR": "", "ext4 swap": "", "gpt PMBR dos": "", "gpt ext4": "", "linux_raid_member": "", "btrfs": "", "crypto_LUKS": "", "zfs_member": "", "atari": "",
	} {
		var sigs []manifest.Signature
		for _, s := range strings.Fields(types) {
			sigs = append(sigs, manifest.Signature{Type: s, UUID: "u", Label: "l"})
		}
		got := ""
		if f := plainly(sigs); f != nil && f.Table != "" {
			got = "table " + f.Table
		} else if f != nil {
			got = f.Type
		}
		if got != want {
			t.Errorf("%q says %q, not %q", types, got, want)
		}
	}
}

// TestDoubt: what blkid alone recognises makes a disk not blank, and without
// wipefs no disk is.
func TestDoubt(t *testing.T) {
	b := newBench(t, "")
	b.opt.Run = &run.Fake{Answer: func(c run.Cmd) (run.Result, error) {
		if c.Path == "blkid" && strings.HasSuffix(c.Args[len(c.Args)-1], "/vdc") {
			return run.Result{Stdout: []byte("TYPE=drbd\nUUID=u-1\nUSAGE=raid\n")}, nil
		}
		return run.Exec{}.Run(context.Background(), c)
	}}
	m, err := Machine(context.Background(), b.opt)
	if err != nil {
		t.Fatal(err)
	}
	if d := disk(t, m, "vdc"); d.Blank() || d.Signatures[0].Type != "drbd" {
		t.Errorf("%+v", d)
	}
	if d := disk(t, m, "sdb"); !d.Blank() {
		t.Errorf("%+v", d)
	}
	b.opt.Run = &run.Fake{Answer: func(c run.Cmd) (run.Result, error) {
		if c.Path == "wipefs" {
			return run.Result{}, errors.New("wipefs: program not found")
		}
		return run.Exec{}.Run(context.Background(), c)
	}}
	if m, err = Machine(context.Background(), b.opt); err != nil {
		t.Fatal(err)
	}
	if d := disk(t, m, "sdb"); d.Blank() || !strings.Contains(d.Unread, "program not found") {
		t.Errorf("%+v", d)
	}
}
