package rescue

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"lifeboat/manifest"
	"lifeboat/report"
)

// Attempts of an order (rule 5). The claims on the disks count them over all
// boots; a file counts them within this boot, for disks that have no room for
// a claim, and tells a restarted worker whether the try has ended.
const maxAttempts = 3 // begun ones of one order, after which nothing begins by itself

// bootDir holds what restarts of the worker must know of this boot; tests have
// their own.
var bootDir = "/run/lifeboat"

func claimedPath() string { return filepath.Join(bootDir, "attempts") } // number of the attempt that this boot began; -1 when it has ended
func endedPath() string   { return filepath.Join(bootDir, "ended") }    // there when a try has ended that no other followed

// nextAttempt is the number of the attempt that would begin now. With nobody
// who asked for it there are three.
func (s *session) nextAttempt() (int, error) {
	n := max(claimedAttempts(s.order.ID, s.machine, s.targets()), readAttempts(), 0) + 1
	if s.own && n > maxAttempts {
		return 0, attemptsUsedUp("writing to these disks was begun %d times for this order, and never ended", n-1)
	}
	return n, nil
}

func attemptsUsedUp(format string, args ...any) *report.Fault {
	f := report.Errorf(report.CodeAttempts, "see in the log why it did not end, then choose from the menu", format, args...)
	f.Details = []string{"nothing begins by itself any more: a person must decide"}
	return f
}

// targets are the device numbers of the disks that the plan writes to.
func (s *session) targets() map[string]bool {
	out := map[string]bool{}
	if s.plan != nil {
		for _, a := range s.plan.Assignments {
			out[a.Disk.DevNo] = true
		}
	}
	return out
}

// claimedAttempts is the highest number among the claims of an order on the
// disks given by device number. A claim that names another disk was copied.
func claimedAttempts(order string, m *manifest.Machine, on map[string]bool) int {
	n := 0
	if m == nil {
		return 0
	}
	for _, d := range m.Disks {
		c := d.Claim
		if c == nil || !on[d.DevNo] || c.Order != order || c.Bytes != d.Disk.Bytes || c.WWN != d.Disk.WWN || c.Serial != d.Disk.Serial {
			continue
		}
		n = max(n, c.Attempts())
	}
	return n
}

// begun keeps the number of the attempt that just claimed its disks, and says
// it when it is not the first.
func (s *session) begun(attempt int) {
	s.attempt = attempt
	if err := writeAttempt(attempt); err != nil {
		s.w.Exec.Log("attempts: %v", err)
	}
	if attempt > 1 {
		s.w.J.Note("These disks carry the claim of an earlier try of this order that did not end (attempt %d)", attempt)
	}
}

// usedUp is the result of an order that is not begun once more.
func (w *Worker) usedUp(format string, args ...any) *report.Result {
	now := time.Now().UTC()
	res := &report.Result{Order: w.Order.ID, Host: w.Order.Host, Started: now, State: "refused"}
	s := &session{w: w, began: now}
	s.finish(res, attemptsUsedUp(format, args...))
	w.saveResult(res)
	return res
}

// restored tells whether a try put files onto the disks, which a person may
// have mended since.
func restored(last *report.Result) bool {
	if last == nil {
		return false
	}
	for _, p := range last.Phases {
		if p.Name == "restore" {
			return true
		}
	}
	return false
}

// recoverChoice is the menu's line for a recovery.
func recoverChoice(host, how, careful string, again bool) string {
	if again {
		return fmt.Sprintf("Try %s again, %s (%s): goes on where it stopped; where that cannot be, what was restored and mended since is lost", host, how, careful)
	}
	return fmt.Sprintf("Recover %s %s (%s)", host, how, careful)
}

// readAttempts is the number of the attempt that this boot began; 0 for none,
// below 0 when it has ended.
func readAttempts() int {
	b, err := os.ReadFile(claimedPath())
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return maxAttempts // unreadable: rather ask a person
	}
	return n
}

// endAttempt notes that a try ended, whatever it came to: a worker that is
// started again later must not begin by itself over what a person stopped, what
// was refused, or what a person may have mended since. That nothing was written
// stays known: what is open on the disks is not ours then.
func endAttempt() error {
	var err error
	if readAttempts() > 0 {
		err = writeBoot(claimedPath(), "-1")
	}
	return errors.Join(err, writeBoot(endedPath(), ""))
}

// hasEnded tells whether a try of this boot ended and none is in the middle.
func hasEnded() bool {
	_, err := os.Lstat(endedPath())
	return !errors.Is(err, os.ErrNotExist) || readAttempts() < 0
}

// writeAttempt notes that writing begins: a worker that dies now goes on.
func writeAttempt(n int) error {
	if err := os.Remove(endedPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return writeBoot(claimedPath(), strconv.Itoa(n))
}

func writeBoot(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), 0o600)
}

// loadResult is how the last run of this boot ended; nil when it is not known.
func loadResult() *report.Result {
	b, err := os.ReadFile(ResultPath)
	if err != nil {
		return nil
	}
	r := new(report.Result)
	if json.Unmarshal(b, r) != nil {
		return nil
	}
	return r
}
