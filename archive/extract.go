package archive

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
)

// selection is what a restore brings back. A nil selection is everything.
type selection struct {
	paths []string          // absolute, clean; none is below another
	skip  []string          // absolute, clean: neither they nor what is below
	moved map[string]string // first names outside the paths whose data is wanted under a further name

	mu   sync.Mutex
	seen map[string]bool // paths that the archive holds
}

func (a *Archive) newSelection(ctx context.Context, paths, skip []string) (*selection, error) {
	s := &selection{moved: map[string]string{}, seen: map[string]bool{}}
	if len(paths) == 0 {
		return nil, fmt.Errorf("nothing to extract: no paths were given")
	}
	for _, p := range paths {
		s.paths = append(s.paths, path.Clean("/"+p))
	}
	for _, p := range skip {
		s.skip = append(s.skip, path.Clean("/"+p))
	}
	slices.Sort(s.paths)
	s.paths = slices.Compact(s.paths)
	// A wanted name may be a hard link to a file outside: then its first wanted name
	// gets the data.
	err := a.newEngine(0, 0).run(ctx, a.rowsOf(KindHardLinks), true, func(_, i int, raw []byte) error {
		return a.entries(i, raw, func(e *Entry, _ []byte, _ bool) error {
			if s.below(e.Path) && !s.below(e.Link) && s.moved[e.Link] == "" {
				s.moved[e.Link] = e.Path
			}
			return nil
		})
	})
	return s, err
}

// under tells whether p is dir or below it.
func under(p, dir string) bool { return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/") }

// below tells whether p is one of the paths or below one, and is not skipped.
func (s *selection) below(p string) bool {
	in := func(dir string) bool { return under(p, dir) }
	return slices.ContainsFunc(s.paths, in) && !slices.ContainsFunc(s.skip, in)
}

// has tells whether the data of the file p is needed.
func (s *selection) has(p string) bool {
	return s == nil || s.below(p) || s.moved[p] != ""
}

// output is the name under which the file p is created.
func (s *selection) output(p string) string {
	if s == nil || s.below(p) || s.moved[p] == "" {
		return p
	}
	return s.moved[p]
}

// want tells whether the entry is to be created, and under which name. The target of a
// hard link is changed to the name that the file got.
func (s *selection) want(e *Entry) (to string, ok bool) {
	if s == nil {
		return e.Path, true
	}
	if !s.has(e.Path) {
		return "", false
	}
	s.note(e.Path)
	if e.Type == '1' {
		e.Link = s.output(e.Link)
	}
	return s.output(e.Path), true
}

func (s *selection) note(p string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, want := range s.paths {
		if under(p, want) {
			s.seen[want] = true
		}
	}
}

// unseen are the paths that nothing was found for.
func (s *selection) unseen() []string {
	return slices.DeleteFunc(slices.Clone(s.paths), func(p string) bool { return s.seen[p] })
}

// filter leaves the rows that can hold something wanted. Entries frames are in the
// order of the walk, so each holds what lies between its first path and the next's.
func (s *selection) filter(a *Archive, rows []int) []int {
	if s == nil {
		return rows
	}
	var kept []int
	for n, i := range rows {
		r := &a.x.rows[i]
		if r.kind == KindContinuation {
			if s.has(a.x.splits[r.split-1].path) {
				kept = append(kept, i)
			}
			continue
		}
		end := ""
		if n+1 < len(rows) && a.x.rows[rows[n+1]].mount == r.mount {
			end = a.x.rows[rows[n+1]].first
		}
		if a.salvaged || s.between(r.first, end) {
			kept = append(kept, i)
		}
	}
	return kept
}

// between tells whether something wanted lies from first up to, not including, end.
func (s *selection) between(first, end string) bool {
	lo, hi := walkKey(first), walkKey(end)
	meets := func(from, to string) bool { return (end == "" || from < hi) && lo < to }
	for _, p := range s.paths {
		if meets(walkKey(p), walkKey(p)+"\x01") {
			return true
		}
	}
	for p := range s.moved {
		if meets(walkKey(p), walkKey(p)+"\x00") {
			return true
		}
	}
	return false
}

// walkKey is a string that sorts as the walk goes: a directory directly before what is
// in it. No name holds a zero byte.
func walkKey(p string) string {
	return strings.ReplaceAll(strings.TrimRight(p, "/"), "/", "\x00")
}
