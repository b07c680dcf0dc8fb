package usb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
	"syscall"

	"lifeboat/internal/disklabel"
	"lifeboat/internal/loaders"
)

// maxSmall is the largest menu, list of sums or manifest that is read.
const maxSmall = 64 << 20

// ErrNotStick: the device or file carries no stick of ours.
var ErrNotStick = errors.New("this is no rescue stick")

// Image is a stick, or the image of one, opened for reading.
type Image struct {
	Mark  Mark
	Bytes int64 // of the whole stick
	Data  struct{ Start, Size int64 }

	f     *os.File
	ext   *extFS
	hosts []Host
	bad   []error // folders of hosts that cannot be read
}

// Open opens the image or the device at name. Something else is ErrNotStick.
func Open(name string) (*Image, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open the stick: %w", err)
	}
	l, err := disklabel.ReadDevice(name)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w: %w", name, ErrNotStick, err)
	}
	p, ok := dataOf(l)
	if !ok {
		f.Close()
		return nil, fmt.Errorf("%s: %w: it has no data partition", name, ErrNotStick)
	}
	i := &Image{f: f}
	i.Bytes, err = f.Seek(0, io.SeekEnd)
	i.Data.Start, i.Data.Size = p.Start, p.Size
	if err == nil {
		err = i.read(io.NewSectionReader(f, p.Start, p.Size))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return i, nil
}

// read reads mark and hosts of a data partition.
func (i *Image) read(r io.ReaderAt) error {
	var err error
	if i.ext, err = openExt(r); err != nil {
		return fmt.Errorf("%w: %w", ErrNotStick, err)
	}
	b, err := i.ReadFile(MarkPath, 4096)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotStick, err)
	}
	if i.Mark, err = decodeMark(b); err != nil {
		return err
	}
	var all []Host
	for _, e := range i.list(hostsPath) {
		for _, build := range i.list(e) {
			h, err := i.host(build)
			if err != nil {
				// One that was being written when the power failed.
				if !strings.HasPrefix(path.Base(build), ".") {
					i.bad = append(i.bad, err)
				}
				continue
			}
			all = append(all, *h)
		}
	}
	i.hosts = newest(all)
	return nil
}

// list returns the full names in a folder; none when it is not there.
func (i *Image) list(dir string) []string {
	n, err := i.ext.lookup(dir)
	if err != nil {
		return nil
	}
	entries, err := i.ext.readDir(n)
	if err != nil {
		i.bad = append(i.bad, fmt.Errorf("read folder %s: %w", dir, err))
		return nil
	}
	var out []string
	for _, e := range entries {
		out = append(out, path.Join(dir, e.name))
	}
	sort.Strings(out)
	return out
}

func (i *Image) host(dir string) (*Host, error) {
	b, err := i.ReadFile(path.Join(dir, fileMenu), maxSmall)
	if err != nil {
		return nil, err
	}
	return decodeHost(dir, b)
}

// FilePath is where a file of a host's rescue system lies: one of the names of
// loaders.KernelPath and loaders.InitrdPath.
func (h Host) FilePath(standard string) string { return path.Join(h.Dir, path.Base(standard)) }

// Manifest is the manifest of a host.
func (i *Image) Manifest(h Host) ([]byte, error) {
	return i.ReadFile(path.Join(h.Dir, fileMan), maxSmall)
}

// Close closes the file.
func (i *Image) Close() error { return i.f.Close() }

// Name is how it was opened.
func (i *Image) Name() string { return i.f.Name() }

// On tells whether it is this device.
func (i *Image) On(device string) bool {
	a, err := i.f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(device)
	if err != nil {
		return false
	}
	x, xok := a.Sys().(*syscall.Stat_t)
	y, yok := b.Sys().(*syscall.Stat_t)
	return xok && yok && a.Mode()&os.ModeDevice != 0 && b.Mode()&os.ModeDevice != 0 && x.Rdev == y.Rdev
}

// Hosts are the newest rescue systems, one of each host, by name.
func (i *Image) Hosts() []Host { return i.hosts }

// List returns everything on the data partition.
func (i *Image) List() ([]Entry, error) {
	root, err := i.ext.inode(rootInode)
	if err != nil {
		return nil, err
	}
	var out []Entry
	err = i.ext.walk("/", root, 0, map[int64]bool{rootInode: true}, func(e Entry) { out = append(out, e) })
	return out, err
}

// Stat returns the entry of an absolute path.
func (i *Image) Stat(name string) (Entry, error) {
	n, err := i.ext.lookup(name)
	if err != nil {
		return Entry{}, &fs.PathError{Op: "look up on the stick", Path: name, Err: err}
	}
	return entryOf(path.Clean("/"+name), n), nil
}

// File opens a file of the data partition.
func (i *Image) File(name string) (*io.SectionReader, error) {
	n, err := i.ext.lookup(name)
	if err == nil && !n.regular() {
		err = errors.New("not a regular file")
	}
	var x *extFile
	if err == nil {
		x, err = i.ext.open(n)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "read from the stick", Path: name, Err: err}
	}
	return io.NewSectionReader(x, 0, x.size), nil
}

