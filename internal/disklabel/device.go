package disklabel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"lifeboat/manifest"
)

// ReadDevice reads the table of a block device or image file; an image is
// taken to have sectors of 512 bytes.
func ReadDevice(path string) (*Label, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the partition table: %w", err)
	}
	defer f.Close()
	size, sector, err := geometry(f)
	if err != nil {
		return nil, err
	}
	l, err := Read(f, size, sector)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

func geometry(f *os.File) (size, sector int64, err error) {
	if size, err = f.Seek(0, io.SeekEnd); err != nil {
		return 0, 0, fmt.Errorf("size of %s: %w", f.Name(), err)
	}
	st, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	if st.Mode()&os.ModeDevice == 0 {
		return size, 512, nil
	}
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if err != nil {
		return 0, 0, fmt.Errorf("logical sector of %s: %w", f.Name(), err)
	}
	return size, int64(n), nil
}

// Write writes the table to w, which is a disk of size bytes.
func (l *Label) Write(w io.WriterAt, size, sector int64) error {
	runs, err := l.Encode(size, sector)
	if err != nil {
		return err
	}
	for _, r := range runs {
		if _, err := w.WriteAt(r.Data, r.Offset); err != nil {
			return fmt.Errorf("write the partition table at byte %d: %w", r.Offset, err)
		}
	}
	return nil
}

// settle bounds how long the kernel and its device nodes are waited for.
const settle = 30 * time.Second

// Commit writes the table to the disk dev, has the kernel read it, and
// returns the device node of each partition by number once the kernel shows
// exactly what was written. The disk is held exclusively meanwhile, so that
// nothing opens a partition half-way. A disk in use is unix.EBUSY.
func (l *Label) Commit(ctx context.Context, dev string) (map[int]string, error) {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	f, err := hold(ctx, dev)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, sector, err := geometry(f)
	if err != nil {
		return nil, err
	}
	runs, err := l.Encode(size, sector)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dev, err)
	}
	if err := dropPartitions(ctx, f); err != nil {
		return nil, err
	}
	for _, r := range runs {
		if _, err := f.WriteAt(r.Data, r.Offset); err != nil {
			return nil, fmt.Errorf("write the partition table of %s at byte %d: %w", dev, r.Offset, err)
		}
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("write the partition table of %s: %w", dev, err)
	}
	return l.reread(ctx, f)
}

// Forget removes every partition of dev from the kernel without touching the
// disk. A partition in use is unix.EBUSY.
func Forget(ctx context.Context, dev string) error {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	f, err := hold(ctx, dev)
	if err != nil {
		return err
	}
	defer f.Close()
	return dropPartitions(ctx, f)
}

// Show has the kernel read the table that lies on dev: its partitions are those
// of the table, or none. A partition in use is unix.EBUSY.
func Show(ctx context.Context, dev string) error {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	f, err := hold(ctx, dev)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := dropPartitions(ctx, f); err != nil {
		return err
	}
	l, err := ReadDevice(dev)
	if errors.Is(err, ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = l.reread(ctx, f)
	return err
}

// hold opens the disk exclusively and locks it: udev leaves a locked disk
// alone. Its own short looks make the lock busy for a moment.
func hold(ctx context.Context, dev string) (*os.File, error) {
	f, err := os.OpenFile(dev, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s exclusively: %w", dev, err)
	}
	err = poll(ctx, func() (bool, error) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		return err == nil, err
	})
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dev, err)
	}
	return f, nil
}

// poll tries until it is done; the last error is what it waited on.
func poll(ctx context.Context, try func() (bool, error)) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		done, err := try()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			if err != nil {
				return err
			}
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// kernelPart is a partition as sysfs shows it, in bytes.
type kernelPart struct {
	name        string
	devno       uint64
	start, size int64
}

// kernelParts lists the partitions of the disk that f is.
func kernelParts(f *os.File) (map[int]kernelPart, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	dir := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	files, err := filepath.Glob(dir + "/*/partition")
	if err != nil {
		return nil, err
	}
	parts := map[int]kernelPart{}
	for _, file := range files {
		p, number, err := kernelPartOf(filepath.Dir(file))
		if err != nil {
			return nil, err
		}
		parts[number] = p
	}
	return parts, nil
}

func kernelPartOf(dir string) (kernelPart, int, error) {
	var v [3]int64
	for i, name := range []string{"partition", "start", "size"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return kernelPart{}, 0, err
		}
		if v[i], err = strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err != nil {
			return kernelPart{}, 0, err
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "dev"))
	if err != nil {
		return kernelPart{}, 0, err
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(string(b), "%d:%d", &major, &minor); err != nil {
		return kernelPart{}, 0, fmt.Errorf("%s/dev: %w", dir, err)
	}
	u, err := os.ReadFile(filepath.Join(dir, "uevent"))
	if err != nil {
		return kernelPart{}, 0, err
	}
	p := kernelPart{devno: unix.Mkdev(major, minor), start: v[1] * 512, size: v[2] * 512}
	for line := range strings.Lines(string(u)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
			p.name = name
		}
	}
	return p, int(v[0]), nil
}

