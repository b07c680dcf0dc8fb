package rescue

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/backup"
	"lifeboat/images/usb"
	"lifeboat/report"
)

// stick is the mounted data partition of a rescue stick: it may hold the
// backup, and keeps what happened.
type stick struct {
	device  string // kernel name
	path    string // mount point, read only
	journal string // of this session; "" when none is written
}

const (
	storeRoot = "/run/lifeboat/store" // a stick that is not the medium
	notesRoot = "/run/lifeboat/notes" // the same filesystem, to write the journal
)

// How long a medium is waited for: one that holds the backup may be slow to
// appear, or a person has to put it in.
const (
	mediumPatience = 2 * time.Second
	stickPatience  = 60 * time.Second
)

// findStick finds the medium, and where backup and journal can be kept.
func (s *session) findStick(ctx context.Context) error {
	w := s.w
	wanted := backup.IsUSB(s.order.Backup.URL)
	s.medium = w.findMedium(ctx, mediumPatience)
	if !s.looking {
		w.J.Note("%s", mediumNote(s.medium))
	}
	switch {
	case s.medium != nil && s.medium.Data:
		s.stick = &stick{device: s.medium.Device, path: s.medium.Path}
	case wanted:
		var err error
		if s.stick, err = w.findStore(ctx); err != nil {
			return err
		}
	}
	if s.stick != nil && !s.dry && (s.keep || !s.looking) {
		s.beginStick()
	}
	return nil
}

// findStore finds the one stick that holds backups of this host, when the
// rescue system itself was started from something else.
func (w *Worker) findStore(ctx context.Context) (*stick, error) {
	var found []string
	said := false
	waitFor(ctx, stickPatience, func() bool {
		found = storesOf(w.Order.Host)
		if len(found) == 0 && !said {
			said = true
			w.J.Note("Waiting for the stick with the backup of %s", w.Order.Host)
		}
		return len(found) > 0
	})
	switch {
	case len(found) == 0:
		return nil, report.Errorf(report.CodeBackupMissing, "plug in the stick with the backup", "the backup is on a rescue stick, and no stick with a backup of %s is seen", w.Order.Host)
	case len(found) > 1:
		return nil, report.Errorf(report.CodeBackupMissing, "take out all but one", "several sticks hold backups of %s: %s", w.Order.Host, strings.Join(found, ", "))
	}
	_ = unix.Unmount(storeRoot, 0) // of an earlier session
	if err := mountMedium(carrier{found[0], "ext4"}, storeRoot); err != nil {
		return nil, report.Errorf(report.CodeBackupMissing, "try another port", "mount the stick %s: %w", found[0], err)
	}
	return &stick{device: found[0], path: storeRoot}, nil
}

// storesOf names the data partitions of sticks that hold backups of a host.
func storesOf(host string) (out []string) {
	names, err := filepath.Glob("/sys/class/block/*")
	if err != nil {
		return nil
	}
	for _, n := range names {
		name := filepath.Base(n)
		if mediumType(nodeOf(name)) != "ext4" {
			continue
		}
		i, err := usb.OpenData(nodeOf(name))
		if err != nil {
			continue
		}
		if len(i.Archives(host)) > 0 {
			out = append(out, name)
		}
		i.Close()
	}
	return out
}

// stickURL is where a backup on the stick lies in this boot.
func (s *session) stickURL(url string) (string, error) {
	if s.stick == nil {
		return "", report.Errorf(report.CodeBackupMissing, "plug in the stick with the backup", "the backup is on a rescue stick, and none is seen")
	}
	return backup.OnStick(url, s.stick.path)
}

// ownMedia are the paths and nodes that must not be written: what this system
// was started from, and the stick that keeps backup and journal.
func (s *session) ownMedia() []string {
	out := s.medium.paths()
	if s.stick != nil && (s.medium == nil || s.stick.path != s.medium.Path) {
		out = append(out, s.stick.path)
	}
	return out
}

// beginStick lets the journal be written to the stick, too. A stick that
// cannot be written is no reason to stop.
func (s *session) beginStick() {
	at := filepath.Join(notesRoot, s.w.Order.Host, "recover-"+s.began.UTC().Format("20060102T150405Z"))
	err := usb.CheckHost(s.w.Order.Host)
	if err == nil {
		err = s.stick.writable()
	}
	if err == nil {
		if err = s.w.J.AddFile(filepath.Join(at, "events.jsonl"), true); err != nil {
			s.stick.readOnly()
		}
	}
	if err != nil {
		s.w.J.Note("No journal is kept on the stick %s: %v", s.stick.device, err)
		return
	}
	s.stick.journal = at
	s.w.J.Note("The journal of this recovery is kept on the stick, in %s", strings.TrimPrefix(at, notesRoot+"/"))
}

// writable mounts the stick a second time, for writing. What reads the backup
// goes on by the first mount, by which nothing can be written.
func (t *stick) writable() error {
	const flags = unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOATIME
	_ = unix.Unmount(notesRoot, 0) // of a worker that died
	if err := os.MkdirAll(notesRoot, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("", t.path, "", unix.MS_REMOUNT|flags, ""); err != nil {
		return fmt.Errorf("make it writable: %w", err)
	}
	err := unix.Mount(t.path, notesRoot, "", unix.MS_BIND, "")
	if ro := unix.Mount("", t.path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|flags, ""); err == nil {
		err = ro
	}
	if err != nil {
		t.readOnly()
		return fmt.Errorf("mount it for the journal: %w", err)
	}
	return nil
}

// readOnly ends writing: the filesystem is whole and clean afterwards.
func (t *stick) readOnly() {
	_ = unix.Unmount(notesRoot, 0)
	_ = unix.Mount("", t.path, "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID, "")
}

// leaveStick leaves plan, result and log beside the journal and ends writing.
func (s *session) leaveStick(res *report.Result) {
	if s.stick == nil || s.stick.journal == "" {
		return
	}
	dir := s.stick.journal
	s.stick.journal = ""
	s.w.J.Drop(filepath.Join(dir, "events.jsonl"))
	docs := map[string]any{"report.json": res, "order.json": s.order.Redacted()}
	if s.plan != nil {
		docs["plan.json"] = s.plan
	}
	if s.machine != nil {
		docs["machine.json"] = s.machine
	}
	files := map[string][]byte{}
	for name, v := range docs {
		if b, err := json.MarshalIndent(v, "", "  "); err == nil {
			files[name] = append(b, '\n')
		}
	}
	if s.plan != nil {
		files["plan.txt"] = []byte(s.plan.Text())
	}
	if b, err := os.ReadFile(LogPath); err == nil {
		files["log.txt"] = b
	}
	for name, b := range files {
		if err := writeDurable(filepath.Join(dir, name), b); err != nil {
			s.w.Exec.Log("keep %s on the stick: %v", name, err)
		}
	}
	s.stick.readOnly()
}

func writeDurable(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	return f.Sync()
}
