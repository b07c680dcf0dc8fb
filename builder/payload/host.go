package payload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
)

// Host is the system whose files are packed: "/" or the root of another tree.
// Links count inside it. Safe for use by several goroutines.
type Host struct {
	Root string

	mu    sync.Mutex
	stats map[string]stat
}

type stat struct {
	mode   fs.FileMode
	size   int64
	target string // of a link
	err    error
}

// NewHost looks at the tree below root.
func NewHost(root string) *Host { return &Host{Root: root, stats: map[string]stat{}} }

// Path is where a path of the host lies for us.
func (h *Host) Path(p string) string { return filepath.Join(h.Root, p) }

// hop is one link on the way to a file.
type hop struct{ Path, Target string }

// Follow walks a path of the host link by link. It returns where the path
// ends, and every link on the way, each by the place where it really lies:
// awk → /etc/alternatives/awk → mawk gives two. A path that ends nowhere is
// an error that names the link that dangles.
func (h *Host) Follow(p string) (string, []hop, error) {
	todo := strings.Split(strings.Trim(path.Clean("/"+p), "/"), "/")
	cur := "/"
	var hops []hop
	for len(todo) > 0 {
		next := path.Join(cur, todo[0])
		todo = todo[1:]
		st := h.lstat(next)
		if st.err != nil {
			if len(hops) > 0 && errors.Is(st.err, fs.ErrNotExist) {
				last := hops[len(hops)-1]
				return "", hops, fmt.Errorf("%s: its link %s leads to %s, and %s is not there: %w", p, last.Path, last.Target, next, fs.ErrNotExist)
			}
			return "", hops, st.err
		}
		if st.mode.Type() != fs.ModeSymlink {
			cur = next
			continue
		}
		if len(hops) == maxLinks {
			return "", hops, fmt.Errorf("%s: too many links", p)
		}
		hops = append(hops, hop{next, st.target})
		abs := strings.Trim(absTarget(next, st.target), "/")
		cur = "/"
		if abs != "" {
			todo = append(strings.Split(abs, "/"), todo...)
		}
	}
	return cur, hops, nil
}

// lstat remembers what it saw: a few folders are asked for thousands of
// times.
func (h *Host) lstat(p string) stat {
	h.mu.Lock()
	defer h.mu.Unlock()
	if st, ok := h.stats[p]; ok {
		return st
	}
	var st stat
	fi, err := os.Lstat(h.Path(p))
	if err != nil {
		st.err = err
	} else {
		st.mode, st.size = fi.Mode(), fi.Size()
		if st.mode.Type() == fs.ModeSymlink {
			st.target, st.err = os.Readlink(h.Path(p))
		}
	}
	h.stats[p] = st
	return st
}

// isFile tells whether a path leads to a regular file.
func (h *Host) isFile(p string) bool {
	c, _, err := h.Follow(p)
	return err == nil && h.lstat(c).mode.IsRegular()
}

// IsDir tells whether a path leads to a folder.
func (h *Host) IsDir(p string) bool {
	c, _, err := h.Follow(p)
	return err == nil && h.lstat(c).mode.IsDir()
}

// ReadFile reads a file of the host, links followed inside it.
func (h *Host) ReadFile(p string) ([]byte, error) {
	c, _, err := h.Follow(p)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(h.Path(c))
}

// Glob lists what matches below the host's root, as paths of the host.
// Folders on the way may be links that leave the root only on a host whose
// root is "/".
func (h *Host) Glob(pattern string) []string {
	dir := path.Dir(pattern)
	if strings.ContainsAny(dir, "*?[") {
		var out []string
		for _, d := range h.Glob(dir) {
			out = append(out, h.Glob(path.Join(d, path.Base(pattern)))...)
		}
		return out
	}
	c, _, err := h.Follow(dir)
	if err != nil {
		return nil
	}
	list, err := os.ReadDir(h.Path(c))
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range list {
		if ok, _ := path.Match(path.Base(pattern), e.Name()); ok {
			out = append(out, path.Join(dir, e.Name()))
		}
	}
	return out
}

// binDirs are where programs are looked for, in this order.
var binDirs = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// Program finds a program by name or path; "" when the host has none.
func (h *Host) Program(name string) string {
	if path.IsAbs(name) {
		if h.isFile(name) {
			return path.Clean(name)
		}
		return ""
	}
	if name == "" || strings.Contains(name, "/") {
		return ""
	}
	for _, d := range binDirs {
		p := path.Join(d, name)
		c, _, err := h.Follow(p)
		if err != nil {
			continue
		}
		if m := h.lstat(c).mode; m.IsRegular() && m&0o111 != 0 {
			return p
		}
	}
	return ""
}

// topFolders are links into usr in every image, whether the host has merged
// them or not.
var topFolders = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"}

func isTopLink(p string) bool {
	for _, n := range topFolders {
		if p == "/"+n {
			return true
		}
	}
	return false
}

// TopLinks makes /bin, /sbin and /lib* links as the host has them; where the
// host still has folders, links to usr. The folders of usr that are links
// themselves (sbin → bin) stay links.
func (t *Tree) TopLinks(h *Host) error {
	for _, n := range topFolders {
		top, usr := h.lstat("/"+n), h.lstat("/usr/"+n)
		if top.err != nil && n != "bin" && n != "sbin" && n != "lib" {
			continue
		}
		target := "usr/" + n
		if top.err == nil && top.mode.Type() == fs.ModeSymlink {
			target = strings.TrimPrefix(top.target, "/")
		}
		var err error
		if usr.err == nil && usr.mode.Type() == fs.ModeSymlink {
			err = t.Link("usr/"+n, usr.target, "layout")
		} else {
			err = t.Dir("usr/"+n, 0o755, "layout")
		}
		if err == nil {
			err = t.Link(n, target, "layout")
		}
		if err != nil {
			return err
		}
	}
	return nil
}
