package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"lifeboat/builder/payload"
	"lifeboat/internal/cpio"
	"lifeboat/internal/handoff"
	"lifeboat/manifest"
	"lifeboat/report"
)

// mediumPrefix tells files of the medium from those of the rescue system.
const mediumPrefix = "medium:"

// limits of what inspect believes of a foreign image.
const (
	maxCat    = 512 << 20
	maxSecret = 1 << 20
)

// medium is a container that holds a rescue system.
type medium interface {
	Kind() string
	Files() ([]File, error)
	Read(name string, limit int64) ([]byte, error)
	Kernel() (*io.SectionReader, error)
	BuildID() (string, error)
	Verify(ctx context.Context) error
}

// Image is an image that was opened to be looked at: a medium, or a bare
// initramfs.
type Image struct {
	Path    string
	medium  medium // nil for a bare initramfs
	initrd  io.ReaderAt
	size    int64
	bytes   int64 // of the medium
	close   func() error
	entries map[string]cpio.Entry // the rescue system as the kernel unpacks it
	segs    []cpio.Segment
}

// File is one line of a listing.
type File struct {
	Path string `json:"path"` // absolute; on the medium with the prefix "medium:"
	Mode string `json:"mode"` // as ls writes it
	Size int64  `json:"size"`
	Link string `json:"link,omitempty"`
}

// Summary is what an image says of itself.
type Summary struct {
	Kind     string             `json:"kind"` // iso, usb, initramfs
	BuildID  string             `json:"build_id"`
	Host     string             `json:"host"`
	Made     string             `json:"made"`
	Kernel   string             `json:"kernel"`
	Order    handoff.Order      `json:"order"` // without its ticket
	Bytes    int64              `json:"bytes"`
	Segments []cpio.Segment     `json:"segments"`
	Files    int                `json:"files"`
	Manifest *manifest.Manifest `json:"-"`
}

// OpenImage opens a medium or an initramfs and reads the list of its files.
// Damaged is an error of exit code 1 that names the file. A stick with
// several hosts is opened by OpenHost.
func OpenImage(name string) (*Image, error) { return OpenHost(name, "") }

// OpenHost opens what a medium has of one host; "" is the only one.
func OpenHost(name, host string) (*Image, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, report.Errorf(report.CodeUsage, "name an image that lifeboat made", "open the image: %w", err)
	}
	i := &Image{Path: name, close: f.Close, entries: map[string]cpio.Entry{}}
	if err := i.open(f, host); err != nil {
		i.Close()
		return nil, fmt.Errorf("read the image %s: %w", name, err)
	}
	return i, nil
}

func (i *Image) open(f *os.File, host string) error {
	initrd, err := i.container(f, host)
	switch {
	case err != nil:
		return err
	case initrd != nil:
		i.initrd, i.size = initrd, initrd.Size()
	default:
		if i.size, err = f.Seek(0, io.SeekEnd); err != nil {
			return err
		}
		i.initrd = f
	}
	list, segs, err := cpio.List(i.reader())
	i.segs = segs
	for _, e := range list {
		i.entries[e.Name] = e
	}
	if err != nil {
		return fmt.Errorf("the initramfs: %w", err)
	}
	return nil
}

func (i *Image) reader() io.Reader { return io.NewSectionReader(i.initrd, 0, i.size) }

// Close closes the file.
func (i *Image) Close() error { return i.close() }

// Files lists the rescue system, and before it the medium.
func (i *Image) Files() []File {
	var out []File
	if i.medium != nil {
		files, _ := i.medium.Files() // what is damaged is what Verify tells
		out = files
	}
	var names []string
	for n := range i.entries {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		e := i.entries[n]
		out = append(out, File{Path: "/" + n, Mode: modeOf(e).String(), Size: e.Size, Link: e.Link})
	}
	return out
}

// modeOf turns mode bits of stat(2) into Go's.
func modeOf(e cpio.Entry) fs.FileMode {
	m := fs.FileMode(e.Mode & 0o777)
	types := map[uint32]fs.FileMode{cpio.TypeDir: fs.ModeDir, cpio.TypeLink: fs.ModeSymlink, cpio.TypeChar: fs.ModeDevice | fs.ModeCharDevice,
		cpio.TypeBlock: fs.ModeDevice, cpio.TypeFifo: fs.ModeNamedPipe, cpio.TypeSocket: fs.ModeSocket}
	m |= types[e.Type()]
	for bit, f := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if e.Mode&bit != 0 {
			m |= f
		}
	}
	return m
}

