package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/backup"
	"lifeboat/builder"
	"lifeboat/internal/config"
	"lifeboat/manifest"
	"lifeboat/report"
)

// stateDir is where this host notes what it made.
func (a *app) stateDir() string {
	if a.state != "" {
		return a.state
	}
	return builder.StateDir
}

// unchanged gives the media of the last image when making it again would give
// the same, else nil. It says which.
func (a *app) unchanged(conf *config.Config, m *manifest.Manifest, r rescueFlags, way *wayOut) ([]builder.Medium, error) {
	var why []string
	s, err := builder.LoadImage(a.stateDir())
	switch {
	case err != nil: // it is written anew
		why = []string{err.Error()}
	case way.usb && r.to == "":
		why = []string{"the backup goes into it"}
	default:
		why = append(s.Stale(time.Now(), m, builder.SettingsDigest(conf, r.kernel), Version, time.Duration(conf.Check.MaxAgeImage)), way.lacks(s, m.Host.Name)...)
	}
	if len(why) == 0 {
		for _, x := range s.Media {
			a.out.Print("%-9s %s: nothing changed since %s", x.Kind, x.Path, s.Made.Format(time.RFC3339))
		}
		return s.Media, nil
	}
	a.out.Info("The rescue image is made again: %s", someOf(why))
	return nil, nil
}

// someOf tells the first of a list, and how many there are more.
func someOf(list []string) string {
	const most = 3
	if more := len(list) - most; more > 0 {
		list = append(slices.Clone(list[:most]), fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, "; ")
}

// lacks says why the noted image is not where this run would put it.
func (w *wayOut) lacks(s *builder.ImageState, host string) []string {
	if s == nil {
		return nil // said already
	}
	if w.disk == nil {
		if slices.ContainsFunc(s.Media, builder.Medium.OnStick) {
			return []string{"the last one went to a stick"}
		}
		return nil
	}
	for _, h := range w.disk.Found.Hosts() {
		if h.Name == host && h.Menu.BuildID == s.BuildID {
			return nil
		}
	}
	return []string{w.disk.Path + " holds another one"}
}

// close ends a run: what was made is noted when it has really reached its
// place, also when the host itself gives an error in the end.
func (a *app) close(err error, way *wayOut, doc made, conf *config.Config, m *manifest.Manifest, r rescueFlags) error {
	var end error
	way.close(&end)
	if end == nil {
		end = errors.Join(a.noteImage(&doc, conf, m, r), a.noteBackup(doc, conf, m))
	}
	if end = errors.Join(end, doc.noteErr); end == nil {
		return err
	}
	return errors.Join(err, end)
}

// asked are the flags that no settings file holds.
func (r rescueFlags) asked(conf *config.Config) builder.Asked {
	a := builder.Asked{Kernel: r.kernel, Modules: r.modules, OutputDir: r.dir}
	if r.to != "" {
		a.Output = conf.Output
	}
	return a
}

// noteImage writes down what image was made, once. An image that is a file has
// the place of the one before from the moment it is made, so it is noted then:
// a check in the hours of the backup would find another image than the noted.
func (a *app) noteImage(doc *made, conf *config.Config, m *manifest.Manifest, r rescueFlags) error {
	x := doc.Rescue
	if x == nil || doc.imageNoted {
		return nil
	}
	doc.imageNoted = true
	s := &builder.ImageState{Made: justNow(), By: Version, Settings: builder.SettingsDigest(conf, r.kernel), Asked: r.asked(conf), BuildID: x.BuildID,
		Media: x.Media, Reason: x.Order.Reason, Manifest: m}
	return s.Save(a.stateDir())
}

// noteBackup writes down what backup was made.
func (a *app) noteBackup(doc made, conf *config.Config, m *manifest.Manifest) error {
	x := doc.Backup
	if x == nil {
		return nil
	}
	s := &builder.BackupState{Made: justNow(), By: Version, Method: conf.Backup.Method, Name: x.Name, UUID: x.UUID, Bytes: x.Bytes, Manifest: m}
	if backup.IsUSB(conf.Backup.URL) {
		s.Name = nameOnStick(x.Name)
	}
	for _, p := range x.Problems {
		if p.Code == report.CodeFilesUnread {
			s.Unread = append(s.Unread, p.Details...)
		}
	}
	return s.Save(a.stateDir())
}

func justNow() time.Time { return time.Now().UTC().Truncate(time.Second) }
