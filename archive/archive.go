// Package archive (level 2) owns the format: Lifeboat's built-in backup file, and
// writing, checking, listing, extracting, restoring and salvaging it.
//
// A file is a head, frames, an index and a footer. The frames with tar data are plain
// zstd frames and all the rest hides in skippable ones, so that
//
//	zstd -dc FILE | tar -xp --numeric-owner --acls --selinux --xattrs --xattrs-include='*'
//
// restores a system without Lifeboat. docs/archive-format.md describes every byte.
package archive

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Kind says what a frame holds.
type Kind byte

// The kinds, in the order in which they stand in a file; continuations directly follow
// the entries frame that their file began in.
const (
	KindManifest     Kind = 'M' // the caller's manifest, not part of the tar stream
	KindEntries      Kind = 'E' // tar members in walk order
	KindContinuation Kind = 'C' // more data of the file that the last entries frame began
	KindHardLinks    Kind = 'H' // second and further names of files
	KindDirectories  Kind = 'D' // every directory again, deepest first: metadata
	KindEnd          Kind = 'Z' // the two zero blocks that end a tar stream
)

func (k Kind) String() string {
	switch k {
	case KindManifest:
		return "manifest"
	case KindEntries:
		return "entries"
	case KindContinuation:
		return "continuation"
	case KindHardLinks:
		return "hard links"
	case KindDirectories:
		return "directories"
	case KindEnd:
		return "end"
	}
	return fmt.Sprintf("unknown (%#x)", byte(k))
}

// What Open and Verify find wrong with a file; test with errors.Is.
var (
	ErrNotArchive = errors.New("this is not a Lifeboat archive")
	ErrCutShort   = errors.New("the archive is cut short: its end is missing (salvage reads what is there)")
	ErrDamaged    = errors.New("the archive is damaged (salvage reads what is whole)")
	ErrVersion    = errors.New("the archive has a format that this program does not know")
)

// UUID names one archive. Its text form is the usual one with dashes.
type UUID [16]byte

func (u UUID) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// Info is what an archive says of itself.
type Info struct {
	UUID    UUID
	HostID  string    // as given to Create
	Started time.Time // when Create began
	Ended   time.Time // when the last file was read
	Bytes   int64     // length of the archive file
	Frames  int
	Mounts  []Mount
	Changed []Changed
}

// Mount is one packed mount with its totals.
type Mount struct {
	Path        string // as recorded: "/", "/boot"
	Files       int64  // regular files, each inode once
	Directories int64
	Others      int64 // links, devices, fifos
	HardLinks   int64 // names beyond the first
	Sockets     int64 // left out: only the program that listens can make one
	Excluded    int64 // entries that Exclude or Skip left out (what is below them is not counted)
	Problems    int64 // entries that could not be packed
	Bytes       int64 // sum of the lengths of all files, holes included
	Data        int64 // bytes of file data that are stored, holes left out
}

// Changed is a file whose content in the archive may be a mixture: it was written to
// while it was read. Its length is the one that it had at first.
type Changed struct {
	Mount int    // index into Info.Mounts
	Path  string // as recorded
	What  string // "grew", "was cut", "was written to", "could not be read in ..."
}

// Problem is something that went wrong with one entry while the work went on.
type Problem struct {
	Path string // as recorded
	What string // what was tried: "open", "set owner", "not packed: ..."
	Err  error  // nil where What says it all
}

func (p Problem) String() string {
	if p.Err == nil {
		return fmt.Sprintf("%q: %s", p.Path, p.What)
	}
	return fmt.Sprintf("%q: %s: %v", p.Path, p.What, p.Err)
}

// Problems counts problems and keeps the first thousand. Its methods may be called
// from many goroutines at once.
type Problems struct {
	mu    sync.Mutex
	count int64
	first []Problem
	tell  func(Problem)
}

const keepProblems = 1000

func (p *Problems) add(path, what string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pr := Problem{Path: path, What: what, Err: err}
	p.count++
	if len(p.first) < keepProblems {
		p.first = append(p.first, pr)
	}
	if p.tell != nil {
		p.tell(pr)
	}
}

// Count is the number of all problems.
func (p *Problems) Count() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// First returns the first problems, at most a thousand.
func (p *Problems) First() []Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Problem(nil), p.first...)
}

// Progress is how far the work has come.
type Progress struct {
	Files  int64 // entries done
	Bytes  int64 // bytes of tar done, also those of an earlier, interrupted restore
	Stored int64 // bytes of the archive file written or read
	Total  int64 // bytes of tar in all; 0 when not known (Create)
}

// cancelled gives the reason why ctx ended, if it did.
func cancelled(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