// looking is how long a program that only looks at a partition is waited for.
const looking = 5 * time.Second

// dropPartitions removes the kernel's partitions. When one is in use, those
// already removed come back.
func dropPartitions(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, looking)
	defer cancel()
	parts, err := kernelParts(f)
	if err != nil {
		return err
	}
	for n, p := range parts {
		err := poll(ctx, func() (bool, error) {
			err := blkpg(f, unix.BLKPG_DEL_PARTITION, n, 0, 0)
			return err == nil || !errors.Is(err, unix.EBUSY), err
		})
		if now, err2 := kernelParts(f); err == nil && err2 == nil && now[n].size == 0 {
			continue
		}
		for m, q := range parts {
			_ = blkpg(f, unix.BLKPG_ADD_PARTITION, m, q.start, q.size) // those still there refuse
		}
		if err == nil {
			err = errors.New("it stays")
		}
		return fmt.Errorf("remove partition %d (%s) of %s from the kernel: %w", n, p.name, f.Name(), err)
	}
	return nil
}

// blkpg adds or removes one partition in the kernel's view.
func blkpg(f *os.File, op int32, number int, start, size int64) error {
	part := unix.BlkpgPartition{Start: start, Length: size, Pno: int32(number)}
	arg := unix.BlkpgIoctlArg{Op: op, Datalen: int32(unsafe.Sizeof(part)), Data: (*byte)(unsafe.Pointer(&part))}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return errno
	}
	return nil
}

// reread has the kernel read the table; what it does not see is told to it
// one by one (some drivers do not scan by themselves).
func (l *Label) reread(ctx context.Context, f *os.File) (map[int]string, error) {
	scan := unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0)
	nodes := map[int]string{}
	tries := 0
	err := poll(ctx, func() (bool, error) {
		parts, err := kernelParts(f)
		if err != nil {
			return false, err
		}
		if err = l.match(parts); err == nil {
			nodes, err = l.nodes(parts)
			return err == nil, err
		}
		if tries++; scan != nil || tries > 3 {
			l.tell(f, parts)
		}
		return false, err
	})
	if err != nil {
		return nil, fmt.Errorf("the kernel does not show the table written to %s: %w", f.Name(), errors.Join(err, scan))
	}
	return nodes, nil
}

// same compares one partition. The kernel shows an extended partition only by
// its first kilobyte.
func (l *Label) same(k kernelPart, p manifest.Partition) bool {
	ext := l.Table.Type == DOS && p.Number <= 4 && isExtended(p.Type)
	return k.start == p.Start && (k.size == p.Size || ext && k.size > 0 && k.size < p.Size)
}

// match compares the kernel's partitions with the table.
func (l *Label) match(parts map[int]kernelPart) error {
	for _, p := range l.Partitions {
		k, ok := parts[p.Number]
		if !ok {
			return fmt.Errorf("partition %d is not there", p.Number)
		}
		if !l.same(k, p) {
			return fmt.Errorf("partition %d has start %d and size %d, not %d and %d bytes", p.Number, k.start, k.size, p.Start, p.Size)
		}
	}
	if len(parts) != len(l.Partitions) {
		return fmt.Errorf("it shows %d partitions, not %d", len(parts), len(l.Partitions))
	}
	return nil
}

// tell mends the kernel's view as far as it differs. What fails is seen by
// the next comparison.
func (l *Label) tell(f *os.File, parts map[int]kernelPart) {
	want := map[int]manifest.Partition{}
	for _, p := range l.Partitions {
		want[p.Number] = p
	}
	for n, k := range parts {
		if p, ok := want[n]; !ok || !l.same(k, p) {
			_ = blkpg(f, unix.BLKPG_DEL_PARTITION, n, 0, 0)
		}
	}
	for n, p := range want {
		if k, ok := parts[n]; !ok || !l.same(k, p) {
			_ = blkpg(f, unix.BLKPG_ADD_PARTITION, n, p.Start, p.Size)
		}
	}
}

// nodes returns the device nodes, all of which must be there and lead to the
// partitions.
func (l *Label) nodes(parts map[int]kernelPart) (map[int]string, error) {
	out := map[int]string{}
	for n, p := range parts {
		node := filepath.Join("/dev", p.name)
		var st unix.Stat_t
		if err := unix.Stat(node, &st); err != nil {
			return nil, fmt.Errorf("the node of partition %d: %w", n, err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFBLK || st.Rdev != p.devno {
			return nil, fmt.Errorf("%s is not the node of partition %d", node, n)
		}
		out[n] = node
	}
	return out, nil
}
