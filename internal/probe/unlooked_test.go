package probe

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/run"
	"lifeboat/internal/tools/blkid"
	"lifeboat/manifest"
)

// TestCause: only what shows damage is called so; whatever says nothing of the
// content must stay doubt.
func TestCause(t *testing.T) {
	ran := func(code int, cause error) error { return &run.Error{Argv: []string{"lvm"}, Code: code, Cause: cause} }
	for _, c := range []struct {
		err  error
		want string
	}{
		{ran(-1, exec.ErrNotFound), manifest.UnlookedTool},
		{ran(127, errors.New("exit status 127")), manifest.UnlookedTool},
		{ran(-1, context.DeadlineExceeded), manifest.UnlookedTimeout},
		{context.Canceled, manifest.UnlookedTimeout},
		{ran(5, errors.New("exit status 5")), manifest.UnlookedOther},
		{ran(-1, errors.New("signal: segmentation fault")), manifest.UnlookedOther},
		{unix.ENODEV, manifest.UnlookedDriver},
		{ErrNotLooked, manifest.UnlookedDriver},
		{unix.EUCLEAN, manifest.UnlookedDamaged},
		{unix.EBADMSG, manifest.UnlookedDamaged},
		{unix.EIO, manifest.UnlookedDamaged},
		{unix.EBUSY, manifest.UnlookedOther},
		{unix.ENOMEM, manifest.UnlookedOther},
		{unix.ENOENT, manifest.UnlookedOther},
		{blkid.ErrAmbivalent, manifest.UnlookedOther},
		{errors.New("?"), manifest.UnlookedOther},
	} {
		if got := cause(fmt.Errorf("look: %w", c.err)); got != c.want {
			t.Errorf("%v: %s, not %s", c.err, got, c.want)
		}
	}
}

// TestClosed: what no reader opens is told, and what is open already is not.
func TestClosed(t *testing.T) {
	r := &Reading{}
	for _, c := range []struct {
		found   *blkid.Found
		err     error
		holders []string
		why     string
	}{
		{&blkid.Found{Type: "crypto_LUKS", UUID: "u"}, nil, nil, manifest.UnlookedLocked},
		{&blkid.Found{Type: "crypto_LUKS", UUID: "u"}, nil, []string{"dm-0"}, ""},
		{&blkid.Found{Type: "linux_raid_member"}, nil, nil, manifest.UnlookedDriver},
		{&blkid.Found{Type: "zfs_member"}, nil, nil, manifest.UnlookedDriver},
		{&blkid.Found{Type: "ext4"}, nil, nil, ""},    // is mounted for a look
		{&blkid.Found{Type: lvmMember}, nil, nil, ""}, // LVM tells of it
		{&blkid.Found{Type: "swap"}, nil, nil, ""},
		{&blkid.Found{Table: "gpt"}, errors.New("x"), nil, ""},
		{nil, nil, nil, ""},
		{nil, blkid.ErrAmbivalent, nil, manifest.UnlookedOther},
		{nil, fmt.Errorf("read sda1: %w", unix.EIO), nil, manifest.UnlookedDamaged},
	} {
		u, ok := r.closed(&blockdev.Device{Name: "sda1", Holders: c.holders}, &content{found: c.found, err: c.err})
		if ok != (c.why != "") || u.Why != c.why || ok && u.Device != "sda1" {
			t.Errorf("%+v, %v, %v: %+v", c.found, c.err, c.holders, u)
		}
	}
}
