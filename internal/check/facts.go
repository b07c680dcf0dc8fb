// Package check holds what a host made last against the host as it is now:
// whether image and backup are there, whole, young enough and still of the
// same system.
// Level 4.5: reads the state, the image and the backup; judges by a pure
// function of what was read.
package check

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"lifeboat/backup"
	"lifeboat/builder"
	"lifeboat/internal/config"
	"lifeboat/manifest"
	"lifeboat/report"
)

// Facts are all that is judged. Errors are findings too: one part that cannot
// be read does not hide the others.
type Facts struct {
	Now      time.Time
	Settings string // digest of the settings now, with the image's own flags
	Host     *manifest.Manifest
	HostErr  error // why the host could not be captured

	Image    *builder.ImageState // nil when none was noted
	ImageErr error
	Media    []MediumFact

	Method    string // of the backup
	Backup    *builder.BackupState
	BackupErr error // why the note cannot be read
	Archive   *ArchiveFact
	Unread    error // why the archive itself cannot be read
}

// MediumFact is one medium as found.
type MediumFact struct {
	builder.Medium
	BuildID string // that it says of itself
	Err     error  // it is not there, or damaged
	Stick   bool   // it is on a stick, which was not looked for
}

// ArchiveFact is the newest archive of this host in the store.
type ArchiveFact struct {
	Name     string
	UUID     string
	Started  time.Time
	Bytes    int64
	Problems int64 // files that could not be packed
	Manifest *manifest.Manifest
	Full     bool // every frame was read
}

// Input says what is looked at.
type Input struct {
	StateDir string
	Config   *config.Config
	Full     bool // read every frame of the archive
	Now      time.Time
	Capture  func(context.Context) (*manifest.Manifest, error)
	Progress func(done, total int64)
}

// Look gathers the facts. Doing holds in words what is being read, for the
// message when a store hangs: no context ends a read of a dead NFS server.
func Look(ctx context.Context, in Input, doing *atomic.Value) *Facts {
	f := &Facts{Now: in.Now, Method: in.Config.Backup.Method}
	doing.Store("the state in " + in.StateDir)
	f.Image, f.ImageErr = builder.LoadImage(in.StateDir)
	f.Backup, f.BackupErr = builder.LoadBackup(in.StateDir)
	doing.Store("this host")
	f.Host, f.HostErr = in.Capture(ctx)
	if f.Image != nil {
		f.Settings = builder.SettingsDigest(f.Image.Asked.Over(in.Config), f.Image.Asked.Kernel)
		for _, m := range f.Image.Media {
			doing.Store("the rescue image " + m.Path)
			f.Media = append(f.Media, lookMedium(ctx, m))
		}
	}
	if in.Config.Backup.Method == "archive" && !backup.IsUSB(in.Config.Backup.URL) {
		doing.Store("the backup in " + redacted(in.Config.Backup.URL))
		f.Archive, f.Unread = lookArchive(ctx, in, f.known())
	}
	return f
}

// known is the best manifest of this host at hand.
func (f *Facts) known() *manifest.Manifest {
	switch {
	case f.Host != nil:
		return f.Host
	case f.Image != nil:
		return f.Image.Manifest
	case f.Backup != nil:
		return f.Backup.Manifest
	}
	return nil
}

func lookMedium(ctx context.Context, m builder.Medium) MediumFact {
	f := MediumFact{Medium: m, Stick: m.OnStick()}
	if f.Stick {
		return f
	}
	if f.Err = m.There(); f.Err != nil {
		return f
	}
	img, err := builder.OpenImage(m.Path)
	if err != nil {
		f.Err = err
		return f
	}
	defer img.Close()
	if f.Err = img.Verify(ctx); f.Err == nil {
		var s *builder.Summary
		if s, f.Err = img.Summary(); f.Err == nil {
			f.BuildID = s.BuildID
		}
	}
	return f
}

// checkTries forgive a server that restarts just now, and answer within
// seconds when it is down.
const checkTries = 3

// lookArchive reads index, first and last frame of the newest archive, or all
// of it, and the manifest inside.
func lookArchive(ctx context.Context, in Input, host *manifest.Manifest) (*ArchiveFact, error) {
	b := in.Config.Backup
	if b.URL == "" {
		return nil, report.Errorf(report.CodeConfig, "set backup.url", "no backup store is configured")
	}
	if host == nil {
		return nil, errors.New("this host's name is not known, so its backup cannot be looked for")
	}
	o, err := backup.OpenURL(ctx, b.URL, host.Host.Name, backup.Options{TokenFile: b.TokenFile, CAFile: b.CAFile, Tries: checkTries})
	if err != nil {
		return nil, err
	}
	defer o.Close()
	a, err := backup.OpenArchive(o)
	if err != nil {
		return nil, err
	}
	info := a.Info()
	f := &ArchiveFact{Name: o.Name(), UUID: info.UUID.String(), Started: info.Started, Bytes: info.Bytes, Full: in.Full}
	for _, m := range info.Mounts {
		f.Problems += m.Problems
	}
	f.Manifest, err = backup.CheckArchive(ctx, a, host, in.Full, in.Progress)
	return f, err
}