// ReadFile returns a small file whole.
func (i *Image) ReadFile(name string, limit int64) ([]byte, error) {
	r, err := i.File(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > limit {
		return nil, fmt.Errorf("%s on the stick has %d bytes, more than the %d that are read", name, r.Size(), limit)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s from the stick: %w", name, err)
	}
	return b, nil
}

// Archives are the backups of a host, oldest first, as HOST/DATE.lba.
func (i *Image) Archives(host string) []Entry {
	var out []Entry
	for _, name := range i.list("/" + host) {
		if e, err := i.Stat(name); err == nil && e.Mode.IsRegular() && strings.HasSuffix(name, archiveSuffix) && !strings.HasPrefix(path.Base(name), ".") {
			out = append(out, e)
		}
	}
	return out
}

// archiveSuffix is the one of package backup, which stands beside this one.
const archiveSuffix = ".lba"

// Verify reads every host's files and compares them with their sums, and the
// boot menu with the hosts. All faults are in the error, one a line.
// Archives have digests of their own.
func (i *Image) Verify(ctx context.Context) error {
	faults := append([]error(nil), i.bad...)
	for _, h := range i.hosts {
		if err := i.VerifyHost(ctx, h); err != nil {
			if ctx.Err() != nil {
				return err
			}
			faults = append(faults, err)
		}
	}
	if len(i.hosts) == 0 {
		return errors.Join(append(faults, errors.New("the stick holds no rescue system"))...)
	}
	have, err := i.ReadFile(menuPath, maxSmall)
	if err != nil {
		return errors.Join(append(faults, err)...)
	}
	want, err := menuOf(i.Mark.ID, i.hosts)
	if err == nil && string(have) != want {
		err = fmt.Errorf("%s does not offer what is on the stick: write it again with `lifeboat usb write`", menuPath)
	}
	return errors.Join(append(faults, err)...)
}

// VerifyHost compares the files of one host with their sums.
func (i *Image) VerifyHost(ctx context.Context, h Host) error {
	list, err := i.ReadFile(path.Join(h.Dir, fileSums), maxSmall)
	if err != nil {
		return err
	}
	var faults []error
	seen := map[string]bool{}
	for _, l := range strings.Split(strings.TrimSuffix(string(list), "\n"), "\n") {
		sum, name, ok := strings.Cut(l, "  ")
		if !ok || strings.Contains(name, "/") {
			return fmt.Errorf("%s: the line %q is damaged", path.Join(h.Dir, fileSums), l)
		}
		seen[name] = true
		r, err := i.File(path.Join(h.Dir, name))
		if err == nil {
			d := sha256.New()
			if _, err = copyCtx(ctx, d, r); err == nil && hex.EncodeToString(d.Sum(nil)) != sum {
				err = fmt.Errorf("%s is damaged: its SHA-256 is %x instead of %s", path.Join(h.Dir, name), d.Sum(nil), sum)
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		faults = append(faults, err)
	}
	for _, n := range []string{fileKern, fileInit, fileMan, fileMenu} {
		if !seen[n] {
			faults = append(faults, fmt.Errorf("%s does not name %s", path.Join(h.Dir, fileSums), n))
		}
	}
	if b, err := i.ReadFile(loaders.IDFile(h.Menu.BuildID), 256); err != nil || strings.TrimSpace(string(b)) != h.Menu.BuildID {
		faults = append(faults, errors.Join(err, fmt.Errorf("%s is wrong: the boot loader would not find %s", loaders.IDFile(h.Menu.BuildID), h.Name)))
	}
	return errors.Join(faults...)
}

// OpenData opens a data partition by its own device. It reads only, and
// nothing is mounted. Something else is ErrNotStick.
func OpenData(device string) (*Image, error) {
	f, err := os.Open(device)
	if err != nil {
		return nil, fmt.Errorf("open the stick: %w", err)
	}
	i := &Image{f: f}
	if err := i.read(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", device, err)
	}
	return i, nil
}

// Carries tells whether the data partition holds that build of a rescue
// system.
func (i *Image) Carries(buildID string) bool {
	if buildID == "" {
		return false
	}
	b, err := i.ReadFile(loaders.IDFile(buildID), 256)
	return err == nil && strings.TrimSpace(string(b)) == buildID
}

// Boot are the boot loaders that lie outside of the data partition.
type Boot struct {
	Sector []byte // code of the first sector
	Core   []byte // first partition
	EFI    []byte // second partition
}

// Boot reads the boot loaders, to be written to another stick with the same
// id.
func (i *Image) Boot() (*Boot, error) {
	b := &Boot{Sector: make([]byte, 440), Core: make([]byte, coreBytes), EFI: make([]byte, efiBytes)}
	for _, x := range []struct {
		b  []byte
		at int64
	}{{b.Sector, 0}, {b.Core, coreStart}, {b.EFI, efiStart}} {
		if _, err := i.f.ReadAt(x.b, x.at); err != nil {
			return nil, fmt.Errorf("read the boot loaders of %s: %w", i.f.Name(), err)
		}
	}
	return b, nil
}

// Free is how many bytes of the data partition are free, as its superblock
// says.
func (i *Image) Free() int64 { return i.ext.free }
