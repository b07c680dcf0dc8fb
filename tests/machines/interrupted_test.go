//go:build machines

package machines

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"lifeboat/drill"
	"lifeboat/drill/qemu"
	"lifeboat/plan"
	"lifeboat/report"
	"lifeboat/tests/lab"
)

// interruptions kill the worker in its first restore and reset the machine in
// its second.
type interruptions struct {
	t          *testing.T
	killed     bool
	reset      bool
	ends       bool // after the reset: the machine ends with its next one again
	countdowns int
	notes      []string
	problems   []report.Problem
}

// killWorker ends the worker as the kernel does when memory runs out.
const killWorker = `for d in /proc/[0-9]*; do mapfile -d '' -t c <$d/cmdline; [ "${c[1]}" = worker ] && kill -9 ${d#/proc/} && echo KILL''ED; done 2>/dev/null` + "\n"

func (i *interruptions) during(ctx context.Context, vm *qemu.VM, e report.Event) error {
	if i.reset && !i.ends {
		i.ends = true
		if err := rebootAction(ctx, vm, "shutdown"); err != nil {
			return err
		}
	}
	switch {
	case e.Problem != nil:
		i.problems = append(i.problems, *e.Problem)
	case e.Kind == report.Note:
		i.notes = append(i.notes, e.Text)
	case asks(e, "key"):
		i.countdowns++
	}
	if e.Kind != report.Progress || e.Stage != string(plan.StageRestore) || e.Total == 0 {
		return nil
	}
	percent := 100 * e.Done / e.Total
	if !i.killed && percent >= 30 {
		i.killed = true
		i.t.Logf("the worker is killed at %d %% of the restore", percent)
		return i.kill(ctx, vm)
	}
	if i.killed && !i.reset && percent >= 50 && i.said("attempt 2 of 3") {
		i.reset = true
		i.t.Logf("the machine is reset at %d %% of the restore", percent)
		return i.restart(ctx, vm)
	}
	return nil
}

// kill opens a shell on the serial console, where no question is open now.
func (i *interruptions) kill(ctx context.Context, vm *qemu.VM) error {
	if err := openShell(ctx, vm, "s"); err != nil {
		return err
	}
	mark := vm.Console().Mark()
	if _, err := vm.Console().Write([]byte(killWorker)); err != nil {
		return err
	}
	return waitAfter(ctx, vm, mark, "KILLED")
}

// rebootAction says what a reset does: "reset", or "shutdown" as in a drill.
func rebootAction(ctx context.Context, vm *qemu.VM, action string) error {
	_, err := vm.QMP().Execute(ctx, "set-action", map[string]any{"reboot": action})
	return err
}

// restart presses the reset button. The firmware may reset the machine once
// more by itself: only the rescue system's next word shows that it is up.
func (i *interruptions) restart(ctx context.Context, vm *qemu.VM) error {
	if err := rebootAction(ctx, vm, "reset"); err != nil {
		return err
	}
	mark := vm.QMP().Mark()
	if err := vm.Reset(ctx); err != nil {
		return err
	}
	if _, err := vm.QMP().WaitEvent(ctx, mark, func(e qemu.Event) bool { return e.Name == "RESET" }); err != nil {
		return err
	}
	return drill.ErrReset
}

func (i *interruptions) said(text string) bool {
	for _, n := range i.notes {
		if strings.Contains(n, text) {
			return true
		}
	}
	return false
}

