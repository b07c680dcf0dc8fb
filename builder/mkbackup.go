package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/archive"
	"lifeboat/backup"
	"lifeboat/internal/handoff"
	"lifeboat/manifest"
	"lifeboat/report"
)

// BackupOptions say what is backed up and where to.
type BackupOptions struct {
	Manifest *manifest.Manifest
	URL      string
	Store    backup.Options
	Exclude  []string // absolute paths; their content is left out, the directory stays
	// Output is the folder of Lifeboat's own products, which are never packed
	// whatever links and bind mounts lead there; "" is none.
	Output string
	Sink   report.Sink
	// Passing: URL is a folder of this host that the archive only passes
	// through, on its way into an image.
	Passing bool
	// Shown is what messages call the folder URL, such as "usb:"; "" is URL.
	Shown string
}

// shown is the name of an archive in messages.
func (o *BackupOptions) shown(name string) string {
	if rel, err := filepath.Rel(o.URL, name); o.Shown != "" && err == nil && filepath.IsLocal(rel) {
		return o.Shown + rel
	}
	return name
}

// BackupResult is what a backup came to.
type BackupResult struct {
	Name     string           `json:"name"` // URL or path
	Bytes    int64            `json:"bytes"`
	TarBytes int64            `json:"tar_bytes"`
	Files    int64            `json:"files"`
	Millis   int64            `json:"millis"`
	UUID     string           `json:"uuid"`
	Problems []report.Problem `json:"problems,omitempty"`
}

// Backup packs every mount of the manifest that belongs into a backup and
// puts the archive into the store. What could not be read is listed in the
// result, whose Err must be asked; the archive gets its name only when it is
// whole.
func Backup(ctx context.Context, o BackupOptions) (*BackupResult, error) {
	start := time.Now()
	if o.Sink == nil {
		o.Sink = report.Discard
	}
	if o.URL == "" {
		return nil, report.Errorf(report.CodeConfig, "set backup.url", "no backup store is configured")
	}
	store, name, err := backup.OpenStore(o.URL, o.Store)
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = backup.NameFor(o.Manifest.Host.Name, start)
	}
	if dir := store.String(); filepath.IsAbs(dir) && !o.Passing { // a mounted directory
		if err := checkOutside(dir, o.Manifest); err != nil {
			return nil, err
		}
	}
	sources, done, err := sources(o)
	if err != nil {
		return nil, err
	}
	defer done()
	up, err := store.Create(ctx, name)
	if err != nil {
		return nil, err
	}
	defer up.Abort()
	if !o.Passing {
		if err := checkUpload(up, o.Manifest); err != nil {
			return nil, err
		}
	}
	sum, err := pack(ctx, up, o, sources, start)
	if err != nil {
		return nil, unwritten(o.shown(up.Name()), err)
	}
	if err := up.Commit(); err != nil {
		return nil, unwritten(o.shown(up.Name()), err)
	}
	res := &BackupResult{Name: up.Name(), Bytes: sum.Bytes, Millis: time.Since(start).Milliseconds(), UUID: sum.UUID.String(), Problems: problems(sum)}
	for _, m := range sum.Mounts {
		res.TarBytes += m.Data
		res.Files += m.Files + m.Directories + m.Others + m.HardLinks
	}
	return res, nil
}

// unwritten is the error of an archive that did not reach the store. It has no
// name there, and what was begun is taken away.
func unwritten(name string, err error) error {
	err = fmt.Errorf("write the backup %s: %w", name, err)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return report.Errorf(report.CodeNoSpace, "remove old archives there, or choose a larger place; older backups are as they were", "%w", err)
	}
	return err
}

func pack(ctx context.Context, up backup.Upload, o BackupOptions, src []archive.Source, start time.Time) (*archive.Summary, error) {
	doc, err := o.Manifest.Encode()
	if err != nil {
		return nil, err
	}
	opt := archive.Options{HostID: backup.HostID(o.Manifest), Started: start, Manifest: doc}
	if f := up.Local(); f != nil {
		own, err := archive.InodeOf(f.Fd())
		if err != nil {
			return nil, err
		}
		opt.Skip = append(opt.Skip, own)
	}
	if o.Output != "" {
		var st unix.Stat_t
		if err := unix.Stat(o.Output, &st); err == nil {
			opt.Skip = append(opt.Skip, archive.Inode{Dev: uint64(st.Dev), Ino: st.Ino})
		} else if err != unix.ENOENT {
			return nil, fmt.Errorf("look at the output folder %s: %w", o.Output, err)
		}
	}
	total := expected(o.Manifest)
	opt.Progress = func(p archive.Progress) {
		o.Sink.Emit(report.Event{Kind: report.Progress, Step: "backup", Text: "Backing up", Done: p.Bytes, Total: max(total, p.Bytes)})
	}
	o.Sink.Emit(report.Event{Kind: report.Started, Step: "backup", Text: "Backing up to " + o.shown(up.Name()), Total: total})
	sum, err := archive.Create(ctx, up, opt, src)
	if err != nil {
		return nil, err
	}
	return sum, nil
}

// expected is what the filesystems hold, for the progress line.
func expected(m *manifest.Manifest) (n int64) {
	seen := map[manifest.ID]bool{}
	for _, mt := range m.Storage.Mounts {
		if nd := m.Storage.Node(mt.Node); mt.Backup == manifest.ScopeFull && nd != nil && !seen[mt.Node] {
			seen[mt.Node] = true
			n += nd.Seen.Used
		}
	}
	return n
}

