//go:build machines

package machines

import (
	"context"
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"lifeboat/drill"
	"lifeboat/drill/qemu"
	"lifeboat/report"
	"lifeboat/tests/lab"
)

// A medium that recovers by itself is left in a server that is well: at the
// next restart the server starts as ever, the report says why nothing was
// recovered, and no byte was changed until its own kernel ran.
func TestLivingServer(t *testing.T) {
	proven(t, "a healthy server in front of an automatic medium: its own system starts, exit 4, bytes unchanged")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	phase := phases(t)
	m := recoveryFixture(ctx, t)
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if err := lab.CopySparse(ctx, m.disk, disk); err != nil {
		t.Fatal(err)
	}
	before := contentSum(t, disk)
	phase("a server that backed itself up")

	vm, err := lab.Start(ctx, qemu.Config{Name: "living", Dir: pictures(t), Memory: 1 << 30, Log: t.Logf,
		Drives: []qemu.Drive{{File: m.iso, Interface: qemu.CDROM, ReadOnly: true, Boot: 1}, {File: disk, Interface: qemu.Virtio, Boot: 2}},
		Ports:  []qemu.Port{{Name: drill.PortEvents}},
		NICs:   []qemu.NIC{{Services: []qemu.GuestService{{Address: storeAt, To: serve(t, m.store)}}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Kill()
	if _, err := vm.WaitSerialMatch(ctx, regexp.MustCompile(`The installed system is started in \d+ s`)); err != nil {
		t.Fatal(err)
	}
	if err := vm.Screenshot(ctx, filepath.Join(pictures(t), "living-countdown.png")); err != nil {
		t.Error(err)
	}
	if err := vm.WaitSerial(ctx, "Starting the kernel that was loaded"); err != nil {
		t.Fatal(err)
	}
	pause := func(command string) {
		if _, err := vm.QMP().Execute(ctx, command, nil); err != nil {
			t.Fatal(err)
		}
	}
	pause("stop")
	if contentSum(t, disk) != before {
		t.Error("the rescue system changed the server's disk")
	}
	pause("cont")
	phase("the rescue system hands over")

	if err := vm.Agent(ctx); err != nil {
		t.Fatal(err)
	}
	res, err := vm.Run(ctx, "systemctl is-system-running --wait; cat /proc/cmdline; findmnt -no SOURCE /")
	if err != nil {
		t.Fatal(err)
	}
	if out := string(res.Stdout); !strings.HasPrefix(out, "running\n") || strings.Contains(out, "lifeboat.") || !strings.Contains(out, "BOOT_IMAGE=") {
		t.Errorf("the server after its start: %s%s", out, res.Stderr)
	}
	if err := vm.Screenshot(ctx, filepath.Join(pictures(t), "living-login.png")); err != nil {
		t.Error(err)
	}
	phase("the server's own system started")
	refusedAsLiving(t, vm.Port(drill.PortEvents).Text())
}

// refusedAsLiving looks for the result that says why nothing was recovered.
func refusedAsLiving(t *testing.T, events string) {
	t.Helper()
	for _, l := range jsonLine.FindAllString(events, -1) {
		var e report.Event
		var r report.Result
		if json.Unmarshal([]byte(l), &e) != nil || e.Kind != report.Done {
			continue
		}
		if err := json.Unmarshal(e.Data, &r); err != nil {
			t.Fatal(err)
		}
		if r.Exit != report.ExitRefused || len(r.Problems) == 0 || r.Problems[0].Code != report.CodeLiving {
			t.Errorf("the recovery ended with %d, %+v", r.Exit, r.Problems)
		}
		return
	}
	t.Errorf("no result was reported:\n%s", lastOf(events, 2000))
}
