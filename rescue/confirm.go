package rescue

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"lifeboat/internal/blockdev"
	"lifeboat/manifest"
	"lifeboat/report"
)

// diskPatience is how long no block device may appear before planning begins
// though not every captured disk was seen (rule 6).
const (
	diskPatience = 15 * time.Second
	diskLimit    = 90 * time.Second
)

// waitDisks waits until every captured disk is seen, or none has appeared for
// 15 s, or 90 s have gone by: something that comes and goes, as card readers
// do, must not keep a machine from its recovery.
func (s *session) waitDisks(ctx context.Context) error {
	want := map[string]bool{}
	for _, n := range s.manifest.Storage.OfKind(manifest.KindDisk) {
		w, sn := manifest.UsableWWN(n.Disk.WWN), manifest.UsableSerial(n.Disk.Serial)
		switch {
		case w != "":
			want["w"+w] = true
		case sn != "":
			want["s"+sn] = true
		default:
			want["unknowable "+string(n.ID)] = true // by neither: only the wait helps
		}
	}
	began, last, known := time.Now(), time.Now(), map[string]bool{}
	said := false
	for {
		v, err := blockdev.Live().Scan()
		if err != nil {
			return fmt.Errorf("list block devices: %w", err)
		}
		if missingDisks(v, want) == 0 {
			return nil
		}
		if newDevices(v, known) {
			last = time.Now()
		}
		if time.Since(began) >= diskLimit {
			s.w.J.Note("Devices still come and go after %s; going on with those that are there", diskLimit)
			return nil
		}
		if time.Since(last) >= diskPatience {
			return nil
		}
		if !said && time.Since(last) > time.Second {
			said = true
			s.w.J.Note("Waiting until no new disk has appeared for %s", diskPatience)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// missingDisks counts the captured disks that are not there. Two paths to one
// disk are one.
func missingDisks(v *blockdev.View, want map[string]bool) int {
	seen := map[string]bool{}
	for _, d := range v.Disks() {
		for _, k := range []string{"w" + manifest.UsableWWN(d.WWN), "s" + manifest.UsableSerial(d.Serial)} {
			if want[k] {
				seen[k] = true
				break
			}
		}
	}
	return len(want) - len(seen)
}

// newDevices notes all devices and tells whether one was never seen before.
func newDevices(v *blockdev.View, known map[string]bool) bool {
	found := false
	for _, d := range v.Devices {
		found = found || !known[d.Name]
		known[d.Name] = true
	}
	return found
}

// errStopped says that a person pressed a key.
var errStopped = report.Errorf(report.CodeDeclined, "choose from the menu", "a person stopped the automatic recovery; nothing was erased")

// confirm shows what will be erased: with a person the host's name must be
// typed, without one every console shows it for 30 s and any key stops.
func (s *session) confirm(ctx context.Context) error {
	for _, l := range s.describe() {
		s.w.J.Note("%s", l)
	}
	if s.attended {
		r, err := s.w.T.Ask(ctx, Question{Kind: "type", Lines: s.verdictLines(), Title: "Type the host's name, " + s.manifest.Host.Name + ", to erase these disks and recover; anything else goes back"})
		if err != nil {
			return err
		}
		if strings.TrimSpace(r.Text) != s.manifest.Host.Name {
			return report.Errorf(report.CodeDeclined, "choose again", "%q is not the host's name; nothing was erased", r.Text)
		}
		return nil
	}
	if readAttempts() > 0 && s.plan.Resumable() {
		return nil // shown and begun in this very boot, and cut off
	}
	return s.w.countDown(ctx, fmt.Sprintf("Recovery begins in %.0f s; any key stops it", countdown.Seconds()), countdown, s.own, errStopped)
}

// describe is what a person must see before anything is erased.
func (s *session) describe() []string {
	d := s.machine.DMI
	out := []string{
		fmt.Sprintf("This machine: %s %s, serial %s", d.Vendor, d.Product, orNone(d.Serial)),
		fmt.Sprintf("Recover: %s (captured %s)", s.manifest.Host.Name, s.manifest.Made.UTC().Format("2006-01-02 15:04 MST")),
		fmt.Sprintf("From: %s (%s)", s.object.Name(), s.archive.Info().Started.UTC().Format("2006-01-02 15:04 MST")),
	}
	if n := claimedAttempts(s.order.ID, s.machine, s.targets()); n > 0 {
		out = append(out, fmt.Sprintf("Attention: attempt %d of this order did not end on these disks; unless it can be gone on with, what it restored there, and what was mended since, is lost", n))
	}
	out = append(out, s.plan.DiskLines()...)
	return out
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// underInit tells whether PID 1 is Lifeboat's own init.
func underInit() bool {
	exe, err := os.Readlink("/proc/1/exe")
	return err == nil && exe == "/init"
}

func stack() []byte { return debug.Stack() }
