package adapt

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"lifeboat/internal/chroot"
	"lifeboat/internal/cpio"
	"lifeboat/internal/kmod"
	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// rebuildLimit is generous: the tool runs on machines of every age.
const rebuildLimit = 45 * time.Minute

// Initramfs looks into a kernel's initramfs and has it rebuilt by the
// restored system's own tool only when something is missing
// (plan.VerbInitramfs; Arg is the kernel version).
func (a *Adapter) Initramfs(ctx context.Context, s plan.Step) error {
	k := a.kernel(s.Arg)
	if k == nil || k.Initramfs == "" {
		return nil // such a kernel starts without one
	}
	missing, err := a.missing(*k)
	if err == nil && len(missing) == 0 && !a.stale {
		a.note("initramfs of %s holds everything this machine needs; left as it is", k.Version)
		return nil
	}
	switch {
	case err != nil:
		a.note("initramfs of %s cannot be read (%v); it is rebuilt", k.Version, err)
	case len(missing) > 0:
		a.note("initramfs of %s lacks %s; it is rebuilt", k.Version, strings.Join(missing, ", "))
	default:
		a.note("initramfs of %s holds old identities; it is rebuilt", k.Version)
	}
	if err != nil && a.Plan.Kind == plan.KindRepair {
		// What cannot be read is of no use, and a full /boot needs its room.
		if err := a.Root.FS.Remove(string(k.Initramfs)); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("remove the broken initramfs of %s: %w", k.Version, err)
		}
	}
	if err := a.rebuild(ctx, *k, missing); err != nil {
		return report.Errorf(report.CodeInitramfs, chroot.Hint(a.Plan, "run the same program to see why"), "rebuild the initramfs of %s: %w", k.Version, err)
	}
	missing, err = a.missing(*k)
	if err != nil {
		return report.Errorf(report.CodeInitramfs, "", "the rebuilt initramfs of %s cannot be read: %w", k.Version, err)
	}
	if len(missing) > 0 {
		return report.Errorf(report.CodeInitramfs, "the kernel of the restored system may lack this driver; install it and rebuild the initramfs",
			"the rebuilt initramfs of %s still lacks %s", k.Version, strings.Join(missing, ", "))
	}
	return nil
}

func (a *Adapter) note(format string, args ...any) {
	a.Sink.Emit(report.Event{Kind: report.Note, Text: fmt.Sprintf(format, args...)})
}

func (a *Adapter) kernel(version string) *manifest.Kernel {
	for i := range a.Manifest.System.Kernels {
		if a.Manifest.System.Kernels[i].Version == version {
			return &a.Manifest.System.Kernels[i]
		}
	}
	return nil
}

// content is what an initramfs holds, as far as starting depends on it.
type content struct {
	modules map[string]bool
	files   map[string]bool // base names of everything else
	resume  string          // text of initramfs-tools' resume setting
}

func (a *Adapter) read(k manifest.Kernel) (content, error) {
	c := content{modules: map[string]bool{}, files: map[string]bool{}}
	f, err := a.Root.FS.Open(string(k.Initramfs))
	if err != nil {
		return c, err
	}
	defer f.Close()
	entries, _, err := cpio.List(f)
	if err != nil {
		return c, err
	}
	for _, e := range entries {
		if name, ok := kmod.NameOfPath(e.Name); ok {
			c.modules[name] = true
		} else {
			c.files[path.Base(e.Name)] = true
		}
	}
	if !c.files["resume"] {
		return c, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return c, err
	}
	texts, err := cpio.ReadFiles(f, func(e cpio.Entry) bool { return e.Name == "conf/conf.d/resume" }, 64<<10)
	c.resume = string(texts["conf/conf.d/resume"])
	return c, err
}

// Missing lists what an initramfs lacks to find the root filesystem on this
// machine; nothing is changed.
func (a *Adapter) Missing(k manifest.Kernel) ([]string, error) { return a.missing(k) }

