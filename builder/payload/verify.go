package payload

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// Check is the result of Verify.
type Check struct {
	Resolved int             // ELF files whose libraries their own loader found
	Static   int             // ELF files that need none
	Tools    []manifest.Tool // programs that were run
	Problems []report.Problem
}

// toolLimit is how long a program may take to tell its version.
const toolLimit = 5 * time.Second

// Verify proves the finished tree: every ELF file is resolved by its own
// loader inside the tree, started there in a confined place; programs of the
// built-in table, and those for which the plan names a harmless argument, are
// also run. What fails and is needed is an error, anything else a problem.
// Scratch is an existing folder for an empty mount point. Needs root.
func (p *Packer) Verify(ctx context.Context, r run.Runner, needs []plan.ToolNeed, scratch string) (*Check, error) {
	dir, err := os.MkdirTemp(scratch, "lifeboat-check-")
	if err != nil {
		return nil, fmt.Errorf("test the image: %w", err)
	}
	defer os.Remove(dir)
	v := &verifier{p: p, ctx: ctx, needed: map[string]plan.ToolNeed{}, covered: map[string]bool{}, check: &Check{}}
	for _, n := range needs {
		v.needed[n.Name] = n
	}
	if err := v.collect(); err != nil {
		return nil, err
	}
	if v.cell, err = openCell(r, dir, p.Tree.hostEntries()); err != nil {
		return nil, err
	}
	defer v.cell.close()
	// Programs first: a library that a program's loader has found and loaded,
	// with all it needs, is proven with it.
	v.each(v.programs, v.resolve)
	v.each(v.libraries, func(f elfFile) {
		if v.isCovered(f.entry.Path) {
			return
		}
		v.resolve(f)
	})
	v.each(v.runs, v.probe)
	return v.check, v.result()
}

func (t *Tree) hostEntries() []*Entry {
	return slices.DeleteFunc(t.Entries(), func(e *Entry) bool { return e.Part != PartHost })
}

// elfFile is one file to be resolved, or one program to be run.
type elfFile struct {
	entry  *Entry
	interp string   // loader that does it, as a path in the image
	argv   []string // of a run
	name   string   // of a run: the tool
}

type verifier struct {
	p                         *Packer
	ctx                       context.Context
	cell                      *cell
	needed                    map[string]plan.ToolNeed
	programs, libraries, runs []elfFile

	mu      sync.Mutex
	covered map[string]bool // libraries that a program was seen to load
	check   *Check
	errs    []error
}

// collect sorts what the tree holds into programs, libraries and runs.
func (v *verifier) collect() error {
	loaders := map[elf.Machine]string{}
	var libs []elfFile
	machine := map[*Entry]elf.Machine{}
	for _, e := range v.p.Tree.Entries() {
		if e.Part != PartHost || !e.Mode.IsRegular() || e.Source == "" {
			continue
		}
		o, err := readELF(e.Source)
		if errors.Is(err, errNotELF) {
			continue
		}
		if err != nil {
			return fmt.Errorf("test the image: %w", err)
		}
		switch {
		case o.Interp != "" && o.Soname == "":
			loaders[o.Machine] = o.Interp
			v.programs = append(v.programs, elfFile{entry: e, interp: o.Interp})
		case o.dynamic():
			machine[e] = o.Machine
			libs = append(libs, elfFile{entry: e})
		default:
			v.check.Static++
		}
	}
	for _, l := range libs {
		l.interp = loaders[machine[l.entry]]
		// The loader itself needs nothing; without any program of its kind
		// nothing could load the library.
		if l.interp != "" && v.p.Tree.Resolve(l.interp) != l.entry {
			v.libraries = append(v.libraries, l)
		}
	}
	v.collectRuns()
	return nil
}

// collectRuns finds the tools with a known harmless argument.
func (v *verifier) collectRuns() {
	args := map[string]string{}
	for n, a := range probes {
		args[n] = a
	}
	for n, need := range v.needed {
		if need.Probe != "" {
			args[n] = need.Probe
		}
	}
	var names []string
	for n := range args {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		for _, d := range binDirs {
			at := path.Join(d, n)
			if e := v.p.Tree.Resolve(at); e != nil && e.Source != "" {
				v.runs = append(v.runs, elfFile{entry: e, name: n, argv: append([]string{at}, strings.Fields(args[n])...)})
				break
			}
		}
	}
}

// each hands files to the threads of the cell and waits.
func (v *verifier) each(files []elfFile, do func(elfFile)) {
	var wg sync.WaitGroup
	for _, f := range files {
		wg.Add(1)
		v.cell.jobs <- func() { defer wg.Done(); do(f) }
	}
	wg.Wait()
}

