package builder

import (
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/blockdev/recorded"
	"lifeboat/report"
)

// stickAt is where the recorded machine's stick is below sys.
const stickAt = "devices/pci0000:00/0000:00:07.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sde"

// part is a partition of the stick.
var part = []string{
	"l class/block/sde1 ../../" + stickAt + "/sde1", "l dev/block/8:65 ../../" + stickAt + "/sde1",
	"f " + stickAt + "/sde1/dev 8:65", "f " + stickAt + "/sde1/partition 1", "f " + stickAt + "/sde1/start 2048", "f " + stickAt + "/sde1/size 20480", "f " + stickAt + "/sde1/ro 0",
}

func TestJudgeStick(t *testing.T) {
	for name, c := range map[string]struct {
		disk string
		more []string
		want string // of the refusal; "" is none
	}{
		"free":                  {disk: "sde"},
		"with a partition":      {disk: "sde", more: part},
		"fixed":                 {disk: "sdc", want: "not removable (scsi)"},
		"inner disk":            {disk: "nvme0n1", want: "not removable (nvme)"},
		"a partition":           {disk: "sde1", more: part, want: "it is a partition"},
		"a dm device":           {disk: "dm-0", want: "it is a dm device"},
		"mounted":               {disk: "sde", more: append([]string{"p self/mountinfo 30 1 8:64 / /media/stick rw - vfat /dev/sde rw"}, part...), want: "/media/stick"},
		"mounted partition":     {disk: "sde", more: append([]string{"p self/mountinfo 30 1 8:65 / /media/stick rw - vfat /dev/sde1 rw"}, part...), want: "/media/stick"},
		"swap":                  {disk: "sde", more: append([]string{"p swaps /dev/sde1 partition 1024 0 -2"}, part...), want: "/dev/sde1"},
		"write protected":       {disk: "sde", more: []string{"f " + stickAt + "/ro 1"}, want: "read-only"},
		"sectors of 4096 bytes": {disk: "sde", more: []string{"f " + stickAt + "/queue/logical_block_size 4096"}, want: "sectors have 4096"},
		"no longer removable":   {disk: "sde", more: []string{"f " + stickAt + "/removable 0"}}, // many sticks say so; it still hangs on USB
	} {
		root := recorded.Lay(t, "../internal/blockdev/testdata/mixed.sysfs", c.more...)
		sys := blockdev.System{Sys: filepath.Join(root, "sys"), Proc: filepath.Join(root, "proc"), Dev: filepath.Join(root, "dev")}
		v, err := sys.Scan()
		if err != nil {
			t.Fatal(err)
		}
		d := v.Device(c.disk)
		if d == nil {
			t.Fatalf("%s: the recording has no %s", name, c.disk)
		}
		err = judgeStick(v, d)
		if c.want == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.want != "" && (err == nil || report.ExitOf(err) != report.ExitRefused || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v (exit %d), want %q", name, err, report.ExitOf(err), c.want)
		}
	}
}

// TestSameSerial: two sticks that say the same are no choice.
func TestSameSerial(t *testing.T) {
	root := recorded.Lay(t, "../internal/blockdev/testdata/mixed.sysfs")
	v, err := blockdev.System{Sys: filepath.Join(root, "sys"), Proc: filepath.Join(root, "proc"), Dev: filepath.Join(root, "dev")}.Scan()
	if err != nil {
		t.Fatal(err)
	}
	if twin := sameSerial(v, v.Device("sde")); twin != "" {
		t.Errorf("a twin of the only stick: %s", twin)
	}
	v.Device("sdd").Serial = v.Device("sde").Serial
	if twin := sameSerial(v, v.Device("sde")); filepath.Base(twin) != "sdd" {
		t.Errorf("the twin is %q", twin)
	}
	v.Device("sdd").Serial, v.Device("sde").Serial = "", ""
	if twin := sameSerial(v, v.Device("sde")); twin != "" {
		t.Errorf("disks without serials are no twins: %s", twin)
	}
}
