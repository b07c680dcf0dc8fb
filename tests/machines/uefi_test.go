//go:build machines && deep

package machines

import (
	"testing"
	"time"

	"lifeboat/drill"
	"lifeboat/drill/qemu"
	"lifeboat/report"
	"lifeboat/tests/lab"
)

// A server that starts by UEFI comes back on a blank disk, in front of a
// firmware that has never heard of it.
func TestRecoveryUEFI(t *testing.T) {
	proven(t, "UEFI, GPT, root on xfs, swap partition: blank disk, empty NVRAM, archive over HTTP, unattended")
	ctx, cancel := soon(t.Context(), 40*time.Minute)
	defer cancel()
	phase := phases(t)
	m := fixtureOf(ctx, t, server{name: "uefi", layout: lab.UEFILayout()})
	phase("a server that backed itself up")
	var problems []report.Problem
	res, err := drill.Run(ctx, drill.Options{Image: m.iso, Backup: m.store, Dir: t.TempDir(), Firmware: qemu.UEFI, Between: func(disks []string) error {
		phase("recovery")
		ds, err := m.lab.Compare(ctx, m.disk, disks[0])
		if err != nil {
			return err
		}
		if rest, _ := ds.Except(allowedUEFI...); len(rest) > 0 {
			t.Errorf("the restored disk differs from the server's:\n%v", rest)
		}
		phase("comparing every file and identity")
		return nil
	}, Sink: report.SinkFunc(func(e report.Event) {
		if e.Problem != nil {
			problems = append(problems, *e.Problem)
		}
	})})
	if err != nil {
		t.Fatal(err)
	}
	phase("first boot")
	for _, p := range problems {
		t.Errorf("the recovery had something to say: %s", p.Line())
	}
	if !res.Passed {
		t.Fatalf("the drill did not pass: %s", res.Why)
	}
	if res.System.State != "running" || len(res.System.Failed) > 0 {
		t.Errorf("the restored system is %s, failed: %v", res.System.State, res.System.Failed)
	}
	keepShots(t, res)
	t.Logf("phases of the recovery: %+v", res.Recovery.Phases)
}

// allowedUEFI are the differences on the UEFI server's disk.
var allowedUEFI = append([]lab.Allow{{Path: "var/lib/kinds/sparse/*", What: "stored", Why: "xfs had allocated ahead"}}, allowed...)
