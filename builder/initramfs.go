package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"lifeboat/builder/base"
	"lifeboat/builder/payload"
	"lifeboat/internal/cpio"
	"lifeboat/internal/handoff"
	"lifeboat/internal/loaders"
	"lifeboat/report"
)

// segment is one finished part of the initramfs on disk.
type segment struct {
	file   string // "" when its content joined another segment
	digest []byte
	stored int64
}

// The segments in their order: a later one overrides an earlier one. The
// order stands alone at the end, since it names the digest of all others.
const (
	segBase = iota
	segModules
	segHost
	segOrder
	segCount
)

// initramfs packs everything into segments. Kernel and modules are packed and
// compressed beside the programs, which are proven meanwhile.
func (b *build) initramfs(ctx context.Context) ([]segment, error) {
	release := b.o.Kernel
	if release == "" {
		release = b.o.Manifest.System.Kernel
	}
	var err error
	if b.kernel, err = payload.FindKernel(b.host, release, b.o.Manifest.System.Kernel, b.esps()); err != nil {
		return nil, err
	}
	b.problem(b.kernel.Problems...)
	b.res.Kernel, b.res.Codec = b.kernel.Release, string(b.kernel.Compression())
	var segs [segCount]segment
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.modules(ctx, &segs[segModules]) })
	g.Go(func() error {
		if err := b.pack(ctx); err != nil {
			return err
		}
		if err := b.baseSegment(&segs[segBase]); err != nil {
			return err
		}
		inner, ctx := errgroup.WithContext(ctx)
		inner.Go(func() error { return b.verify(ctx) })
		inner.Go(func() error {
			return b.compress("host", "Compressing programs and libraries", b.packer.Tree, payload.PartHost, &segs[segHost])
		})
		return inner.Wait()
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := b.orderSegment(&segs); err != nil {
		return nil, err
	}
	b.size(segs[:])
	return segs[:], nil
}

// esps are the mount points of EFI system partitions.
func (b *build) esps() []string {
	var out []string
	for _, id := range b.o.Manifest.Boot.ESPs {
		for _, m := range b.o.Manifest.Storage.MountsOf(id) {
			out = append(out, string(m.Path))
		}
	}
	return out
}

// storeModules are what the kernel needs to reach a backup, by the scheme of
// its address.
var storeModules = map[string][]string{"nfs": {"nfs", "nfsv3", "nfsv4"}, "cifs": {"cifs"}, "smb": {"cifs"}}

func scheme(url string) string {
	s, _, _ := strings.Cut(url, "://")
	return s
}

// modules chooses and packs the kernel's modules.
func (b *build) modules(ctx context.Context, seg *segment) error {
	loaded, err := payload.LoadedModules(b.host)
	if err != nil {
		return err
	}
	wish := payload.ModuleWish{Choice: b.o.Config.Modules, Required: b.plan.Needs.Modules, Loaded: loaded, Modalias: b.o.Manifest.Machine.Modalias}
	for _, m := range b.o.Manifest.Storage.Mounts {
		wish.FS = append(wish.FS, m.Type)
	}
	wish.Wanted = storeModules[scheme(b.o.Config.Backup.URL)]
	b.modTree = payload.NewTree()
	if err := b.modTree.TopLinks(b.host); err != nil {
		return err
	}
	m, err := payload.AddModules(ctx, b.o.Run, b.modTree, b.host, b.kernel, wish)
	if err != nil {
		return err
	}
	b.problem(m.Problems...)
	b.res.Modules = len(m.Closure.Modules)
	return b.compress("modules", "Compressing kernel modules and firmware", b.modTree, payload.PartModules, seg)
}

// pack collects programs, libraries and files of the host.
func (b *build) pack(ctx context.Context) error {
	return b.step("programs", "Collecting programs and libraries", func() (Part, error) {
		p, err := payload.NewPacker(b.host)
		if err != nil {
			return Part{}, err
		}
		b.packer = p
		c := b.o.Config
		err = p.AddTools(payload.ToolWish{Needs: b.plan.Needs.Tools, Programs: c.Programs, Copy: c.Copy})
		if err == nil {
			err = p.AddEtc(b.o.Manifest.Host.Name)
		}
		if err == nil {
			err = p.AddKeymap(ctx, b.o.Run, b.o.Manifest.Host.Keymap)
		}
		if err == nil {
			err = b.orderFiles()
		}
		if err != nil {
			return Part{}, err
		}
		doc, err := b.o.Manifest.Encode()
		if err == nil {
			err = p.Tree.File(handoff.ManifestPath, 0o600, doc, "manifest")
		}
		if err != nil {
			return Part{}, err
		}
		b.problem(p.Problems...)
		if b.res.Secrets, err = p.Tree.Secrets(); err != nil {
			return Part{}, err
		}
		return Part{Files: len(p.Programs)}, nil
	})
}

// verify proves the programs in the finished tree.
func (b *build) verify(ctx context.Context) error {
	return b.step("check", "Checking every program in the finished tree", func() (Part, error) {
		c, err := b.packer.Verify(ctx, b.o.Run, b.plan.Needs.Tools, b.work)
		if err != nil {
			return Part{}, err
		}
		b.problem(c.Problems...)
		b.res.Resolved, b.res.Tools = c.Resolved, c.Tools
		return Part{Files: c.Resolved}, nil
	})
}

// baseSegment takes the ready base as it is when the kernel unpacks it and
// the host has the plain layout; else its files join the host's segment.
func (b *build) baseSegment(seg *segment) error {
	return b.step("base", "Adding init and rescue programs", func() (Part, error) {
		data, err := base.Segment()
		if err != nil {
			return Part{}, report.Errorf(report.CodeFailed, "", "%w", err)
		}
		entries, err := base.Entries()
		if err != nil {
			return Part{}, err
		}
		p := Part{Files: len(entries), Stored: int64(len(data))}
		for _, e := range entries {
			if e.Regular() {
				p.Bytes += e.Size
			}
		}
		if b.kernel.Compression() != cpio.Zstd || !plainLayout(b.packer.Tree) {
			files, err := base.Open()
			if err != nil {
				return Part{}, err
			}
			return p, foldBase(b.packer.Tree, entries, files)
		}
		return p, b.writeSegment("base", seg, func(w io.Writer) error { _, err := w.Write(data); return err })
	})
}

// plainLayout tells whether the folders of usr are folders. Where one is a
// link, as usr/sbin on some, the base's files must follow it.
func plainLayout(t *payload.Tree) bool {
	for _, d := range []string{"usr/bin", "usr/sbin", "usr/lib", "usr/lib64"} {
		if e := t.Get(d); e != nil && !e.Mode.IsDir() {
			return false
		}
	}
	return true
}

// foldBase puts the base's files into the host's tree where the host has none
// of the name; what only the base can do always wins.
func foldBase(t *payload.Tree, entries []cpio.Entry, files map[string][]byte) error {
	for _, e := range entries {
		n := payload.Entry{Path: e.Name, Mode: fs.FileMode(e.Mode & 0o777), Data: files[e.Name], Target: e.Link, Major: e.Major, Minor: e.Minor, Why: "rescue base"}
		switch e.Type() {
		case cpio.TypeDir:
			n.Mode |= fs.ModeDir
		case cpio.TypeLink:
			n.Mode |= fs.ModeSymlink
			// Links are written relative to the folder that they lie in.
			if !filepath.IsAbs(e.Link) {
				n.Target = filepath.Join("/", filepath.Dir(e.Name), e.Link)
			}
		case cpio.TypeChar:
			n.Mode |= fs.ModeDevice | fs.ModeCharDevice
		}
		put := t.Add
		if payload.Reserved(filepath.Base(e.Name)) {
			put = t.Put
		}
		if err := put(n); err != nil {
			return err
		}
	}
	return nil
}

// orderSegment computes the build id from everything before it, and writes
// the order that names it. The kernel and what the boot menu adds count too.
func (b *build) orderSegment(segs *[segCount]segment) error {
	h := sha256.New()
	for _, s := range segs[:segOrder] {
		h.Write(s.digest)
	}
	k, err := os.Open(b.kernel.Image)
	if err != nil {
		return err
	}
	defer k.Close()
	if _, err := io.Copy(h, k); err != nil {
		return fmt.Errorf("read the kernel: %w", err)
	}
	h.Write(b.order.Encode())
	fmt.Fprintf(h, "cmdline %q\n", b.o.Config.Cmdline)
	b.order.BuildID = hex.EncodeToString(h.Sum(nil)[:16])
	b.order.ID, b.res.BuildID = b.order.BuildID, b.order.BuildID
	t := payload.NewTree()
	if err := t.File(handoff.OrderInImage, 0o600, b.order.Encode(), "order"); err != nil {
		return err
	}
	return b.compress("order", "Writing the order", t, payload.PartHost, &segs[segOrder])
}

// compress writes one segment of a tree.
func (b *build) compress(name, text string, t *payload.Tree, part payload.Part, seg *segment) error {
	return b.step(name, text, func() (Part, error) {
		p := Part{}
		err := b.writeSegment(name, seg, func(w io.Writer) error {
			z, err := cpio.NewEncoder(w, b.kernel.Compression(), cpio.Default)
			if err != nil {
				return err
			}
			// Times are the same in every image: equal input, equal bytes.
			c := cpio.NewWriter(z, 0)
			for _, e := range t.Entries() {
				// Folders on the way come by themselves; those of links into usr
				// are the host segment's.
				if e.Part != part {
					continue
				}
				n, err := addEntry(c, e)
				if err != nil {
					z.Close()
					return err
				}
				p.Files++
				p.Bytes += n
			}
			if err := c.Close(); err != nil {
				z.Close()
				return err
			}
			return z.Close()
		})
		if err != nil {
			return p, err
		}
		p.Stored = seg.stored
		return p, nil
	})
}

// addEntry writes one entry and returns its content's size.
func addEntry(c *cpio.Writer, e *payload.Entry) (int64, error) {
	perm := uint32(e.Mode.Perm())
	if e.Mode&fs.ModeSticky != 0 {
		perm |= 0o1000
	}
	switch {
	case e.Mode.IsDir():
		return 0, c.Dir(e.Path, perm)
	case e.Mode.Type() == fs.ModeSymlink:
		return 0, c.Symlink(e.Path, e.Target)
	case e.Mode&fs.ModeCharDevice != 0:
		return 0, c.Char(e.Path, perm, e.Major, e.Minor)
	case e.Source == "" || e.Unpack:
		data, err := e.Content()
		if err != nil {
			return 0, err
		}
		return int64(len(data)), c.File(e.Path, perm, data)
	}
	f, err := os.Open(e.Source)
	if err != nil {
		return 0, fmt.Errorf("pack %s (needed by %s): %w", e.Path, e.Why, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), c.Add(cpio.Entry{Name: e.Path, Mode: cpio.TypeFile | perm, Size: st.Size()}, f)
}

// writeSegment writes a file of the work folder and its digest.
func (b *build) writeSegment(name string, seg *segment, fill func(io.Writer) error) error {
	seg.file = filepath.Join(b.work, name+".seg")
	f, err := os.OpenFile(seg.file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	x := &hashing{w: f, h: sha256.New()}
	if err := fill(x); err != nil {
		return fmt.Errorf("write the initramfs: %w", err)
	}
	seg.digest, seg.stored = x.h.Sum(nil), x.n
	return f.Close()
}

// hashing counts and digests what goes through.
type hashing struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (x *hashing) Write(p []byte) (int, error) {
	x.h.Write(p)
	x.n += int64(len(p))
	return x.w.Write(p)
}

// warnInitramfs is the size above which machines are known to fail: firmware
// and loaders hold the image below an address, and some refuse it without a
// word.
const warnInitramfs = 200 << 20

// workRoom is what a recovery itself needs besides the image: its buffers are
// bounded by the archive's rules.
const workRoom = 256 << 20

// size states the memory that a machine needs: the image, unpacked, and room
// to work.
func (b *build) size(segs []segment) {
	var unpacked int64
	for _, s := range segs {
		b.res.Initramfs += s.stored
	}
	for _, p := range b.res.Parts {
		unpacked += p.Bytes
	}
	b.res.Memory = b.res.Initramfs + unpacked + workRoom
	// Above the larger figure the media warn themselves.
	if b.res.Initramfs > warnInitramfs && b.res.Initramfs <= loaders.LargeInitrd {
		b.problem(report.Problem{Code: report.CodeSize, Severity: report.Warning,
			Text: fmt.Sprintf("the initramfs has %.0f MiB; some firmware and boot loaders fail above 200 MiB", mib(b.res.Initramfs)),
			Next: "set modules: host, or take large files out of copy:"})
	}
}
