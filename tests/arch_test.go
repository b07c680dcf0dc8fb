// Package tests holds the rules of the repository as tests; below it lie the
// laboratory and the machine scenarios.
package tests

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// level is the import table. An import goes strictly down; siblings never
// import each other; a subpackage stands half a step below its parent, which
// is why levels are counted in halves. A name that ends in /* covers the
// subpackages, each a sibling of the others.
var level = []struct {
	path string
	lvl  float64
	owns string
}{
	{"manifest", 0.5, "what is"},
	{"report", 0, "what happened: problems and codes that every vocabulary uses"},
	{"internal/handoff", 0, "the order of one boot"},
	{"plan", 1, "what will be done; pure"},
	{"internal/run", 1, "starting programs"},
	{"internal/sysroot", 1, "safe paths below a root"},
	{"internal/scratch", 1, "scratch of killed runs"},
	{"internal/config", 1, "settings with their source"},
	{"internal/kmod", 1, "kernel modules"},
	{"internal/cpio", 1, "initramfs segments"},
	{"internal/blockdev", 1, "sysfs identity of block devices"},
	{"internal/blockdev/*", 0.5, "recorded trees for tests"},
	{"internal/netup", 1, "links, addresses, DHCP"},
	{"internal/authkeys", 1, "keys of people who may log in by SSH"},
	{"internal/tools/*", 2, "one external tool each"},
	{"internal/disklabel", 2, "partition tables"},
	{"internal/hostconf/*", 2, "dialects of configuration files"},
	{"internal/diskimg", 2, "FAT images of loader files"},
	{"internal/loaders", 2, "boot loader files of packages"},
	{"archive", 2, "the built-in backup format"},
	{"internal/hooks", 2, "site hooks"},
	{"internal/hub", 2, "client of the central server"},
	{"internal/probe", 3, "reading a live machine"},
	{"internal/chroot", 3, "the restored system as a place to run its own programs in"},
	{"images/*", 3, "one container format each"},
	{"backup", 3, "methods and stores"},
	{"backup/*", 2.5, "parts of backup"},
	{"builder/base", 3.5, "the embedded rescue base"},
	{"builder/*", 3.5, "capture and payload"},
	{"builder", 4, "the rescue system on the host"},
	{"internal/check", 4.5, "image and backup held against the host"},
	{"drill/*", 3.5, "the virtual machine"},
	{"drill", 4, "boots an image and proves that it restores"},
	{"pxe", 4, "network boot"},
	{"rescue/*", 4, "parts of a recovery"},
	{"rescue", 5, "order, stop or go on, journal"},
	{"server", 5, "central server"},
	{"internal/cli", 5, "terminal, output, exit codes"},
	{"rescue/ui", 6, "the console interface"},
	{"init/internal/*", 6.5, "parts of PID 1"},
	{"init", 7, "PID 1"},
	{"cmd/*", 7, "composition"},
	{"internal/mkbase", 7, "build time: the rescue base"},
	{"internal/mkschema", 7, "build time: the JSON Schema"},
	{"tests/lab", 8, "real Debian systems, and the referee"},
	{"tests/*", 8.5, "scenarios and the demo"},
	{"tests", 9, "rules"},
}

func levelOf(pkg string) (float64, bool) {
	for _, r := range level {
		if r.path == pkg {
			return r.lvl, true
		}
	}
	for _, r := range level {
		if dir, ok := strings.CutSuffix(r.path, "/*"); ok && strings.HasPrefix(pkg, dir+"/") {
			return r.lvl, true
		}
	}
	return 0, false
}