func (v *verifier) isCovered(p string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.covered[p]
}

// resolve lets the loader list what a file needs, as ldd does, but inside the
// tree and without any cache.
func (v *verifier) resolve(f elfFile) {
	argv := []string{f.interp, "--inhibit-cache", "--list", "/" + f.entry.Path}
	if strings.Contains(f.interp, "ld-musl") {
		argv = []string{f.interp, "--list", "/" + f.entry.Path}
	}
	res, err := v.cell.run(v.ctx, toolLimit, nil, argv...)
	found, missing := parseList(string(res.Stdout) + "\n" + string(res.Stderr))
	v.mu.Lock()
	defer v.mu.Unlock()
	if err == nil && len(missing) == 0 {
		v.check.Resolved++
		v.covered[f.entry.Path] = true
		for _, l := range found {
			if e := v.p.Tree.Resolve(l); e != nil && !v.covered[e.Path] {
				v.covered[e.Path] = true
				v.check.Resolved++
			}
		}
		return
	}
	for _, m := range missing {
		v.errs = append(v.errs, v.missing(f, m))
	}
	if len(missing) == 0 {
		v.errs = append(v.errs, report.Errorf(report.CodeToolMissing, "tell the makers: the image would hold a program that cannot start",
			"/%s (%s) cannot be loaded in the image: %w", f.entry.Path, f.entry.Why, err))
	}
}

// missing says which library of which tool is not in the image, and where it
// lies on the host.
func (v *verifier) missing(f elfFile, lib string) error {
	where := "this host does not have it either"
	if o, err := readELF(f.entry.Source); err == nil {
		if l, err := v.p.Loader.Find(lib, o); err == nil {
			where = "on this host it is " + l.Path
		}
	}
	return report.Errorf(report.CodeToolMissing, "name the missing file in copy:, or leave the program out",
		"/%s (%s): its loader does not find %s in the image; %s", f.entry.Path, f.entry.Why, lib, where)
}

// parseList reads the output of ld.so --list.
func parseList(out string) (found, missing []string) {
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		name, rest, arrow := strings.Cut(line, " => ")
		switch {
		case arrow && strings.HasPrefix(rest, "not found"):
			missing = append(missing, name)
		case strings.Contains(line, "error while loading shared libraries: "):
			_, lib, _ := strings.Cut(line, "error while loading shared libraries: ")
			lib, _, _ = strings.Cut(lib, ":")
			missing = append(missing, lib)
		case strings.Contains(line, "not found"):
			// version `GLIBC_2.38' not found (required by …)
			missing = append(missing, line)
		case arrow:
			p, _, _ := strings.Cut(rest, " (")
			found = append(found, p)
		case strings.HasPrefix(line, "/"):
			p, _, _ := strings.Cut(line, " (")
			found = append(found, p)
		}
	}
	slices.Sort(missing)
	return found, slices.Compact(missing)
}

// probe runs a tool with its harmless argument.
func (v *verifier) probe(f elfFile) {
	ok := probeCodes[f.name]
	if ok == nil {
		ok = []int{0}
	}
	res, err := v.cell.run(v.ctx, toolLimit, ok, f.argv...)
	tool := manifest.Tool{Name: f.name, Path: f.argv[0], Works: err == nil, Version: firstLine(res)}
	v.mu.Lock()
	defer v.mu.Unlock()
	need, needed := v.needed[f.name]
	switch {
	case err != nil && needed:
		v.errs = append(v.errs, report.Errorf(report.CodeToolMissing, "repair it on this host and build again",
			"%s, which the step %s needs, does not run in the image: %w", f.name, need.Step, err))
	case err != nil:
		tool.Problem = err.Error()
		v.check.Problems = append(v.check.Problems, report.Problem{Code: report.CodeToolMissing, Severity: report.Warning, Object: f.name,
			Text: fmt.Sprintf("%s is in the image and does not run there: %v", f.name, err), Next: "no step of the recovery needs it"})
	}
	v.check.Tools = append(v.check.Tools, tool)
}

// firstLine is the first line of an answer that says anything.
func firstLine(r run.Result) string {
	for line := range strings.Lines(string(r.Stdout) + "\n" + string(r.Stderr)) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return ""
}

// result sorts what the threads found, so that equal trees tell the same.
func (v *verifier) result() error {
	slices.SortFunc(v.check.Tools, func(a, b manifest.Tool) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(v.check.Problems, func(a, b report.Problem) int { return strings.Compare(a.Text, b.Text) })
	slices.SortFunc(v.errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if v.ctx.Err() != nil {
		return v.ctx.Err()
	}
	return errors.Join(v.errs...)
}
