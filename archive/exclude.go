package archive

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Excludes decides what is left out of one mount. An excluded directory is packed
// itself, without what is below it: programs expect /var/tmp to exist.
type Excludes struct {
	exact map[string]bool
	globs []string
}

// NewExcludes reads absolute paths as recorded. "*", "?" and "[...]" match within one
// component; "/x/**" and "/x/*" mean the same as "/x" does for a directory.
func NewExcludes(patterns []string) (*Excludes, error) {
	x := &Excludes{exact: map[string]bool{}}
	for _, p := range patterns {
		if !strings.HasPrefix(p, "/") {
			return nil, fmt.Errorf("exclude %q: a path from the root is needed, such as /var/cache", p)
		}
		for _, tail := range []string{"/**", "/*", "/"} {
			p = strings.TrimSuffix(p, tail)
		}
		p = path.Clean("/" + p)
		if !strings.ContainsAny(p, "*?[") {
			x.exact[p] = true
			continue
		}
		if _, err := path.Match(p, "/"); err != nil {
			return nil, fmt.Errorf("exclude %q: %w", p, err)
		}
		x.globs = append(x.globs, p)
	}
	return x, nil
}

// Match tells whether p, an absolute clean path, is named itself; what is below a
// match is not asked for one by one.
func (x *Excludes) Match(p string) bool {
	if x.exact[p] {
		return true
	}
	for _, g := range x.globs {
		if ok, _ := path.Match(g, p); ok {
			return true
		}
	}
	return false
}

// mountPoints lists what is mounted below the directory at of this machine, as paths
// relative to it. Bind mounts of the same filesystem show only there: they have the
// same device number as their surroundings.
func mountPoints(at string) (map[string]bool, error) {
	real, err := filepath.EvalSymlinks(at)
	if err != nil {
		return nil, err
	}
	if real, err = filepath.Abs(real); err != nil {
		return nil, err
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMountinfo(string(b), real), nil
}

func parseMountinfo(text, at string) map[string]bool {
	below := map[string]bool{}
	prefix := strings.TrimRight(at, "/") + "/"
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		point := unescapeOctal(f[4])
		if rel, ok := strings.CutPrefix(point, prefix); ok && rel != "" {
			below[rel] = true
		}
	}
	return below
}

// unescapeOctal undoes the kernel's \040 for blanks and the like.
func unescapeOctal(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && isOctal(s[i+1]) && isOctal(s[i+2]) && isOctal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isOctal(c byte) bool { return c >= '0' && c <= '7' }
