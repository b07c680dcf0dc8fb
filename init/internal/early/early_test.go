package early

import (
	"errors"
	"os"
	"strings"
	"testing"

	"lifeboat/internal/handoff"
)

func TestPrintk(t *testing.T) {
	for line, want := range map[string]string{
		"": "4", "quiet": "3", "debug": "7", "quiet debug": "7", "debug quiet": "7", "quiet loglevel=6": "", "ignore_loglevel": "",
	} {
		if got := printk(strings.Fields(line), false); got != want {
			t.Errorf("printk(%q) = %q, want %q", line, got, want)
		}
	}
	if printk(nil, true) != "7" {
		t.Error("lifeboat.debug shows nothing")
	}
}

func TestOrder(t *testing.T) {
	image := handoff.Order{ID: "o1", Host: "srv", Recover: handoff.Auto, Then: handoff.Reboot}.Encode()
	for name, c := range map[string]struct {
		image   []byte
		err     error
		cmdline string
		recover string
		host    string
		faults  int
	}{
		"image":           {image, nil, "quiet", handoff.Auto, "srv", 0},
		"command line":    {image, nil, "lifeboat.recover=menu", handoff.Menu, "srv", 0},
		"no order":        {nil, os.ErrNotExist, "", handoff.Menu, "", 0},
		"no order, auto":  {nil, os.ErrNotExist, "lifeboat.recover=auto", handoff.Auto, "", 0},
		"unreadable":      {nil, errors.New("input/output error"), "lifeboat.recover=auto", handoff.Menu, "", 1},
		"damaged":         {[]byte("{"), nil, "auto_recover", handoff.Menu, "", 1},
		"newer field":     {[]byte(`{"recover":"auto","then":"stay","extra":1}`), nil, "", handoff.Menu, "", 1},
		"typing mistake":  {image, nil, "lifeboat.recover=menü lifeboat.maping=x", handoff.Auto, "srv", 2},
		"wrong in itself": {[]byte(`{"recover":"now","then":"stay"}`), nil, "", handoff.Menu, "", 1},
	} {
		o, faults := Order(c.image, c.err, c.cmdline)
		if o.Recover != c.recover || o.Host != c.host || len(faults) != c.faults {
			t.Errorf("%s: recover %q, host %q, faults %v", name, o.Recover, o.Host, faults)
		}
		if err := o.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestToUnmount(t *testing.T) {
	const info = `1 1 0:2 / / rw - rootfs rootfs rw
20 1 0:19 / /proc rw - proc proc rw
21 1 0:6 / /dev rw - devtmpfs devtmpfs rw
22 21 0:20 / /dev/pts rw - devpts devpts rw
23 1 0:21 / /run rw - tmpfs tmpfs rw
30 1 8:1 / /mnt/my\040disk rw - ext4 /dev/sda1 rw
31 30 8:2 / /mnt/my\040disk/boot rw - ext4 /dev/sda2 rw
short line
`
	if got := strings.Join(toUnmount(info), "|"); got != "/mnt/my disk/boot|/mnt/my disk|/dev/pts" {
		t.Errorf("%s", got)
	}
}

func TestSwapAreas(t *testing.T) {
	const swaps = "Filename\t\t\t\tType\t\tSize\n/dev/dm-1                               partition\t1048572\t0\t-2\n/mnt/swap\\040file file 8 0 -3\n"
	if got := strings.Join(swapAreas(swaps), "|"); got != "/dev/dm-1|/mnt/swap file" {
		t.Errorf("%s", got)
	}
}
