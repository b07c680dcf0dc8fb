//go:build kernel

package kernel

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lifeboat/internal/cpio"
	"lifeboat/internal/run"
)

// root is the module's folder, seen from this package.
const root = "../.."

// guestPackages are the packages with tests for guests.
func guestPackages(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && p != root || d.Name() == "build" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(p, "_kernel_test.go") {
			rel, err := filepath.Rel(root, filepath.Dir(p))
			if err != nil {
				return err
			}
			if !slices.Contains(out, rel) {
				out = append(out, rel)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatal("no file *_kernel_test.go anywhere: nothing would be tested")
	}
	return out
}

var (
	bootSuffix = regexp.MustCompile(`_Boot([1-9][0-9]*)$`)
	testFunc   = regexp.MustCompile(`(?m)^func (Test\w+)\(\w+ \*testing\.T\)`)
)

// guestTests are the names of a package's tests in files for guests, in the
// order of the boots: the package's other tests have run elsewhere.
func guestTests(t *testing.T, pkg string) (names []string) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(root, pkg, "*_kernel_test.go"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testFunc.FindAllStringSubmatch(string(b), -1) {
			names = append(names, m[1])
		}
	}
	// Those without a number go first: what a _Boot1 leaves on the disks for the
	// next boot must not be wiped by a test in between.
	slices.SortStableFunc(names, func(a, b string) int {
		return cmp.Or(bootOf(a)-bootOf(b), len(bootSuffix.FindString(a))-len(bootSuffix.FindString(b)))
	})
	if len(names) == 0 {
		t.Fatalf("%s: no test in %v", pkg, files)
	}
	return names
}

func bootOf(test string) int {
	if m := bootSuffix.FindStringSubmatch(test); m != nil {
		n, _ := strconv.Atoi(m[1])
		return n
	}
	return 1
}

// TestPackages runs the guest tests of every package that has some, each
// package in a machine of its own.
func TestPackages(t *testing.T) {
	_, set := kernelImage(t)
	for _, pkg := range guestPackages(t) {
		t.Run(strings.ReplaceAll(pkg, "/", "."), func(t *testing.T) {
			bin := filepath.Join(t.TempDir(), "guest.test")
			host(t, run.Cmd{Path: "go", Args: []string{"test", "-c", "-tags", "kernel", "-trimpath", "-ldflags", "-s -w", "-o", bin, "./" + pkg}, Dir: root})
			test := makePart(t, func(w *cpio.Writer) error {
				if err := w.Copy("test/guest.test", bin); err != nil {
					return err
				}
				return addTestdata(w, filepath.Join(root, pkg))
			})
			m := boot(t, setup{name: filepath.Base(pkg), disks: 6,
				segments: [][]byte{modulesPart(t, set), toolsPart(t), guestPart(t), test}})
			m.Hello()
			number := 1
			for _, name := range guestTests(t, pkg) {
				t.Run(name, func(t *testing.T) {
					if b := bootOf(name); b != number {
						m.Reset()
						number = b
					}
					out, code := m.Run(10*time.Minute, "bash", "-c", "cd /test && exec ./guest.test -test.v -test.timeout 9m -test.run '^"+name+"$'")
					switch {
					case code != 0:
						t.Errorf("in the guest: exit status %d\n%s", code, out)
					case !strings.Contains(out, "--- PASS: "+name):
						t.Errorf("it did not run in the guest:\n%s", out)
					case testing.Verbose():
						t.Log(out)
					}
				})
			}
		})
	}
}

// addTestdata packs a package's testdata folder next to its tests.
func addTestdata(w *cpio.Writer, dir string) error {
	err := filepath.WalkDir(filepath.Join(dir, "testdata"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		return w.Copy("test/"+rel, p)
	})
	if os.IsNotExist(err) {
		return nil
	}
	return err
}
