package capture

import (
	"path"
	"strings"

	"lifeboat/archive"
	"lifeboat/manifest"
	"lifeboat/report"
)

// excluder decides by the archive's own matcher: a mount that an archive would
// leave out but that a plan formats comes back empty.
type excluder struct {
	all     *archive.Excludes
	content *archive.Excludes // those that end in /* or /**: the directory itself is meant to be there
	dirs    *archive.Excludes // the others
}

func newExcluder(patterns []string) (*excluder, error) {
	var x excluder
	var content, dirs []string
	for _, p := range patterns {
		if strings.HasSuffix(p, "/*") || strings.HasSuffix(p, "/**") {
			content = append(content, p)
		} else {
			dirs = append(dirs, p)
		}
	}
	for _, l := range []struct {
		to   **archive.Excludes
		from []string
	}{{&x.all, patterns}, {&x.content, content}, {&x.dirs, dirs}} {
		var err error
		if *l.to, err = archive.NewExcludes(l.from); err != nil {
			return nil, report.Errorf(report.CodeConfig, "correct the pattern", "backup.exclude: %w", err)
		}
	}
	// No system is without these two: what matches both was meant for less.
	if x.all.Match("/") || x.all.Match("/etc") && x.all.Match("/usr") {
		return nil, report.Errorf(report.CodeConfig, "name an absolute path below /", "backup.exclude holds %q, which together leave out everything or nothing", patterns)
	}
	return &x, nil
}

// scope is what becomes of a mount that would be backed up whole.
func (x *excluder) scope(mount string) manifest.Scope {
	for up := path.Dir(mount); up != "/" && up != "."; up = path.Dir(up) {
		if x.all.Match(up) {
			return manifest.ScopeExclude
		}
	}
	switch {
	case x.dirs.Match(mount):
		return manifest.ScopeExclude
	case x.content.Match(mount):
		return manifest.ScopeNone
	}
	return manifest.ScopeFull
}

// exclude sets the scope of mounts that the settings leave out.
func (h *host) exclude() error {
	x, err := newExcluder(h.opt.Exclude)
	if err != nil {
		return err
	}
	for i := range h.m.Storage.Mounts {
		mt := &h.m.Storage.Mounts[i]
		if mt.Path != "none" && mt.Path != "/" && mt.Backup == manifest.ScopeFull {
			mt.Backup = x.scope(string(mt.Path))
		}
	}
	return nil
}
