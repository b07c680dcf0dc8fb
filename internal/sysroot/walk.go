package sysroot

import (
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is the kernel's own limit for links in one path.
const maxLinks = 40

// walker resolves a name without openat2: one O_PATH|O_NOFOLLOW open per component.
// It keeps the directories from the root down, so ".." is a step back on that stack
// and never the kernel's "..", which a rename could turn into a way out.
type walker struct {
	dirs  []int    // dirs[0] is the root and is not ours to close
	names []string // names[i] is the name of dirs[i+1]
	links int
}

func (w *walker) top() int { return w.dirs[len(w.dirs)-1] }

func (w *walker) up() {
	if len(w.dirs) > 1 {
		unix.Close(w.top())
		w.dirs = w.dirs[:len(w.dirs)-1]
		w.names = w.names[:len(w.names)-1]
	}
}

func (w *walker) close() {
	for len(w.dirs) > 1 {
		w.up()
	}
}

// walk goes down name and stops in the directory of its last component, which is
// returned. With follow, a link as the last component is followed too, so the
// returned base is never a link (at the time of the look). An empty base means
// that name is the directory reached; a base that ends in "/" must be a directory.
// With strict, a link that would be followed is ELOOP.
func (w *walker) walk(name string, follow, strict bool) (base string, err error) {
	rest := name
	for {
		rest = strings.TrimLeft(rest, "/")
		if rest == "" {
			return "", nil
		}
		part, tail, more := strings.Cut(rest, "/")
		last := !more || strings.Trim(tail, "/") == ""
		switch part {
		case ".":
			rest = tail
			continue
		case "..":
			w.up()
			rest = tail
			continue
		}
		target, isLink, err := readlinkat(w.top(), part)
		if err != nil && !(last && err == unix.ENOENT) {
			return "", err
		}
		// "link/" means the directory behind it, whatever follow says.
		if last && !more && !(isLink && follow) {
			return part, nil
		}
		if last && more && !isLink {
			return part + "/", nil
		}
		if isLink {
			if w.links++; strict || w.links > maxLinks {
				return "", unix.ELOOP
			}
			if target == "" {
				return "", unix.ENOENT
			}
			if target[0] == '/' {
				w.close()
			}
			rest = target + "/" + tail
			if tail == "" && !more {
				rest = target
			}
			continue
		}
		fd, err := retryInt(func() (int, error) {
			return unix.Openat(w.top(), part, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		})
		if err != nil {
			return "", err
		}
		w.dirs, w.names = append(w.dirs, fd), append(w.names, part)
		rest = tail
	}
}

// openWalk is openFD for kernels without openat2.
func (r *Root) openWalk(name string, flags int, mode uint32, strict bool) (int, error) {
	follow := flags&unix.O_NOFOLLOW == 0 && flags&(unix.O_CREAT|unix.O_EXCL) != unix.O_CREAT|unix.O_EXCL
	for tries := 0; ; tries++ {
		w := &walker{dirs: []int{r.fd}}
		base, err := w.walk(name, follow, strict)
		if err != nil {
			w.close()
			return -1, err
		}
		how := flags | unix.O_NOFOLLOW
		if base == "" {
			base = "."
		} else if n := len(base) - 1; base[n] == '/' {
			// O_CREAT of "name/" is refused by the kernel as well.
			base, how = base[:n], how|unix.O_DIRECTORY
		}
		fd, err := retryInt(func() (int, error) { return unix.Openat(w.top(), base, how, mode) })
		w.close()
		// A link that was not there when we looked: look again, but not for ever.
		if err == unix.ELOOP && follow && !strict && tries < maxLinks {
			continue
		}
		if err == nil && strict && flags&(unix.O_PATH|unix.O_NOFOLLOW) == unix.O_PATH && isLinkFD(fd) {
			unix.Close(fd)
			return -1, unix.ELOOP
		}
		return fd, err
	}
}

// resolve returns the real path below the root of name, which must exist.
func (r *Root) resolve(name string) (string, error) {
	w := &walker{dirs: []int{r.fd}}
	defer w.close()
	base, err := w.walk(name, true, false)
	if err != nil {
		return "", err
	}
	if base == "" {
		return "/" + strings.Join(w.names, "/"), nil
	}
	var st unix.Stat_t
	if err := unix.Fstatat(w.top(), base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return "", err
	}
	if strings.HasSuffix(base, "/") && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", unix.ENOTDIR
	}
	return "/" + strings.Join(append(w.names, strings.TrimSuffix(base, "/")), "/"), nil
}

// readlinkat reads a link of any length; what is no link gives isLink false.
func readlinkat(dir int, base string) (target string, isLink bool, err error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := retryInt(func() (int, error) { return unix.Readlinkat(dir, base, buf) })
		if err == unix.EINVAL {
			return "", false, nil
		}
		if err != nil {
			return "", false, err
		}
		if n < size {
			return string(buf[:n]), true, nil
		}
	}
}

func isLinkFD(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK
}