// Scenario 3: the worker is killed in the middle of the restore and goes on by
// itself; the machine is reset in the middle of that, and goes on and comes
// back complete when the image is started again, with nobody typing.
func TestInterrupted(t *testing.T) {
	proven(t, "worker killed at 30 % and machine reset at 50 % of the restore: goes on where it was and comes back complete, the report says so")
	ctx, cancel := soon(t.Context(), 30*time.Minute)
	defer cancel()
	phase := phases(t)
	m := recoveryFixture(ctx, t)
	phase("a server that backed itself up")
	i := &interruptions{t: t}
	var left leftBehind
	res, err := drill.Run(ctx, drill.Options{Image: m.iso, Backup: m.store, Dir: t.TempDir(), Words: "lifeboat.verify=index", During: i.during,
		Between: func(disks []string) (err error) {
			phase("recovery with two interruptions")
			ds, err := m.lab.Compare(ctx, m.disk, disks[0])
			if err != nil {
				return err
			}
			if rest, _ := ds.Except(allowed...); len(rest) > 0 {
				t.Errorf("the restored disk differs from the server's:\n%v", rest)
			}
			phase("comparing every file and identity")
			left, err = readLeft(ctx, m.lab, disks[0])
			phase("reading the report")
			return err
		}})
	if err != nil {
		t.Fatal(err)
	}
	phase("first boot")
	if !res.Passed {
		t.Fatalf("the drill did not pass: %s", res.Why)
	}
	if res.System.State != "running" || len(res.System.Failed) > 0 {
		t.Errorf("the restored system is %s, failed: %v", res.System.State, res.System.Failed)
	}
	if !i.killed || !i.reset {
		t.Errorf("killed %v, reset %v", i.killed, i.reset)
	}
	for _, p := range i.problems {
		t.Errorf("the recovery had something to say: %s", p.Line())
	}
	// Whoever resets a machine may have meant to stop it: each boot counts down.
	if i.countdowns != 2 {
		t.Errorf("it was counted down %d times in two boots", i.countdowns)
	}
	// Two interruptions cost what was not on the disk yet, not all again.
	archives, err := filepath.Glob(filepath.Join(m.store, "*", "*.lba"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("the store holds %v, %v", archives, err)
	}
	st, err := os.Stat(archives[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MiB of an archive of %d MiB were read", res.Served>>20, st.Size()>>20)
	if res.Served > st.Size()*8/5 {
		t.Errorf("%d of %d bytes were read again", res.Served-st.Size(), st.Size())
	}
	for _, text := range []string{"ended in the middle; it starts again (attempt 2 of 3)", "carry the claim of an earlier try", "The earlier try is gone on with"} {
		if !i.said(text) {
			t.Errorf("nobody was told %q", text)
		}
	}
	left.check(t, res)
}

// leftBehind is what the recovery wrote into the restored system about itself.
type leftBehind struct {
	report report.Result
	plan   plan.Plan
	files  string
}

// readLeft reads it by Debian's own tools.
func readLeft(ctx context.Context, l *lab.Lab, disk string) (left leftBehind, err error) {
	vm, err := l.Appliance(ctx, qemu.Drive{File: disk, ReadOnly: true})
	if err != nil {
		return left, err
	}
	defer vm.Kill()
	res, err := vm.Run(ctx, `vgchange -q -ay vg-data-a >/dev/null
mkdir -p /mnt && mount -t ext4 -o ro,noload /dev/vg-data-a/root /mnt
cd /mnt/var/log/lifeboat/recover-*
ls -A / /mnt . >&2
cat report.json; echo ---; cat plan.json
cd / && umount /mnt && vgchange -q -an vg-data-a >/dev/null`)
	if err != nil {
		return left, err
	}
	left.files = string(res.Stderr)
	rep, pl, ok := strings.Cut(string(res.Stdout), "\n---\n")
	if !ok {
		return left, fmt.Errorf("no report is left: %s", res.Stdout)
	}
	if err := json.Unmarshal([]byte(rep), &left.report); err != nil {
		return left, fmt.Errorf("the report that is left: %w", err)
	}
	if err := json.Unmarshal([]byte(pl), &left.plan); err != nil {
		return left, fmt.Errorf("the plan that is left: %w", err)
	}
	return left, vm.Off(ctx)
}

func (l leftBehind) check(t *testing.T, res *drill.Result) {
	t.Helper()
	for _, r := range []*report.Result{&l.report, res.Recovery} {
		if r.State != "done" || r.Exit != report.ExitOK || !r.Resumed || r.Attempt < 2 {
			t.Errorf("the report says state %s, exit code %d, resumed %v, attempt %d", r.State, r.Exit, r.Resumed, r.Attempt)
		}
	}
	if a := l.plan.Assignments; len(a) != 1 || a[0].Rule != plan.ByClaim {
		t.Errorf("the disk was found by %+v, not by its claim", a)
	}
	if regexp.MustCompile(`(?m)^\.lifeboat-recover`).MatchString(l.files) {
		t.Error("the journal was left in the restored system's root")
	}
	for _, f := range []string{"events.jsonl", "log.txt", "plan.txt", "machine.json", "order.json"} {
		if !strings.Contains(l.files, f) {
			t.Errorf("%s is missing beside the report", f)
		}
	}
}