// sources opens every mount as it is without what is mounted over it. What
// lies hidden under runtime mounts (device nodes below /dev) is kept; what
// lies under mounts that are rebuilt is not, since their tops cover it in the
// target as well.
func sources(o BackupOptions) (out []archive.Source, done func(), err error) {
	var fds []int
	done = func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	excl, err := archive.NewExcludes(o.Exclude)
	if err != nil {
		return nil, nil, report.Errorf(report.CodeConfig, "correct backup.exclude", "%w", err)
	}
	var points []string
	for _, m := range o.Manifest.Storage.Mounts {
		points = append(points, string(m.Path))
	}
	seen := map[manifest.ID]bool{}
	for _, m := range o.Manifest.Storage.Mounts {
		if m.Backup != manifest.ScopeFull || m.Path == "none" || m.Bind != "" || !m.Live || seen[m.Node] {
			continue
		}
		seen[m.Node] = true // a filesystem that is mounted twice is packed once
		// The mount would be formatted all the same, and come back empty.
		if excl.Match(string(m.Path)) || sameFile(o.Output, string(m.Path)) {
			done()
			return nil, nil, report.Errorf(report.CodeConfig, "name "+string(m.Path)+" in backup.exclude, or give output_dir a folder of its own", "%s is to be backed up, and an exclude or output_dir leaves out all that it holds", m.Path)
		}
		s := archive.Source{Path: string(m.Path), At: string(m.Path), Exclude: append(recoveryMarks(m), o.Exclude...), Points: points}
		fd, err := unix.OpenTree(unix.AT_FDCWD, string(m.Path), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err == nil {
			fds = append(fds, fd)
			s.At, s.Bare = fmt.Sprintf("/proc/self/fd/%d", fd), true
		} else if err != unix.ENOSYS && err != unix.EPERM {
			done()
			return nil, nil, fmt.Errorf("open the mount %s: %w", m.Path, err)
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, nil, report.Errorf(report.CodeConfig, "check backup.exclude", "nothing is left to back up")
	}
	return out, done, nil
}

// problems turns what the archive could not pack into coded problems. What
// could not be read is an error though the archive is written: nobody reads
// the warnings of a nightly job, and the loss shows on the day of the disaster
// (rule 9). Files that come and go are the life of a running host.
func problems(sum *archive.Summary) []report.Problem {
	var out []report.Problem
	if n := sum.Problems.Count(); n > 0 {
		first := sum.Problems.First()
		p := report.Problem{Code: report.CodeFilesUnread, Severity: report.Error, Object: first[0].Path,
			Text: fmt.Sprintf("%s could not be read and %s missing from the backup, first %s; the archive is written and holds the rest",
				count(n, "file"), isAre(n), first[0]),
			Next: "repair what cannot be read, or accept its loss by name with backup.exclude"}
		p.Details = details(first, n)
		out = append(out, p)
	}
	if n := sum.Gone.Count(); n > 0 {
		p := report.Problem{Code: report.CodeFilesChanged, Severity: report.Info, Text: fmt.Sprintf("%s went or changed while the backup ran", count(n, "file"))}
		p.Details = details(sum.Gone.First(), n)
		out = append(out, p)
	}
	if len(sum.Changed) > 0 {
		p := report.Problem{Code: report.CodeFilesChanged, Severity: report.Info, Text: fmt.Sprintf("%d files changed while they were read", len(sum.Changed)),
			Next: "databases want their own dump beside this backup"}
		for _, c := range sum.Changed {
			p.Details = append(p.Details, fmt.Sprintf("%q %s", c.Path, c.What))
		}
		out = append(out, p)
	}
	return out
}

func details(list []archive.Problem, n int64) (out []string) {
	for _, x := range list {
		out = append(out, x.String())
	}
	if more := n - int64(len(list)); more > 0 {
		out = append(out, fmt.Sprintf("and %d more", more))
	}
	return out
}

func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func isAre(n int64) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// Err is the error that a written backup still ends with: files are missing.
// Nil when it holds all that was to be packed.
func (r *BackupResult) Err() error {
	for _, p := range r.Problems {
		if p.Severity == report.Error {
			return &report.Fault{Problem: p}
		}
	}
	return nil
}

// recoveryMarks are what an earlier recovery left at the top of a mount: the
// marks for boot menus, by a pattern, and a journal of one that did not end. A
// backup with one would make a recovery from it that was cut off look like one
// that is done, or one that is done look cut off.
func recoveryMarks(m manifest.Mount) []string {
	if strings.ContainsAny(string(m.Path), "*?[\\") {
		return nil // no pattern can name it, and neither / nor /boot are called so
	}
	out := []string{filepath.Join(string(m.Path), handoff.DoneFile("*"))}
	if m.Path == "/" {
		out = append(out, handoff.JournalDir)
	}
	return out
}

// OutputExcludes is the folder that holds Lifeboat's own products, with every
// link followed, as a pattern that names it alone. A mount there is not to be
// formatted.
func OutputExcludes(outputDir string) []string {
	real, err := filepath.EvalSymlinks(outputDir)
	if err != nil {
		return nil // not made yet
	}
	if strings.ContainsAny(real, "*?[") {
		real = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(real)
	}
	return []string{real}
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	y, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(x, y)
}
