package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"lifeboat/backup"
	"lifeboat/builder"
	"lifeboat/images/usb"
	"lifeboat/internal/config"
	"lifeboat/internal/scratch"
	"lifeboat/report"
)

// wayOut is where the products of mkrescue and mkbackup go: into folders and
// stores, into the image of a stick, or onto a stick.
type wayOut struct {
	disk     *builder.StickDisk
	stick    *builder.Stick
	url      string       // store of the backup
	first    bool         // the backup is made before the rescue system
	usb      bool         // the backup goes where the rescue system goes
	passed   func() error // removes passing
	passing  string       // folder that the archive passes through into an image
	dir      string       // output_dir
	archives []usb.Archive
}

// wayOut looks, before anything is done, whether the way is open.
func (a *app) wayOut(conf *config.Config, r rescueFlags, rescue, files bool) (*wayOut, error) {
	w := &wayOut{url: conf.Backup.URL, dir: conf.OutputDir}
	w.usb = files && conf.Backup.Method == "archive" && backup.IsUSB(conf.Backup.URL)
	w.first = w.usb
	if r.to != "" {
		if err := needRoot("writing a stick"); err != nil {
			return nil, err
		}
		var err error
		if w.disk, err = builder.FindStick(r.to); err != nil {
			return nil, err
		}
		if w.disk.Found == nil {
			return nil, report.Errorf(report.CodeUsage, "prepare it once with `lifeboat usb write "+r.to+"`", "%s is no rescue stick yet", r.to)
		}
		if !slices.Contains(conf.Output, "usb") {
			conf.Output = []string{"usb"}
			conf.Set("output", "to")
		}
		return w, nil
	}
	if w.usb && (!rescue || !slices.Contains(conf.Output, "usb")) {
		return nil, report.Errorf(report.CodeConfig, "name the stick with --to, or use mkbackup with output: [usb]", "backup.url is %s, and no stick is named", conf.Backup.URL)
	}
	return w, nil
}

// open mounts the stick, or makes the folder that the archive passes through.
func (w *wayOut) open() error {
	var err error
	switch {
	case w.disk != nil:
		if w.stick, err = w.disk.Open(); err != nil {
			return err
		}
		if w.usb {
			w.url = w.stick.Dir
		}
	case w.usb:
		if err := os.MkdirAll(w.dir, 0o700); err != nil {
			return report.Errorf(report.CodeConfig, "set output_dir to a folder with room for backup and image", "make the output folder: %w", err)
		}
		if w.passing, w.passed, err = scratch.Dir(w.dir, ".lifeboat-backup-"); err != nil {
			return fmt.Errorf("make a folder for the backup: %w", err)
		}
		w.url = w.passing
	}
	return nil
}

// shown is what the backup's place is called: where a stick is mounted, or
// what an archive passes through, says nothing.
func (w *wayOut) shown() string {
	if w.usb {
		return backup.USB
	}
	return ""
}

// nameOnStick is the name of an archive that lies on a stick, or passes into
// the image of one, at path.
func nameOnStick(path string) string {
	if backup.IsUSB(path) {
		return path
	}
	return backup.USB + filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path))
}

// packed notes an archive that goes into the image.
func (w *wayOut) packed(name string) {
	if w.passing == "" {
		return
	}
	if rel, err := filepath.Rel(w.passing, name); err == nil {
		w.archives = append(w.archives, usb.Archive{Name: filepath.ToSlash(rel), Path: name})
	}
}

// close unmounts the stick and removes scratch files. What was written counts
// only when the stick was unmounted well.
func (w *wayOut) close(err *error) {
	if w == nil {
		return
	}
	if w.stick != nil {
		*err = errors.Join(*err, w.stick.Close())
	}
	if w.disk != nil {
		w.disk.Close()
	}
	if w.passing != "" {
		*err = errors.Join(*err, w.passed())
	}
}
