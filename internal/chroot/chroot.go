// Package chroot makes a restored system a place to run its own programs in:
// devices, proc, sys and a fresh run below it, and away again.
// Level 3.
package chroot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/internal/run"
	"lifeboat/internal/sysroot"
)

// Root is a system made ready to run programs in.
type Root struct {
	Path string
	FS   *sysroot.Root
	run  run.Runner
	up   []string // mounted by us, in order
}

// Env is what programs inside see. Nothing asks a udevd that is not there.
var Env = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"LC_ALL=C", "LANG=C", "HOME=/root", "TERM=linux", "DEBIAN_FRONTEND=noninteractive",
	"DM_DISABLE_UDEV=1", "LVM_SUPPRESS_FD_WARNINGS=1",
}

type bind struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
	must                   bool
}

// Enter mounts what programs need below path. Tools of some systems wait for
// ever without /run, and temporary folders may lie on a noexec filesystem.
func Enter(path string, r run.Runner) (*Root, error) { return EnterWith(path, r, Options{}) }

// Options of EnterWith.
type Options struct {
	// Scratch: the system's own filesystems may be mounted read-only, and
	// temporary files of programs go to memory.
	Scratch bool
	// Cover are folders that are covered by empty ones in memory: what programs
	// write there does not reach the disk. Those that do not exist are left out.
	Cover []string
}

// At opens a system without making anything below it: for work on its files,
// and for programs that need no devices.
func At(path string, r run.Runner) (*Root, error) {
	fs, err := sysroot.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the restored system: %w", err)
	}
	return &Root{Path: path, FS: fs, run: r}, nil
}

// EnterWith is Enter for a system that is not to be written in every place.
func EnterWith(path string, r run.Runner, o Options) (*Root, error) {
	fs, err := sysroot.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the restored system: %w", err)
	}
	c := &Root{Path: path, FS: fs, run: r}
	binds := []bind{
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV, "", true},
		{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV, "", true},
		{"/dev", "/dev", "", unix.MS_BIND | unix.MS_REC, "", true},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755", true},
		{"efivarfs", "/sys/firmware/efi/efivars", "efivarfs", 0, "", false},
	}
	for _, d := range o.Cover {
		if st, err := fs.Stat(d); err == nil && st.IsDir() {
			binds = append(binds, bind{"tmpfs", d, "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755", true})
		}
	}
	if o.Scratch {
		for _, d := range []string{"/tmp", "/var/tmp"} {
			// One that is missing is no fault: programs then use another.
			binds = append(binds, bind{"tmpfs", d, "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777", false})
		}
	}
	for _, b := range binds {
		if err := c.mount(b); err != nil {
			c.Close()
			return nil, err
		}
	}
	for _, d := range []string{"/run/lock", "/run/lock/lvm", "/run/lvm", "/tmp", "/var/tmp"} {
		if o.Scratch && strings.HasSuffix(d, "tmp") {
			continue
		}
		mode := uint32(0o755)
		if strings.HasSuffix(d, "tmp") || d == "/run/lock" {
			mode = 0o1777
		}
		if err := fs.MkdirAll(d, mode); err != nil {
			c.Close()
			return nil, fmt.Errorf("prepare %s in the restored system: %w", d, err)
		}
	}
	return c, nil
}

func (c *Root) mount(b bind) error {
	if b.fstype == "efivarfs" {
		if _, err := os.Stat(b.target); err != nil { // no such firmware
			return nil
		}
	}
	if err := c.FS.MkdirAll(b.target, 0o755); err != nil && b.must {
		return fmt.Errorf("prepare %s in the restored system: %w", b.target, err)
	}
	host, err := c.FS.Host(b.target)
	if err == nil {
		err = unix.Mount(b.source, host, b.fstype, b.flags, b.data)
	}
	if err != nil {
		if b.must {
			return fmt.Errorf("mount %s in the restored system: %w", b.target, err)
		}
		return nil
	}
	c.up = append(c.up, host)
	return nil
}

// Close unmounts what Enter mounted.
func (c *Root) Close() error {
	var errs []error
	for i := len(c.up) - 1; i >= 0; i-- {
		// Detached: a program that a package left behind must not hold the disk.
		if err := unix.Unmount(c.up[i], unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", c.up[i], err))
		}
	}
	c.up = nil
	return errors.Join(append(errs, c.FS.Close())...)
}

// LookPath finds a program of the restored system.
func (c *Root) LookPath(name string) (string, bool) {
	if strings.HasPrefix(name, "/") {
		return name, c.executable(name)
	}
	for _, d := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if p := filepath.Join(d, name); c.executable(p) {
			return p, true
		}
	}
	return "", false
}

func (c *Root) executable(p string) bool {
	st, err := c.FS.Stat(p)
	return err == nil && st.Mode().IsRegular() && st.Raw.Mode&0o111 != 0
}

// Run starts a program of the restored system inside it.
func (c *Root) Run(ctx context.Context, cmd run.Cmd) (run.Result, error) {
	p, ok := c.LookPath(cmd.Path)
	if !ok {
		return run.Result{}, &run.Error{Argv: append([]string{cmd.Path}, cmd.Args...), Code: -1, Cause: fmt.Errorf("the restored system has no program %s", cmd.Path)}
	}
	cmd.Path, cmd.Root = p, c.Path
	if cmd.Env == nil {
		cmd.Env = Env
	}
	return c.run.Run(ctx, cmd)
}
