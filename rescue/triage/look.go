package triage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/internal/probe"
	"lifeboat/internal/run"
	"lifeboat/internal/sysroot"
	"lifeboat/manifest"
)

// Options say what is looked for, and how long.
type Options struct {
	Run      run.Runner
	Manifest *manifest.Manifest
	Probe    probe.Options
	// Made is when the backup was begun; the zero value takes the manifest's.
	Made time.Time
	// BackupBytes are what a recovery would restore; 0 takes what was captured.
	BackupBytes int64
	// Enough ends the count of newer files of a filesystem; 0 counts all.
	Enough int64
	// Patience ends the count of all filesystems together; 0 is a minute.
	Patience time.Duration
	// Initramfs lists what a whole initramfs lacks to start this machine; nil
	// asks nothing.
	// disks are, by captured disk, the device numbers of those that were found.
	Initramfs func(root *sysroot.Root, k manifest.Kernel, disks map[manifest.ID]string) ([]string, error)
}

// scene is what there is to look at. Tests set one up from image files.
type scene struct {
	opt   Options
	m     *manifest.Manifest
	found *manifest.Storage
	lost  tables                         // that are shown for this look only
	node  func(kernelName string) string // device node
	devNo func(kernelName string) string // device number
	// names are other names of devices that lead to something on this machine:
	// links below /dev, as fstab may hold them.
	names    map[string]bool
	firmware manifest.Firmware
	facts    *Facts
	dir      string
	tree     *sysroot.Root // the installed system with its mounts, when its root is readable
	at       map[manifest.ID]string
	mounted  []string
}

// Look finds the facts. Nothing is written: filesystems are mounted without
// their journals, volumes become devices that cannot be written, arrays are
// left alone. What was opened is closed again.
func Look(ctx context.Context, opt Options) (*Facts, error) {
	r, err := probe.Read(ctx, opt.Probe)
	if err != nil {
		return nil, err
	}
	lost := lostTables(ctx, opt, r)
	if len(lost) > 0 {
		if opt.Probe.Assume, r, err = lost.shown(ctx, opt.Probe); err != nil {
			return nil, errors.Join(err, lost.hide(ctx))
		}
	}
	closeVolumes, openErr := r.OpenVolumes(ctx)
	f, err := lookOpened(ctx, opt, lost)
	if err2 := errors.Join(closeVolumes(context.WithoutCancel(ctx)), lost.hide(ctx)); err == nil && err2 != nil {
		err = fmt.Errorf("close what was looked into: %w", err2)
	}
	if err != nil {
		return nil, err
	}
	if openErr != nil {
		f.Unseen = append(f.Unseen, openErr.Error())
	}
	return f, nil
}

func lookOpened(ctx context.Context, opt Options, lost tables) (*Facts, error) {
	r, err := probe.Read(ctx, opt.Probe)
	if err != nil {
		return nil, err
	}
	g, err := r.Graph(ctx)
	if err != nil {
		return nil, err
	}
	s := &scene{opt: opt, m: opt.Manifest, found: &g.Storage, lost: lost, firmware: r.Firmware(), names: map[string]bool{},
		node: func(name string) string {
			if d := r.View.Device(name); d != nil {
				return r.View.Node(d)
			}
			return ""
		},
		devNo: func(name string) string {
			if d := r.View.Device(name); d != nil {
				return d.DevNo.String()
			}
			return ""
		}}
	for _, d := range r.View.Devices {
		s.names[r.View.Node(d)] = true
		if d.DMName != "" {
			s.names["/dev/mapper/"+d.DMName] = true
		}
		for _, l := range r.View.Links(d) {
			s.names["/dev/disk/"+l] = true
		}
	}
	return s.examine(ctx)
}

