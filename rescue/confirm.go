package rescue

import (
	"context"
	"errors"
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
const diskPatience = 15 * time.Second

// waitDisks waits until every captured disk is seen, or none has appeared for
// 15 s.
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
	last, count := time.Now(), -1
	said := false
	for {
		names, missing, err := seenDisks(want)
		if err != nil {
			return err
		}
		if missing == 0 {
			return nil
		}
		if names != count {
			last, count = time.Now(), names
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

// seenDisks counts block devices and the captured disks that are not there.
func seenDisks(want map[string]bool) (devices, missing int, err error) {
	v, err := blockdev.Live().Scan()
	if err != nil {
		return 0, 0, fmt.Errorf("list block devices: %w", err)
	}
	missing = len(want)
	for _, d := range v.Disks() {
		if want["w"+manifest.UsableWWN(d.WWN)] || want["s"+manifest.UsableSerial(d.Serial)] {
			missing--
		}
	}
	return len(v.Devices), missing, nil
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
	cctx, cancel := context.WithTimeout(ctx, countdown)
	defer cancel()
	_, err := s.w.T.Ask(cctx, Question{Kind: "key", Title: fmt.Sprintf("Recovery begins in %.0f s; any key stops it", countdown.Seconds()), Until: time.Now().Add(countdown)})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil
	}
	if err != nil {
		return err
	}
	return errStopped
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
