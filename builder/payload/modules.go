package payload

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"lifeboat/internal/kmod"
	"lifeboat/internal/run"
	"lifeboat/report"
)

// ModuleWish says which modules an image gets.
type ModuleWish struct {
	Choice   string   // Modules* constants; "" means universal
	Required []string // by the plan: missing is an error
	Wanted   []string // by the user: missing is a warning
	Loaded   []string // modules loaded on the host now
	Modalias []string // of the machine's devices
	FS       []string // types of file systems that the host mounts
}

// Modules are the modules of an image.
type Modules struct {
	Release  string
	Closure  kmod.Closure
	Bytes    int64 // unpacked
	Firmware Firmware
	Problems []report.Problem
}

// LoadedModules are the modules that the running kernel has loaded.
func LoadedModules(h *Host) ([]string, error) {
	b, err := os.ReadFile(h.Path("/proc/modules"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a kernel without modules
	}
	if err != nil {
		return nil, fmt.Errorf("list the loaded modules: %w", err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 0 {
			out = append(out, f[0])
		}
	}
	slices.Sort(out)
	return out, nil
}

// AddModules chooses the modules of a kernel, with all that they need, and
// puts them with their firmware and indexes into the tree. Modules are packed
// without their own compression: the image's packs better, and they load
// faster. The runner, which may be nil, starts xz where modules are .ko.xz.
func AddModules(ctx context.Context, r run.Runner, t *Tree, h *Host, k *Kernel, w ModuleWish) (*Modules, error) {
	set, err := kmod.Open(k.Modules)
	if err != nil {
		return nil, report.Errorf(report.CodeFailed, "", "kernel %s: %w", k.Release, err)
	}
	conf, err := kmod.ReadConf(h.Root)
	if err != nil {
		return nil, err
	}
	optional, err := w.choose(set)
	if err != nil {
		return nil, err
	}
	c, err := set.Closure(w.Required, optional, conf)
	if err != nil {
		return nil, report.Errorf(report.CodeModuleMissing, "install the full module package of kernel "+k.Release, "kernel %s: %w", k.Release, err)
	}
	m := &Modules{Release: k.Release, Closure: c}
	for _, n := range w.Wanted {
		if !c.Has(n) {
			if mods, built, _ := set.Resolve(n); len(mods)+len(built) == 0 {
				m.Problems = append(m.Problems, report.Problem{Code: report.CodeModuleMissing, Severity: report.Warning, Object: n,
					Text: fmt.Sprintf("module %s, asked for in the configuration, is not part of kernel %s", n, k.Release)})
			}
		}
	}
	infos, err := m.put(ctx, r, t, set, k)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, n := range w.Loaded {
		used[kmod.Name(n)] = true
	}
	m.Firmware, err = addFirmware(t, h, k, infos, used)
	m.Problems = append(m.Problems, m.Firmware.problems()...)
	return m, err
}

// choose lists what is wanted without being indispensable, sorted so that the
// result does not depend on the order of devices.
func (w ModuleWish) choose(set *kmod.Set) ([]string, error) {
	want := map[string]bool{}
	fit := func(names []string) {
		for _, n := range names {
			if m, ok := set.Lookup(n); ok && lowerFolder(m.Path, neverFolders) {
				continue
			}
			want[kmod.Name(n)] = true
		}
	}
	fit(w.Loaded)
	for _, a := range w.Modalias {
		mods, _ := set.Match(a)
		fit(mods)
	}
	for _, n := range slices.Concat(baseModules, w.FS) {
		// A base module that this kernel lacks is no loss to speak of.
		if mods, _, err := set.Resolve(n); err == nil {
			fit(mods)
		}
	}
	switch w.Choice {
	case ModulesHost:
	case ModulesUniversal, "":
		for _, n := range universalModules {
			if _, ok := set.Lookup(n); ok {
				want[kmod.Name(n)] = true
			}
		}
		for _, m := range set.Modules() {
			if lowerFolder(m.Path, universalFolders) && !lowerFolder(m.Path, neverFolders) && !lowerFolder(m.Path, servingFolders) {
				want[m.Name] = true
			}
		}
	case ModulesAll:
		for _, m := range set.Modules() {
			want[m.Name] = true
		}
	default:
		return nil, report.Errorf(report.CodeConfig, "use host, universal or all", "modules: %q is not known", w.Choice)
	}
	for _, n := range w.Wanted {
		want[n] = true
	}
	var out []string
	for n := range want {
		out = append(out, n)
	}
	slices.Sort(out)
	return out, nil
}

// moduleInfo is what a packed module says of itself.
type moduleInfo struct {
	kmod.Module
	info kmod.Info
}

// put adds the module files and the indexes rewritten for them.
func (m *Modules) put(ctx context.Context, r run.Runner, t *Tree, set *kmod.Set, k *Kernel) ([]moduleInfo, error) {
	base := path.Join("usr/lib/modules", k.Release)
	var xzs []string
	for _, mod := range m.Closure.Modules {
		if strings.HasSuffix(mod.Path, ".xz") {
			xzs = append(xzs, filepath.Join(set.Dir, mod.Path))
		}
	}
	unpacked := unpackXz(ctx, r, xzs)
	infos := make([]moduleInfo, len(m.Closure.Modules))
	var g errgroup.Group
	var mu sync.Mutex
	g.SetLimit(runtime.NumCPU())
	for i, mod := range m.Closure.Modules {
		g.Go(func() error {
			src := filepath.Join(set.Dir, mod.Path)
			e := Entry{Path: path.Join(base, plainName(mod.Path)), Mode: 0o644, Source: src, Why: "module " + mod.Name, Part: PartModules}
			info, size, err := readModule(src, &e, unpacked[src])
			if err != nil {
				return err
			}
			if r := info.Release(); r != "" && r != k.Release {
				return report.Errorf(report.CodeFailed, "reinstall the modules of kernel "+k.Release, "module %s is made for kernel %s, not %s", src, r, k.Release)
			}
			infos[i] = moduleInfo{mod, info}
			mu.Lock()
			defer mu.Unlock()
			m.Bytes += size
			return t.Put(e)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for name, data := range set.Index(m.Closure.Modules, plainName) {
		if err := t.Put(Entry{Path: path.Join(base, name), Mode: 0o644, Data: data, Why: "modules", Part: PartModules}); err != nil {
			return nil, err
		}
	}
	return infos, nil
}

// readModule reads the module information. A compressed module is unpacked
// once and kept, unless that was done already; a plain one is read when it is
// packed.
func readModule(src string, e *Entry, b []byte) (kmod.Info, int64, error) {
	if plainName(src) == src {
		st, err := os.Stat(src)
		if err != nil {
			return kmod.Info{}, 0, err
		}
		info, err := kmod.ReadInfo(src)
		return info, st.Size(), err
	}
	if b == nil {
		var err error
		if b, err = kmod.ReadModule(src); err != nil {
			return kmod.Info{}, 0, err
		}
	}
	e.Source, e.Data = "", b
	info, err := kmod.ParseInfo(b)
	if err != nil {
		err = fmt.Errorf("module %s: %w", src, err)
	}
	return info, int64(len(b)), err
}

// plainName is a module's path without the ending of its compression.
func plainName(p string) string {
	for _, ext := range []string{".gz", ".xz", ".zst"} {
		if b, ok := strings.CutSuffix(p, ".ko"+ext); ok {
			return b + ".ko"
		}
	}
	return p
}
