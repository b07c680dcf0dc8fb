package triage

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long newer files are counted when nobody says otherwise.
const patience = time.Minute

// countNewer counts, in each filesystem whose files are in the backup, those
// that changed after it.
func (s *scene) countNewer(ctx context.Context, made time.Time) {
	limit := s.opt.Patience
	if limit == 0 {
		limit = patience
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for i := range s.facts.Filesystems {
		f := &s.facts.Filesystems[i]
		if !f.Readable || !f.Data || f.ESP {
			continue
		}
		c := counter{made: made, moved: born(s.at[f.ID]).Before(made), enough: s.opt.Enough, root: s.at[f.ID], in: map[string]int64{}}
		c.count(ctx)
		f.Newer, f.AtLeast, f.Unlisted = c.newer, c.ended, c.unlisted
		f.NewerIn = c.most(3)
	}
}

// born is when a filesystem was made, as its root directory tells; the zero
// time when it does not.
func born(dir string) time.Time {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME, &st); err != nil || st.Mask&unix.STATX_BTIME == 0 || st.Btime.Sec == 0 {
		return time.Unix(1<<40, 0) // not told: as if it were new
	}
	return time.Unix(st.Btime.Sec, int64(st.Btime.Nsec))
}

type counter struct {
	made time.Time
	// moved: the inodes' own times count too. A file that was moved or copied
	// here with its old time is in no backup either. In a filesystem that is
	// younger than the backup they only tell of the restore.
	moved    bool
	enough   int64
	root     string
	newer    int64
	unlisted int64
	ended    bool
	in       map[string]int64
}

func (c *counter) count(ctx context.Context) {
	var top unix.Stat_t
	if unix.Lstat(c.root, &top) != nil {
		c.unlisted++
		return
	}
	_ = filepath.WalkDir(c.root, func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			c.ended = true
			return ctx.Err()
		}
		if err != nil {
			if d != nil && d.IsDir() {
				c.unlisted++
				return fs.SkipDir
			}
			return nil
		}
		var st unix.Stat_t
		if unix.Lstat(name, &st) != nil {
			c.unlisted++
			return nil
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if st.Dev != top.Dev {
				return fs.SkipDir // another mount of the tree is counted by itself
			}
			return nil
		}
		if !c.isNewer(&st) {
			return nil
		}
		c.newer++
		c.in[c.folder(name)]++
		if c.enough > 0 && c.newer >= c.enough {
			c.ended = true
			return fs.SkipAll
		}
		return nil
	})
}

func (c *counter) isNewer(st *unix.Stat_t) bool {
	return time.Unix(st.Mtim.Unix()).After(c.made) || c.moved && time.Unix(st.Ctim.Unix()).After(c.made)
}

// folder is the first two parts of a path below the root.
func (c *counter) folder(name string) string {
	rel, err := filepath.Rel(c.root, filepath.Dir(name))
	if err != nil || rel == "." {
		return "/"
	}
	parts := strings.SplitN(rel, "/", 3)
	return "/" + strings.Join(parts[:min(len(parts), 2)], "/")
}

// most names the folders with the most newer files.
func (c *counter) most(n int) []string {
	var names []string
	for k := range c.in {
		names = append(names, k)
	}
	slices.SortFunc(names, func(a, b string) int {
		if c.in[a] != c.in[b] {
			return int(min(max(c.in[b]-c.in[a], -1), 1))
		}
		return strings.Compare(a, b)
	})
	for i, k := range names[:min(n, len(names))] {
		names[i] = fmt.Sprintf("%s: %d", k, c.in[k])
	}
	return names[:min(n, len(names))]
}

// torn tells whether a filesystem was not unmounted: its journal may hold
// writes that a strictly read-only look does not see. Sources: ext4 disk
// layout (s_feature_incompat, s_state); FAT's dirty flag. XFS tells only by
// its log, and is left out.
func torn(node, typ string) bool {
	f, err := os.Open(node)
	if err != nil {
		return false
	}
	defer f.Close()
	b := make([]byte, 2048)
	if _, err := f.ReadAt(b, 0); err != nil {
		return false
	}
	const needsRecovery = 4
	switch typ {
	case "ext2", "ext3", "ext4":
		sb := b[1024:]
		return binary.LittleEndian.Uint32(sb[0x60:])&needsRecovery != 0 || binary.LittleEndian.Uint16(sb[0x3a:])&1 == 0
	case "vfat":
		return b[0x41]&1 != 0 || b[0x25]&1 != 0 && string(b[0x36:0x39]) == "FAT"
	}
	return false
}
