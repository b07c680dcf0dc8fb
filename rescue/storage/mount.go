package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/sysroot"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// mountData are the options of a mount while files are restored, by type. The
// host's own options stay in its fstab: some were for another geometry or
// need what is not there yet.
var mountData = map[string]string{
	// Names of the backup are UTF-8; owners and modes that FAT cannot hold are
	// no errors.
	"vfat": "utf8,quiet",
}

// mount mounts a filesystem at its place in the target tree. Step.Arg is the
// escaped mount point.
func (s *Storage) mount(ctx context.Context, st plan.Step, _ func(int64, int64)) error {
	if err := s.underInit(); err != nil {
		return err
	}
	n, err := s.node(st.Node)
	if err != nil {
		return err
	}
	var at manifest.Bytes
	if err := at.UnmarshalText([]byte(st.Arg)); err != nil {
		return err
	}
	i := slices.IndexFunc(s.Plan.Target.Mounts, func(m manifest.Mount) bool { return m.Path == at && m.Node == n.ID })
	if n.FS == nil || i < 0 || !strings.HasPrefix(string(at), "/") {
		return fmt.Errorf("the plan mounts no filesystem of %s on %s", n.ID, at)
	}
	dev, err := s.device(ctx, n.ID)
	if err != nil {
		return err
	}
	point, err := s.mountPoint(string(at), s.Plan.Target.Mounts[i].Point)
	if err != nil {
		return fmt.Errorf("make the mount point %s: %w", at, err)
	}
	defer point.Close()
	if done, err := s.mounted(point, dev); done || err != nil {
		return err
	}
	if s.Plan.Target.Mounts[i].Bind != "" {
		return report.Errorf(report.CodeUnsupported, "", "%s is a part of a filesystem (%s); it is not mounted here", at, s.Plan.Target.Mounts[i].Bind)
	}
	return mountFS(dev, point, n.FS.Type)
}

// mountPoint opens the directory that is mounted upon, making it below the
// root of the target: no link inside the restored tree leads out.
func (s *Storage) mountPoint(at string, look manifest.Inode) (*os.File, error) {
	if at == "/" {
		if err := os.MkdirAll(s.Root, 0o755); err != nil {
			return nil, err
		}
		return os.OpenFile(s.Root, unix.O_PATH|unix.O_DIRECTORY, 0)
	}
	root, err := sysroot.Open(s.Root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if !root.Exists(at) {
		if err := root.MkdirAll(at, 0o755); err != nil {
			return nil, err
		}
		// What will be hidden by the mount gets its owner and mode now.
		if err := root.Dress(at, look); err != nil {
			return nil, err
		}
	}
	return root.OpenFile(at, unix.O_PATH|unix.O_DIRECTORY, 0)
}

// mounted tells whether the very device is mounted there already, by a try
// before this one.
func (s *Storage) mounted(point *os.File, dev string) (bool, error) {
	path, err := os.Readlink(fdPath(point))
	if err != nil {
		return false, err
	}
	v, err := s.system.Scan()
	if err != nil {
		return false, err
	}
	for _, m := range slices.Backward(v.Mounts) {
		if m.Path != path {
			continue
		}
		if d := v.ByNode(dev); d != nil && slices.Contains(v.MountDevices(m), d) {
			return true, nil
		}
		return false, fmt.Errorf("%s is mounted on %s already", m.Source, path)
	}
	return false, nil
}

func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func mountFS(dev string, point *os.File, kind string) error {
	types := []string{kind}
	if kind == "ext2" || kind == "ext3" {
		types = append(types, "ext4") // a kernel whose ext4 does not take the name
	}
	var err error
	for _, t := range types {
		err = unix.Mount(dev, fdPath(point), t, unix.MS_NOATIME, mountData[t])
		if !errors.Is(err, unix.ENODEV) {
			break
		}
	}
	switch {
	case errors.Is(err, unix.ENODEV):
		return report.Errorf(report.CodeKernelFeature, "build the image with the module "+kind, "mount %s: the kernel knows no %s: %w", dev, kind, err)
	case err != nil:
		return fmt.Errorf("mount %s as %s: %w", dev, kind, err)
	}
	return nil
}

// unmount takes the target tree down: every mount below its root, last first,
// written out before; then the volume groups; then the claims, by which
// another try would have known the disks.
func (s *Storage) unmount(ctx context.Context, _ plan.Step, _ func(int64, int64)) error {
	if err := s.underInit(); err != nil {
		return err
	}
	if err := s.Unmount(ctx); err != nil {
		return err
	}
	if err := s.seal(ctx); err != nil {
		return err
	}
	if err := s.deactivate(ctx); err != nil {
		return err
	}
	return s.unclaim()
}

// Unmount unmounts everything below the root of the target and leaves all
// else as it is.
func (s *Storage) Unmount(ctx context.Context) error {
	v, err := s.system.Scan()
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(v.Mounts) {
		if !blockdev.Under(m.Path, s.Root) {
			continue
		}
		if err := s.closeLoops(ctx, m); err != nil {
			return err
		}
		if err := s.unmountPath(ctx, m.Path, len(v.MountDevices(m)) > 0); err != nil {
			return err
		}
	}
	return nil
}

// closeLoops takes down the loop devices whose files lie on a mount, with
// what stands on them: they would keep it busy.
func (s *Storage) closeLoops(ctx context.Context, m blockdev.Mount) error {
	for {
		v, err := s.system.Scan()
		if err != nil {
			return err
		}
		var top *blockdev.Device
		for _, l := range v.Devices {
			if l.Kind != blockdev.Loop {
				continue
			}
			if on, ok := v.MountOf(l.File); ok && on.ID == m.ID {
				top = topmost(v, above(v, l))
			}
		}
		if top == nil {
			return nil
		}
		if err := s.takeDown(ctx, v, top); err != nil {
			return err
		}
	}
}