// examine fills the facts in from the scene.
func (s *scene) examine(ctx context.Context) (f *Facts, err error) {
	made := s.opt.Made
	if made.IsZero() {
		made = s.m.Made
	}
	s.facts = &Facts{Format: FormatFacts, Host: s.m.Host.Name, Made: made.UTC().Format(time.RFC3339), FromBackup: !s.opt.Made.IsZero(),
		BackupBytes: s.opt.BackupBytes, Firmware: Firmware{Host: s.m.Boot.Firmware, Machine: s.firmware.Mode},
		Layers: []Layer{}, Filesystems: []Filesystem{}}
	s.at = map[manifest.ID]string{}
	if s.dir, err = os.MkdirTemp("/run", "lifeboat-triage-"); err != nil {
		return nil, fmt.Errorf("make a place to look from: %w", err)
	}
	defer func() {
		if err2 := s.close(); err == nil {
			err = err2
		}
	}()
	s.layers()
	s.findFilesystems()
	s.mountAll()
	s.countNewer(ctx, made)
	s.root()
	s.boot()
	if s.facts.BackupBytes == 0 {
		for _, n := range s.m.Storage.OfKind(manifest.KindFS) {
			s.facts.BackupBytes += n.Seen.Used
		}
	}
	return s.facts, ctx.Err()
}

func (s *scene) close() error {
	var errs []error
	if s.tree != nil {
		errs = append(errs, s.tree.Close())
	}
	for _, p := range slices.Backward(s.mounted) {
		if err := unix.Unmount(p, unix.UMOUNT_NOFOLLOW); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", p, err))
		}
	}
	if len(errs) == 0 {
		// Only empty folders are left; nothing of a mount may ever be reached.
		dirs, _ := filepath.Glob(s.dir + "/*")
		for _, d := range append(dirs, s.dir) {
			_ = os.Remove(d)
		}
	}
	return errors.Join(errs...)
}

// mountAll mounts what was found, the root first. With a readable root all
// others lie at their places in its tree.
func (s *scene) mountAll() {
	fs := s.facts.Filesystems
	order := make([]int, 0, len(fs))
	for i := range fs {
		if fs[i].Kind == manifest.KindFS && (fs[i].State == Same || fs[i].State == Changed || fs[i].State == Damaged) && !fs[i].Vacant {
			order = append(order, i)
		}
	}
	// Shorter paths first: a child before its parent would be covered.
	slices.SortStableFunc(order, func(a, b int) int { return depth(fs[a].Mounts) - depth(fs[b].Mounts) })
	for _, i := range order {
		s.mount(&fs[i])
	}
}

func depth(mounts []string) int {
	switch {
	case len(mounts) == 0:
		return 1 << 16
	case mounts[0] == "/":
		return 0
	}
	return strings.Count(mounts[0], "/")
}

func (s *scene) mount(f *Filesystem) {
	n := s.m.Storage.Node(f.ID)
	typ := f.Type
	node := s.node(f.Device)
	if n == nil || node == "" {
		f.State, f.Detail = Unseen, "its device has no node"
		return
	}
	f.Torn = torn(node, typ)
	dir, release, err := s.place(f)
	if err != nil {
		f.State, f.Detail = Unseen, err.Error()
		return
	}
	defer release()
	if err := probe.Peek(node, typ, dir); err != nil {
		switch {
		case errors.Is(err, probe.ErrNotLooked), errors.Is(err, unix.ENODEV), errors.Is(err, unix.EBUSY):
			f.State = Unseen
		default:
			f.State = Damaged
		}
		f.Detail = err.Error()
		return
	}
	at, err := os.Readlink(dir)
	if err != nil {
		at = dir // a plain path is no link
	}
	s.mounted = append(s.mounted, at)
	s.at[f.ID] = at
	if _, err := os.ReadDir(at); err != nil {
		f.State, f.Detail = Damaged, err.Error()
		return
	}
	f.Readable = true
	var st unix.Statfs_t
	if unix.Statfs(at, &st) == nil {
		f.Free, f.Bytes = int64(st.Bavail)*st.Bsize, int64(st.Blocks)*st.Bsize
	}
	if slices.Contains(f.Mounts, "/") {
		s.tree, _ = sysroot.Open(at)
	}
}

// place is where a filesystem is mounted: at its own place in the tree, held
// open so that no link leads elsewhere, or in a folder of its own.
func (s *scene) place(f *Filesystem) (dir string, release func(), err error) {
	none := func() {}
	if s.tree != nil && len(f.Mounts) > 0 && f.Mounts[0] != "/" {
		p, err := s.tree.OpenFile(f.Mounts[0], unix.O_PATH|unix.O_DIRECTORY, 0)
		if err == nil {
			return fmt.Sprintf("/proc/self/fd/%d", p.Fd()), func() { p.Close() }, nil
		}
	}
	dir, err = os.MkdirTemp(s.dir, "fs-")
	return dir, none, err
}