// missing lists what an initramfs lacks to find the root filesystem on this
// machine: drivers of the controllers above the target disks, filesystem and
// volume manager, and ids of a resume device that is gone.
func (a *Adapter) missing(k manifest.Kernel) ([]string, error) {
	have, err := a.read(k)
	if err != nil {
		return nil, err
	}
	dir, err := kmod.Folder(a.Root.Path, k.Version)
	if err != nil {
		return nil, err
	}
	set, err := kmod.Open(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	want := map[string]bool{}
	need := func(module string) {
		if set.Builtin(module) {
			return
		}
		c, err := set.Closure([]string{module}, nil, nil)
		if err != nil {
			out = append(out, "driver "+module+" (the kernel has none of that name)")
			return
		}
		for _, m := range c.Modules {
			want[m.Name] = true
		}
	}
	for _, m := range a.drivers() {
		need(m)
	}
	for _, fs := range a.rootTypes() {
		mods, _, err := set.Resolve("fs-" + fs)
		if err != nil {
			continue // built in kernels name no alias
		}
		for _, m := range mods {
			need(m)
		}
	}
	if a.rootOnLVM() {
		need("dm_mod")
		if !have.files["lvm"] && !have.files["vgchange"] {
			out = append(out, "program lvm")
		}
	}
	for m := range want {
		if !have.modules[m] {
			out = append(out, "driver "+m)
		}
	}
	if id := a.goneResume(have.resume); id != "" {
		out = append(out, "resume device (it names "+id+")")
	}
	sort.Strings(out)
	return out, nil
}

// drivers are the modules of every device from the bus down to the target
// disks, as the running kernel bound them.
func (a *Adapter) drivers() []string {
	sys := a.Sys
	if sys == "" {
		sys = "/sys"
	}
	seen := map[string]bool{}
	for _, as := range a.Plan.Assignments {
		for _, d := range a.Machine.Disks {
			if d.DevNo != as.Disk.DevNo {
				continue
			}
			for p := d.BusPath; p != "." && p != "/" && p != ""; p = path.Dir(p) {
				link, err := os.Readlink(filepath.Join(sys, "devices", p, "driver", "module"))
				if err == nil {
					seen[kmod.Name(path.Base(link))] = true
				}
			}
		}
	}
	var out []string
	for m := range seen {
		out = append(out, m)
	}
	sort.Strings(out)
	return out
}

// rootTypes are the filesystem types that must be mounted before the real
// root runs.
func (a *Adapter) rootTypes() []string {
	var out []string
	for _, m := range a.Plan.Target.Mounts {
		if m.Path == "/" || m.Path == "/usr" {
			if n := a.Plan.Target.Node(m.Node); n != nil && n.FS != nil {
				out = append(out, n.FS.Type)
			}
		}
	}
	return out
}

func (a *Adapter) rootOnLVM() bool {
	for _, m := range a.Plan.Target.Mounts {
		if m.Path != "/" && m.Path != "/usr" {
			continue
		}
		for _, n := range a.Plan.Target.Below(m.Node) {
			if n.Kind == manifest.KindLV {
				return true
			}
		}
	}
	return false
}

// goneResume returns the id of a resume device that this system has no more:
// the boot would wait for it.
func (a *Adapter) goneResume(text string) string {
	_, id, ok := strings.Cut(text, "RESUME=UUID=")
	if !ok {
		return ""
	}
	id = strings.Trim(strings.TrimSpace(strings.SplitN(id, "\n", 2)[0]), `"'`)
	for i := range a.Plan.Target.Nodes {
		if n := &a.Plan.Target.Nodes[i]; n.Swap != nil && strings.EqualFold(n.Swap.UUID, id) {
			return ""
		}
	}
	return id
}

// rebuild runs the tool that the host has, told by name which drivers were
// missing: a tool in a chroot cannot see which machine it will start.
func (a *Adapter) rebuild(ctx context.Context, k manifest.Kernel, missing []string) error {
	var drivers []string
	for _, m := range missing {
		if d, ok := strings.CutPrefix(m, "driver "); ok && !strings.Contains(d, " ") {
			drivers = append(drivers, d)
		}
	}
	switch a.Manifest.System.Initramfs {
	case manifest.InitramfsTools:
		if err := a.addModules("/etc/initramfs-tools/modules", drivers); err != nil {
			return err
		}
		mode := "-u"
		if !a.Root.FS.Exists(string(k.Initramfs)) {
			mode = "-c"
		}
		_, err := a.Root.Run(ctx, run.Cmd{Path: "update-initramfs", Args: []string{mode, "-k", k.Version}, Limit: rebuildLimit})
		return err
	case manifest.Dracut:
		args := []string{"--force", "--kver", k.Version}
		if len(drivers) > 0 {
			args = append(args, "--add-drivers", strings.Join(drivers, " "))
		}
		_, err := a.Root.Run(ctx, run.Cmd{Path: "dracut", Args: append(args, string(k.Initramfs)), Limit: rebuildLimit})
		return err
	case manifest.Mkinitcpio:
		_, err := a.Root.Run(ctx, run.Cmd{Path: "mkinitcpio", Args: []string{"-k", k.Version, "-g", string(k.Initramfs), "-S", "autodetect"}, Limit: rebuildLimit})
		return err
	case manifest.Booster:
		_, err := a.Root.Run(ctx, run.Cmd{Path: "booster", Args: []string{"build", "--force", "--universal", "--kernel-version", k.Version, string(k.Initramfs)}, Limit: rebuildLimit})
		return err
	}
	return fmt.Errorf("the restored system has no tool that makes one (%q)", a.Manifest.System.Initramfs)
}

// addModules appends names to a list of modules, each once.
func (a *Adapter) addModules(file string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	old, err := a.Root.FS.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	have := map[string]bool{}
	for _, l := range strings.Split(string(old), "\n") {
		if f := strings.Fields(l); len(f) > 0 {
			have[kmod.Name(f[0])] = true
		}
	}
	text := strings.TrimRight(string(old), "\n")
	if text != "" {
		text += "\n"
	}
	text += "# needed by the machine that this system was recovered on\n"
	added := 0
	for _, n := range names {
		if !have[kmod.Name(n)] {
			text += n + "\n"
			added++
		}
	}
	if added == 0 {
		return nil
	}
	return a.Root.FS.WriteFile(file, []byte(text), 0o644)
}