// goFiles are the Go files of the module by package path, tests included.
func goFiles(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && p != ".." || d.Name() == "testdata" || d.Name() == "build") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(p, ".go") {
			rel, _ := filepath.Rel("..", filepath.Dir(p))
			out[filepath.ToSlash(rel)] = append(out[filepath.ToSlash(rel)], p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func parse(t *testing.T, file string, mode parser.Mode) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, mode)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestImports holds the code against the import table.
func TestImports(t *testing.T) {
	for pkg, files := range goFiles(t) {
		from, ok := levelOf(pkg)
		if !ok {
			t.Errorf("%s has no row in the import table of tests/arch_test.go: say what it owns and where it stands", pkg)
			continue
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue // tests may look down from anywhere
			}
			for _, im := range parse(t, file, parser.ImportsOnly).Imports {
				path, _ := strconv.Unquote(im.Path.Value)
				checkImport(t, pkg, from, file, path)
			}
		}
	}
}

func checkImport(t *testing.T, pkg string, from float64, file, path string) {
	t.Helper()
	if path == "os/exec" && pkg != "internal/run" && !strings.HasPrefix(pkg, "tests") && pkg != "internal/mkbase" {
		t.Errorf("%s imports os/exec: only internal/run starts programs, so that each is logged, limited and checked", file)
	}
	if pkg == "plan" && (path == "os" || path == "net" || strings.HasPrefix(path, "os/")) {
		t.Errorf("%s imports %s: plan is a pure function of its input", file, path)
	}
	dep, ours := strings.CutPrefix(path, "lifeboat/")
	if !ours {
		return
	}
	to, ok := levelOf(dep)
	if !ok {
		t.Errorf("%s imports %s, which has no row in the import table", file, dep)
		return
	}
	if to >= from {
		t.Errorf("%s (level %g) imports %s (level %g): an import goes strictly down, so that each value has one maker", file, from, dep, to)
	}
}

// TestPackageComments: each package has exactly one comment.
func TestPackageComments(t *testing.T) {
	for pkg, files := range goFiles(t) {
		n, sources := 0, 0
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") && pkg != "tests" {
				continue
			}
			sources++
			if f := parse(t, file, parser.ParseComments|parser.PackageClauseOnly); f.Doc != nil {
				n++
			}
		}
		if sources > 0 && n != 1 {
			t.Errorf("%s has %d package comments, not one: it says what the package owns", pkg, n)
		}
	}
}

// TestTerminal: only internal/cli, rescue/ui and init write to a terminal.
func TestTerminal(t *testing.T) {
	for pkg, files := range goFiles(t) {
		if pkg == "internal/cli" || pkg == "rescue/ui" || pkg == "init" || strings.HasPrefix(pkg, "init/") ||
			strings.HasPrefix(pkg, "cmd/") || strings.HasPrefix(pkg, "internal/mk") || strings.HasPrefix(pkg, "tests") {
			continue
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			ast.Inspect(parse(t, file, 0), func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				x, ok := s.X.(*ast.Ident)
				if ok && (x.Name == "os" && (s.Sel.Name == "Stdout" || s.Sel.Name == "Stderr" || s.Sel.Name == "Exit") ||
					x.Name == "fmt" && strings.HasPrefix(s.Sel.Name, "Print") || x.Name == "log" && strings.HasPrefix(s.Sel.Name, "Fatal")) {
					t.Errorf("%s uses %s.%s: hand an event or an error up, internal/cli prints it", file, x.Name, s.Sel.Name)
				}
				return true
			})
		}
	}
}

// TestPlanHasNoClock: plan reads times out of its input, never from a clock.
func TestPlanHasNoClock(t *testing.T) {
	for _, file := range goFiles(t)["plan"] {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		ast.Inspect(parse(t, file, 0), func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if ok {
				x, isName := s.X.(*ast.Ident)
				if isName && x.Name == "time" && (s.Sel.Name == "Now" || s.Sel.Name == "Since" || s.Sel.Name == "Until") {
					t.Errorf("%s asks the clock (time.%s): the same input must give the same plan", file, s.Sel.Name)
				}
			}
			return true
		})
	}
}

// TestSizes: a file beyond 500 lines has two reasons to change.
func TestSizes(t *testing.T) {
	for _, files := range goFiles(t) {
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(data), "\n"); n > 500 {
				t.Errorf("%s has %d lines; more than 500 is two files", file, n)
			}
		}
	}
}
