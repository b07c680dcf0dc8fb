//go:build machines

package machines

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/drill"
	"lifeboat/report"
	"lifeboat/tests/lab"
)

// Scenario 1: BIOS, GPT, a volume group with a dash, files of every kind. A
// blank disk without a serial takes the place of the lost one, over HTTP and
// with nobody typing. Before its first boot the restored disk is compared
// with the server's by Debian's own tools.
func TestRecovery(t *testing.T) {
	proven(t, "BIOS, GPT, LVM, ext4, xfs, swap: blank disk without serial, archive over HTTP, unattended")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Minute)
	defer cancel()
	phase := phases(t)
	m := recoveryFixture(ctx, t)
	phase("a server that backed itself up")
	res := comesBack(ctx, t, m, drill.Options{}, allowed)
	if res.Recovery.Resumed || res.Recovery.Attempt != 1 {
		t.Errorf("resumed %v, attempt %d", res.Recovery.Resumed, res.Recovery.Attempt)
	}
}

// comesBack drills the image that a server made of itself: nothing is said
// that is a problem, the restored disk is the server's but for what is
// allowed, and the restored system runs.
func comesBack(ctx context.Context, t *testing.T, m *made, o drill.Options, allow []lab.Allow) *drill.Result {
	t.Helper()
	phase := phases(t)
	var problems []report.Problem
	o.Image, o.Backup = cmp.Or(o.Image, m.iso), m.store
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	more := o.Between
	o.Between = func(disks []string) error {
		phase("recovery")
		ds, err := m.lab.Compare(ctx, m.disk, disks[0])
		if err != nil {
			return err
		}
		rest, unused := ds.Except(allow...)
		if len(rest) > 0 {
			t.Errorf("the restored disk differs from the server's:\n%v", rest)
			keepDifferences(t, rest)
		}
		for _, a := range unused {
			t.Logf("an allowed difference did not occur: %+v", a)
		}
		phase("comparing every file and identity")
		if more != nil {
			return more(disks)
		}
		return nil
	}
	o.Sink = report.SinkFunc(func(e report.Event) {
		if e.Problem != nil {
			problems = append(problems, *e.Problem)
		}
	})
	res, err := drill.Run(ctx, o)
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
	return res
}

// keepDifferences writes all of them where people find them.
func keepDifferences(t *testing.T, ds lab.Differences) {
	t.Helper()
	var b strings.Builder
	for _, d := range ds {
		fmt.Fprintln(&b, d)
	}
	if err := os.MkdirAll("../../build/machines", 0o755); err != nil {
		t.Log(err)
	}
	if err := os.WriteFile("../../build/machines/differences.txt", []byte(b.String()), 0o644); err != nil {
		t.Log(err)
	}
}

// keepShots puts pictures where people find them after the test.
func keepShots(t *testing.T, res *drill.Result) {
	if err := os.MkdirAll("../../build/machines", 0o755); err != nil {
		t.Log(err)
	}
	t.Helper()
	for _, s := range res.Shots {
		if err := lab.CopySparse(t.Context(), s, filepath.Join("../../build/machines", filepath.Base(s))); err != nil {
			t.Log(err)
		}
	}
}
