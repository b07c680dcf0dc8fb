package archive

import (
	"context"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// packer turns entries into frames. One goroutine uses it.
type packer struct {
	opt      *Options
	pipe     *pipeline
	problems *Problems
	gone     *Problems
	tar      tarWriter
	hdr      []byte // header of the entry at hand
	smap     []byte // its sparse map
	meta     metaReader

	cur     *frame // entries, then hard links
	dirs    *frame // directories, held until the end
	seq     int    // of the next frame that is not held; the manifest was 0
	mounts  []Mount
	splits  []splitFile
	changed []Changed
	links   map[inodeKey]string // first names of files that have more names to come
	later   []hardLink
	files   atomic.Int64
}

// inodeKey tells files with several names apart. A second name in another mount is no
// hard link after the restore, so the mount counts.
type inodeKey struct {
	mount    int
	dev, ino uint64
}

type hardLink struct {
	mount int
	entry Entry
}

// packAll walks every source, then writes what must come last.
func (pk *packer) packAll(ctx context.Context, srcs []*source) error {
	pk.seq = 1
	for _, src := range srcs {
		w := &walker{ctx: ctx, packer: pk, source: src}
		if err := w.root(); err != nil {
			return err
		}
		if err := pk.flush(); err != nil {
			return err
		}
		if err := pk.flushDirs(); err != nil {
			return err
		}
	}
	for i := range pk.later {
		l := &pk.later[i]
		if pk.cur != nil && pk.cur.mount != l.mount {
			if err := pk.flush(); err != nil {
				return err
			}
		}
		if err := pk.addHeader(l.mount, KindHardLinks, &l.entry); err != nil {
			return err
		}
	}
	if err := pk.flush(); err != nil {
		return err
	}
	return cancelled(ctx)
}

// room makes sure that the current frame takes need more bytes.
func (pk *packer) room(mount int, kind Kind, need int) error {
	if pk.cur != nil && len(pk.cur.slot.raw)+need > maxFrame {
		if err := pk.flush(); err != nil {
			return err
		}
	}
	if pk.cur == nil {
		s, err := pk.pipe.slot()
		if err != nil {
			return err
		}
		pk.cur = &frame{row: row{kind: kind, mount: mount}, slot: s}
	}
	return nil
}

// flush hands the current frame over.
func (pk *packer) flush() error {
	if pk.cur == nil {
		return nil
	}
	pk.pipe.submit(pk.cur)
	pk.cur = nil
	pk.seq++
	return cancelled(pk.pipe.ctx)
}

func (pk *packer) flushDirs() error {
	if pk.dirs != nil {
		pk.dirs.hold = true
		pk.pipe.submit(pk.dirs)
		pk.dirs = nil
	}
	return nil
}

// addHeader adds an entry that has no data.
func (pk *packer) addHeader(mount int, kind Kind, e *Entry) (err error) {
	if pk.hdr, err = pk.tar.appendHeader(pk.hdr[:0], e); err != nil {
		pk.problem(mount, e.Path, "not packed", err)
		return nil
	}
	if err := pk.room(mount, kind, len(pk.hdr)); err != nil {
		return err
	}
	pk.append(e)
	if len(pk.cur.slot.raw) >= frameTar {
		return pk.flush()
	}
	return nil
}

// append puts the header at hand into the current frame.
func (pk *packer) append(e *Entry) {
	f := pk.cur
	f.slot.raw = append(f.slot.raw, pk.hdr...)
	if f.first == "" {
		f.first = e.Path
	}
	if e.Flags&lateFlags != 0 && e.Type != '5' {
		f.flags |= flagLate
	}
	pk.files.Add(1)
}

// addDirAgain adds a directory whose content has been walked to the frames that are
// restored last: children come before their parents.
func (pk *packer) addDirAgain(mount int, e *Entry) (err error) {
	if pk.hdr, err = pk.tar.appendHeader(pk.hdr[:0], e); err != nil {
		return nil // told when it was met first
	}
	if pk.dirs != nil && len(pk.dirs.slot.raw)+len(pk.hdr) > maxFrame {
		if err := pk.flushDirs(); err != nil {
			return err
		}
	}
	if pk.dirs == nil {
		s, err := pk.pipe.slot()
		if err != nil {
			return err
		}
		pk.dirs = &frame{row: row{kind: KindDirectories, mount: mount, first: e.Path}, slot: s}
	}
	f := pk.dirs
	f.slot.raw = append(f.slot.raw, pk.hdr...)
	if e.Flags&lateFlags != 0 {
		f.flags |= flagLate
	}
	if len(f.slot.raw) >= frameTar {
		return pk.flushDirs()
	}
	return nil
}

// addFile packs a regular file from its open descriptor. st is from before reading.
func (pk *packer) addFile(mount, fd int, e *Entry, st *unix.Stat_t) (packed bool, err error) {
	data := []Range{{0, st.Size}}
	pk.smap = pk.smap[:0]
	// The look for holes is left out where the blocks show that there are none.
	if st.Blocks*512 < st.Size {
		if data, e.Sparse = findData(fd, st.Size); e.Sparse != nil {
			pk.smap = appendSparseMap(pk.smap, data, st.Size)
		}
	}
	e.mapLen = int64(len(pk.smap))
	e.stored = e.mapLen
	for _, r := range data {
		e.stored += r.Len
	}
	if pk.hdr, err = pk.tar.appendHeader(pk.hdr[:0], e); err != nil {
		pk.problem(mount, e.Path, "not packed", err)
		return false, nil
	}
	pk.hdr = append(pk.hdr, pk.smap...)
	rd := &dataReader{fd: fd, ranges: data}
	total := e.stored - e.mapLen
	if e.stored <= frameTar {
		if err := pk.room(mount, KindEntries, len(pk.hdr)+int(padded(total))); err != nil {
			return false, err
		}
		pk.append(e)
		pk.cur.slot.raw = rd.appendTo(pk.cur.slot.raw, total, nil)
	} else if err := pk.addSplit(mount, e, rd, total); err != nil {
		return false, err
	}
	m := &pk.mounts[mount]
	m.Files++
	m.Bytes += st.Size
	m.Data += total
	pk.checkChange(mount, e, st, rd)
	if pk.cur != nil && len(pk.cur.slot.raw) >= frameTar {
		return true, pk.flush()
	}
	return true, nil
}

// addSplit packs a large file: its header and as much as the frame at hand should
// still hold, then frames of nothing but data.
func (pk *packer) addSplit(mount int, e *Entry, rd *dataReader, total int64) error {
	if err := pk.room(mount, KindEntries, len(pk.hdr)); err != nil {
		return err
	}
	pk.append(e)
	pk.splits = append(pk.splits, splitFile{path: e.Path, mount: mount, owner: pk.seq, size: e.Size})
	number := len(pk.splits)
	pk.cur.split = number
	// The rest of the file follows in the stream, so nothing may come after this.
	first := int64(max(0, frameTar-len(pk.cur.slot.raw))) &^ (block - 1)
	first = min(first, total)
	pk.cur.slot.raw = rd.appendTo(pk.cur.slot.raw, first, nil)
	owner := pk.seq
	if err := pk.flush(); err != nil {
		return err
	}
	for done := first; done < total; {
		s, err := pk.pipe.slot()
		if err != nil {
			return err
		}
		n := min(total-done, frameTar)
		f := &frame{row: row{kind: KindContinuation, mount: mount, split: number, skip: done}, slot: s, owner: owner}
		s.raw = rd.appendTo(s.raw, n, &f.ranges)
		pk.cur = f
		if err := pk.flush(); err != nil {
			return err
		}
		done += n
	}
	return nil
}

// checkChange compares the file with what it was before it was read.
func (pk *packer) checkChange(mount int, e *Entry, before *unix.Stat_t, rd *dataReader) {
	what := ""
	var after unix.Stat_t
	switch err := unix.Fstat(rd.fd, &after); {
	case rd.err != nil:
		what = rd.fault()
		pk.problem(mount, e.Path, "read (the rest is packed as zeros)", rd.err)
	case err != nil:
		what = "could not be looked at again"
	case rd.short || after.Size < before.Size:
		what = "was cut"
	case after.Size > before.Size:
		what = "grew"
	case after.Mtim != before.Mtim:
		what = "was written to"
	}
	if what == "" {
		return
	}
	pk.changed = append(pk.changed, Changed{Mount: mount, Path: e.Path, What: what})
	if pk.cur != nil {
		pk.cur.flags |= flagChanged
	}
}

// vanished notes what is normal on a running system: files come and go.
func (pk *packer) vanished(path, what string) { pk.gone.add(path, what, nil) }

func (pk *packer) problem(mount int, path, what string, err error) {
	pk.mounts[mount].Problems++
	pk.problems.add(path, what, err)
}
