package archive

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// A folder of sysfs holds files that nobody can read, not even root, and files
// that are shorter than they say.
const unreadable = "/sys/bus/platform"

func packUnreadable(t *testing.T, exclude ...string) *Summary {
	t.Helper()
	_, sum := packAll(t, Options{}, Source{Path: "/", At: unreadable, Bare: true, Exclude: append(exclude, "/devices", "/drivers")})
	return sum
}

// TestUnreadableIsCounted: a file that cannot be opened is missing from the
// archive; one that is named by an exclude is not missed.
func TestUnreadableIsCounted(t *testing.T) {
	sum := packUnreadable(t)
	if n := sum.Problems.Count(); n != 2 {
		t.Errorf("%d problems, 2 files cannot be read: %v", n, sum.Problems.First())
	}
	if len(sum.Changed) != 1 || sum.Gone.Count() != 0 {
		t.Errorf("changed %v, gone %v", sum.Changed, sum.Gone.First())
	}
	sum = packUnreadable(t, "/uevent", "/drivers_*")
	if n := sum.Problems.Count(); n != 0 {
		t.Errorf("excluded files are problems: %v", sum.Problems.First())
	}
}

// TestVanishedIsNoLoss: what goes or is replaced between the listing and the
// opening is normal; everything else is a loss, unless it is excluded.
func TestVanishedIsNoLoss(t *testing.T) {
	for _, c := range []struct {
		err        error
		rel        string
		lost, gone int64
	}{
		{unix.ENOENT, "a", 0, 1}, {unix.ESTALE, "a", 0, 1}, {unix.ELOOP, "a", 0, 1}, {unix.ENOTDIR, "a", 0, 1}, {unix.ENXIO, "a", 0, 1},
		{unix.EIO, "a", 1, 0}, {unix.EACCES, "a", 1, 0}, {unix.EUCLEAN, "a", 1, 0}, {unix.ETIMEDOUT, "a", 1, 0}, {errors.New("x"), "a", 1, 0},
		{unix.EIO, "skip", 0, 0},
	} {
		x, err := NewExcludes([]string{"/skip"})
		if err != nil {
			t.Fatal(err)
		}
		w := &walker{packer: &packer{problems: &Problems{}, gone: &Problems{}, mounts: make([]Mount, 1)}, source: &source{Source: Source{Path: "/"}, excludes: x}}
		if err := w.unopened(c.rel, "open", c.err); err != nil {
			t.Fatal(err)
		}
		if w.problems.Count() != c.lost || w.gone.Count() != c.gone || w.mounts[0].Problems != c.lost {
			t.Errorf("%v of %s: %d lost (%d in the index), %d gone", c.err, c.rel, w.problems.Count(), w.mounts[0].Problems, w.gone.Count())
		}
	}
}
