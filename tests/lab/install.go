package lab

import (
	"context"
	"path/filepath"
	"strings"
)

// Tree is the tar file of the Debian that sources are filled with: numeric
// owners, ACLs, extended attributes, no device nodes of its own.
func (l *Lab) Tree() string { return filepath.Join(l.base, "tree.tar") }

// WithPackages gives the same system with more of Debian's packages, installed
// by its own apt. The result is kept like other sources.
func (l *Lab) WithPackages(ctx context.Context, s *Source, packages ...string) (*Source, error) {
	from := filepath.Dir(s.Disk)
	id, err := l.hash("packages on "+filepath.Base(from), strings.Join(packages, " "), "install.sh")
	if err != nil {
		return nil, err
	}
	dir, err := l.cached(ctx, "packages-"+s.Layout.Name+"-"+id, func(out string) error {
		l.log("source: %s is installed", strings.Join(packages, ", "))
		disk := filepath.Join(out, "disk.raw")
		if err := s.Copy(ctx, disk); err != nil {
			return err
		}
		args := append([]string{disk, filepath.Join(from, "volumes"), filepath.Join(l.Dir, "packages")}, packages...)
		return l.script(ctx, "install.sh", nil, args...)
	})
	if err != nil {
		return nil, err
	}
	with := *s
	with.Disk = filepath.Join(dir, "disk.raw")
	return &with, nil
}
