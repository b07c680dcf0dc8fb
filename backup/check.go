package backup

import (
	"context"
	"errors"
	"fmt"

	"lifeboat/archive"
	"lifeboat/manifest"
	"lifeboat/report"
)

// OpenArchive reads head, index and footer of an archive in a store.
func OpenArchive(o Object) (*archive.Archive, error) {
	a, err := archive.Open(o, o.Size())
	if err == nil {
		return a, nil
	}
	code, next := report.CodeBackupMissing, "check that the backup store is reachable"
	switch {
	case errors.Is(err, archive.ErrCutShort):
		code, next = report.CodeBackupShort, "choose an older archive, or read what is there with `lifeboat archive extract --salvage`"
	case errors.Is(err, archive.ErrDamaged), errors.Is(err, archive.ErrNotArchive):
		code, next = report.CodeBackupDamaged, "choose an older archive, or read what is whole with `lifeboat archive extract --salvage`"
	case errors.Is(err, archive.ErrVersion):
		code, next = report.CodeBackupDamaged, "use a lifeboat that knows this format"
	}
	return nil, report.Errorf(code, next, "backup %s: %w", o.Name(), err)
}

// HostID is how an archive names its host: what stays the same when the host
// is given another name or another address.
func HostID(m *manifest.Manifest) string {
	if m.Host.MachineID != "" {
		return m.Host.MachineID
	}
	return m.Host.Name
}

// CheckArchive makes sure that an archive is of this host, holds every mount
// that its manifest says is in it, and that its first and last frame, or with
// full every frame, are undamaged. It returns the manifest inside.
func CheckArchive(ctx context.Context, a *archive.Archive, medium *manifest.Manifest, full bool, progress func(done, total int64)) (*manifest.Manifest, error) {
	info := a.Info()
	if info.HostID != HostID(medium) {
		return nil, report.Errorf(report.CodeBackupHost, "name the right archive with lifeboat.backup=",
			"the backup is of another host: it says %q, the medium is of %s (%q)", info.HostID, medium.Host.Name, HostID(medium))
	}
	err := a.Verify(ctx, full, func(p archive.Progress) {
		if progress != nil {
			progress(p.Stored, info.Bytes)
		}
	})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		code, next := report.CodeBackupMissing, "check that the backup store is reachable"
		var fe *archive.FrameError
		if errors.As(err, &fe) || errors.Is(err, archive.ErrDamaged) {
			code, next = report.CodeBackupDamaged, "choose an older archive, or read what is whole with `lifeboat archive extract --salvage`"
		}
		return nil, report.Errorf(code, next, "the backup is not whole: %w", err)
	}
	data, err := a.Manifest()
	if err != nil {
		return nil, report.Errorf(report.CodeBackupDamaged, "choose an older archive", "the manifest inside the backup cannot be read: %w", err)
	}
	own, err := manifest.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("the manifest inside the backup: %w", err)
	}
	if HostID(own) != HostID(medium) {
		return nil, report.Errorf(report.CodeBackupHost, "name the right archive with lifeboat.backup=",
			"the manifest inside the backup is of another host: %s (%q), the medium is of %s (%q)", own.Host.Name, HostID(own), medium.Host.Name, HostID(medium))
	}
	return own, checkMounts(own, info)
}

func checkMounts(m *manifest.Manifest, info archive.Info) error {
	have := map[string]bool{}
	for _, mt := range info.Mounts {
		have[mt.Path] = true
	}
	for _, mt := range m.Storage.Mounts {
		if mt.Backup == manifest.ScopeFull && mt.Path != "none" && mt.Bind == "" && !have[string(mt.Path)] {
			f := report.Errorf(report.CodeBackupMounts, "choose another archive, or restore that filesystem by hand afterwards",
				"the backup holds no files of %s", mt.Path)
			f.Object = string(mt.Path)
			return f
		}
	}
	return nil
}