// Cat returns a file of the rescue system, links followed, or with the prefix
// "medium:" one of the medium.
func (i *Image) Cat(name string) ([]byte, error) {
	if rest, ok := strings.CutPrefix(name, mediumPrefix); ok {
		if i.medium == nil {
			return nil, report.Errorf(report.CodeUsage, "leave out "+mediumPrefix, "%s is a bare initramfs, not a medium", i.Path)
		}
		return i.medium.Read(rest, maxCat)
	}
	at, err := i.follow(name)
	if err != nil {
		return nil, err
	}
	files, err := cpio.ReadFiles(i.reader(), func(e cpio.Entry) bool { return e.Name == at }, maxCat)
	if err != nil {
		return nil, err
	}
	return files[at], nil
}

// follow walks links inside the rescue system to a regular file.
func (i *Image) follow(name string) (string, error) {
	todo := strings.Split(cpio.Clean(name), "/")
	cur, hops := "", 0
	for len(todo) > 0 {
		next := path.Join(cur, todo[0])
		todo = todo[1:]
		e, ok := i.entries[next]
		if !ok {
			return "", report.Errorf(report.CodeUsage, "list them with ls", "%s is not in the image: %w", name, fs.ErrNotExist)
		}
		if e.Type() != cpio.TypeLink {
			cur = next
			continue
		}
		if hops++; hops > 40 {
			return "", fmt.Errorf("%s: too many links in the image", name)
		}
		target := e.Link
		if !path.IsAbs(target) {
			target = path.Join("/", path.Dir(next), target)
		}
		cur, todo = "", append(strings.Split(cpio.Clean(target), "/"), todo...)
	}
	if !i.entries[cur].Regular() {
		return "", report.Errorf(report.CodeUsage, "list them with ls", "%s is not a file", name)
	}
	return cur, nil
}

// Summary reads order and manifest.
func (i *Image) Summary() (*Summary, error) {
	s := &Summary{Kind: "initramfs", Bytes: i.size, Segments: i.segs, Files: len(i.entries), Kernel: i.kernel()}
	b, err := i.Cat(handoff.OrderInImage)
	if err != nil {
		return nil, err
	}
	o, err := handoff.Decode(b)
	if err != nil {
		return nil, err
	}
	s.Order, s.BuildID, s.Host, s.Made = o.Redacted(), o.BuildID, o.Host, o.Built
	if i.medium != nil {
		s.Kind, s.Bytes = i.medium.Kind(), i.bytes
	}
	if b, err = i.Cat(handoff.ManifestPath); err != nil {
		return nil, err
	}
	s.Manifest, err = manifest.Decode(b)
	return s, err
}

// kernel is the version whose modules are packed.
func (i *Image) kernel() string {
	for n := range i.entries {
		rest, ok := strings.CutPrefix(n, "usr/lib/modules/")
		if v, is := strings.CutSuffix(rest, "/modules.dep"); ok && is {
			return v
		}
	}
	return ""
}

// Verify reads everything and compares: every file of the medium with the
// list of digests, the whole initramfs as the kernel would unpack it, the
// kernel's version with that of its modules, the build id of the medium with
// the order's. Every fault is one line of the error.
func (i *Image) Verify(ctx context.Context) error {
	var faults []error
	if i.medium != nil {
		faults = append(faults, i.medium.Verify(ctx))
	}
	s, err := i.Summary()
	if err != nil {
		return errors.Join(append(faults, err)...)
	}
	if err := i.follows(); err != nil {
		faults = append(faults, err)
	}
	if i.medium != nil {
		if id, err := i.medium.BuildID(); err != nil || id != s.BuildID {
			faults = append(faults, errors.Join(err, fmt.Errorf("the medium is build %q, its rescue system is %q", id, s.BuildID)))
		}
		k, err := i.medium.Kernel()
		if err == nil {
			var v string
			if v, err = payload.ImageVersion(k); err == nil && v != s.Kernel {
				err = fmt.Errorf("the kernel is version %s, its modules are of %s", v, s.Kernel)
			}
		}
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return report.Errorf(report.CodeFailed, "build the image again", "%s is damaged: %w", i.Path, err)
	}
	return nil
}

// follows checks that what every boot needs leads to a file.
func (i *Image) follows() error {
	var faults []error
	for _, n := range []string{"/init", "/usr/bin/lifeboat", "/sbin/modprobe", "/bin/sh"} {
		if _, err := i.follow(n); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// Secrets lists the files of an image that must not come into other hands.
func (i *Image) Secrets() ([]payload.Secret, error) {
	files, err := cpio.ReadFiles(i.reader(), func(e cpio.Entry) bool {
		return e.Size <= maxSecret && payload.MayHoldSecret(e.Name)
	}, maxSecret)
	if err != nil {
		return nil, err
	}
	var out []payload.Secret
	for n, e := range i.entries {
		if !e.Regular() {
			continue
		}
		if why := payload.SecretWhy(n, files[n]); why != "" {
			out = append(out, payload.Secret{Path: "/" + n, Why: why})
		}
	}
	slices.SortFunc(out, func(a, b payload.Secret) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}
