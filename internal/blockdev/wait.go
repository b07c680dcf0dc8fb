package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// recheck is how often a condition is looked at when no uevent tells: some
// changes (a start or size set by ioctl) come without one.
const recheck = 50 * time.Millisecond

// WaitFor returns nil as soon as cond is true. It looks again after every
// message of the kernel about devices. When ctx ends, the error holds what
// was waited for and what cond saw last.
func WaitFor(ctx context.Context, what string, cond func() (bool, error)) error {
	events := listenUevents()
	defer events.close()
	for {
		ok, seen := cond()
		if ok {
			return nil
		}
		if ctx.Err() != nil {
			if seen == nil {
				seen = ctx.Err()
			}
			return fmt.Errorf("wait for %s: %w", what, seen)
		}
		events.wait(ctx, recheck)
	}
}

// WaitPartition waits until the kernel shows a partition of this number,
// start and size (bytes) on the disk of this kernel name, and its node is
// there and is it. It returns the node's path. Where neither udev nor
// devtmpfs makes nodes, it makes the node.
func (s System) WaitPartition(ctx context.Context, disk string, number int, start, size int64) (string, error) {
	var node string
	what := fmt.Sprintf("partition %d of %s at byte %d, %d bytes", number, disk, start, size)
	err := WaitFor(ctx, what, func() (bool, error) {
		name, err := s.partition(disk, number, start, size)
		if err != nil {
			return false, err
		}
		node, err = s.node(name)
		return err == nil, err
	})
	return node, err
}

// partition finds a partition below its disk's folder in sysfs.
func (s System) partition(disk string, num int, start, size int64) (string, error) {
	dir, err := filepath.EvalSymlinks(filepath.Join(s.Sys, "class/block", sysName(disk)))
	if err != nil {
		return "", fmt.Errorf("%s is not there", disk)
	}
	for _, n := range names(dir) {
		sub := filepath.Join(dir, sysName(n))
		if !has(sub, "partition") {
			continue
		}
		if k, err := number(sub, "partition"); err != nil || k != int64(num) {
			continue
		}
		gotStart, err1 := number(sub, "start")
		gotSize, err2 := number(sub, "size")
		if err := errors.Join(err1, err2); err != nil {
			return "", err
		}
		if gotStart*sectorUnit != start || gotSize*sectorUnit != size {
			return "", fmt.Errorf("the kernel still shows it at byte %d, %d bytes", gotStart*sectorUnit, gotSize*sectorUnit)
		}
		return n, nil
	}
	return "", fmt.Errorf("the kernel shows no such number on %s", disk)
}

// WaitNode waits until the device of a kernel name has its node and returns
// the node's path.
func (s System) WaitNode(ctx context.Context, name string) (string, error) {
	var node string
	err := WaitFor(ctx, "the node of "+name, func() (ok bool, err error) {
		node, err = s.node(name)
		return err == nil, err
	})
	return node, err
}

// node returns the path of a device's node when it is the right one, and
// makes it when nobody else does.
func (s System) node(name string) (string, error) {
	no, err := ParseDevNo(attr(filepath.Join(s.Sys, "class/block", sysName(name)), "dev"))
	if err != nil {
		return "", fmt.Errorf("%s is not there", name)
	}
	path := filepath.Join(s.Dev, name)
	var st unix.Stat_t
	err = unix.Stat(path, &st)
	want := unix.Mkdev(no.Major, no.Minor)
	switch {
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == want:
		return path, nil
	case err == nil:
		return "", fmt.Errorf("%s is another device still", path)
	case !errors.Is(err, unix.ENOENT):
		return "", fmt.Errorf("%s: %w", path, err)
	case s.nodesMade():
		return "", fmt.Errorf("%s is not there yet", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(want)); err != nil && !errors.Is(err, unix.EEXIST) {
		return "", fmt.Errorf("make the node %s: %w", path, err)
	}
	return path, nil
}

// nodesMade tells whether the kernel makes nodes itself in Dev.
func (s System) nodesMade() bool {
	f, err := os.Open(filepath.Join(s.Proc, "self/mountinfo"))
	if err != nil {
		return false
	}
	defer f.Close()
	mounts, err := ParseMountinfo(f)
	if err != nil {
		return false
	}
	for _, m := range mounts {
		if m.Path == s.Dev && m.Type == "devtmpfs" {
			return true
		}
	}
	return false
}

func sysName(node string) string { return strings.ReplaceAll(node, "/", "!") }

// uevents listens to the kernel's messages about devices; fd < 0 when it may
// not, then only the clock wakes.
type uevents struct{ fd int }

func listenUevents() *uevents {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return &uevents{fd: -1}
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		unix.Close(fd)
		return &uevents{fd: -1}
	}
	return &uevents{fd: fd}
}

func (u *uevents) close() {
	if u.fd >= 0 {
		unix.Close(u.fd)
	}
}

// wait returns at the next message, after d, or when ctx ends.
func (u *uevents) wait(ctx context.Context, d time.Duration) {
	if u.fd < 0 {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
		return
	}
	// ctx is looked at again by the caller at least every d.
	p := []unix.PollFd{{Fd: int32(u.fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(p, int(d.Milliseconds())); err != nil || n == 0 {
		return
	}
	buf := make([]byte, 64<<10)
	for {
		if _, err := unix.Read(u.fd, buf); err != nil {
			return // all read, or messages were lost: look again either way
		}
	}
}
