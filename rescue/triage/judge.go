package triage

import (
	"fmt"
	"slices"
	"strings"

	"lifeboat/manifest"
)

// boot judges the boot path. Without a readable root there is nothing that it
// could start.
func (j *judge) boot() {
	b := &j.f.Boot
	if !j.f.Root.Looked {
		for _, s := range b.Sectors {
			if s.State != Same {
				j.say(Note, "boot code of %s: %s", s.Name, orText(s.Detail, string(s.State)))
			}
		}
		return
	}
	if w := j.f.Firmware; w.Host != "" && w.Machine != "" && w.Host != w.Machine {
		j.v.Blocked = fmt.Sprintf("%s starts by %s, and this machine was started by %s: start the medium again by its other entry in the firmware's menu",
			j.f.Host, strings.ToUpper(w.Host), strings.ToUpper(w.Machine))
		j.say(Note, "%s", j.v.Blocked)
	}
	j.sectors()
	j.esps()
	j.modules()
	j.kernels()
	if b.Config != "" {
		j.mend("GRUB's configuration %s: %s", b.ConfigPath, b.Config)
		j.v.Repair.Config = true
	}
	j.fstab()
	j.nvram()
	for _, p := range b.Full {
		j.say(Bad, "%s is full: %s free of %s", p.Mount, bytesText(p.Free), bytesText(p.Bytes))
	}
	j.room()
	j.tools()
}

func (j *judge) sectors() {
	for _, s := range j.f.Boot.Sectors {
		switch s.State {
		case Same:
			j.say(Good, "boot code of %s is there", s.Name)
			if len(j.v.Repair.Tables) > 0 { // a table that is written anew brings none
				j.v.Repair.Sectors = append(j.v.Repair.Sectors, s.Disk)
			}
		case Unseen:
			j.say(Note, "boot code of %s could not be read: %s", s.Name, s.Detail)
		default:
			j.mend("boot code of %s: %s", s.Name, orText(s.Detail, "it is gone"))
			j.v.Repair.Sectors = append(j.v.Repair.Sectors, s.Disk)
		}
	}
}

// esps: what an ESP lacks is installed again; one whose filesystem is made
// anew needs it all.
func (j *judge) esps() {
	for _, e := range j.f.Boot.ESPs {
		switch {
		case slices.Contains(j.v.Repair.MakeESPs, e.ID):
			j.v.Repair.ESPs = append(j.v.Repair.ESPs, e.ID)
		case e.State == Same:
			j.say(Good, "boot programs on %s are there (%s)", e.Name, e.Loader)
		case e.State == Unseen:
			j.say(Note, "%s could not be looked into: %s", e.Name, e.Detail)
		default:
			j.mend("%s: %s", e.Name, orText(e.Detail, "its boot programs are gone"))
			j.v.Repair.ESPs = append(j.v.Repair.ESPs, e.ID)
		}
	}
}

// modules: grub-install brings them back with all that it installs.
func (j *judge) modules() {
	b, r := &j.f.Boot, &j.v.Repair
	if b.Modules == "" {
		return
	}
	j.mend("GRUB's modules: %s", b.Modules)
	r.Modules = true
	if len(r.Sectors)+len(r.ESPs) > 0 {
		return
	}
	for _, s := range b.Sectors {
		if s.State == Same {
			r.Sectors = append(r.Sectors, s.Disk)
		}
	}
	for _, e := range b.ESPs {
		if e.State == Same {
			r.ESPs = append(r.ESPs, e.ID)
		}
	}
}

// kernels: an initramfs is built again; a kernel itself comes only from its
// package or the backup.
func (j *judge) kernels() {
	whole, defaultBad := 0, ""
	for _, k := range j.f.Boot.Kernels {
		switch {
		case k.ImageBad != "":
			j.say(Bad, "kernel %s: %s", k.Image, k.ImageBad)
			if k.Default {
				defaultBad = string(k.Image)
			}
			continue
		case k.InitBad != "":
			j.mend("initramfs %s: %s", k.Initramfs, k.InitBad)
			j.v.Repair.Initramfs = append(j.v.Repair.Initramfs, k.Version)
		default:
			j.say(Good, "kernel %s and its initramfs are whole", k.Version)
		}
		whole++
	}
	switch {
	case len(j.f.Boot.Kernels) == 0:
		j.stop("no kernel is installed")
	case whole == 0:
		j.stop("no kernel of the installed system is whole")
	case defaultBad != "":
		j.stop("the kernel that the boot menu starts, %s, is not whole", defaultBad)
	}
}

func (j *judge) fstab() {
	b := &j.f.Boot
	if b.FstabGone {
		j.mend("/etc/fstab is gone or empty")
		j.v.Repair.Fstab = true
		return
	}
	for _, s := range b.Fstab {
		switch {
		case s.Should != "":
			if s.Soft {
				j.say(Note, "/etc/fstab names %s for %s, which is not on this machine; it is %s", s.Spec, s.Path, s.Should)
			} else {
				j.mend("/etc/fstab names %s for %s, which is not on this machine; it is %s", s.Spec, s.Path, s.Should)
			}
			j.v.Repair.Fstab = true
		case s.Soft:
			j.say(Note, "/etc/fstab names %s for %s, which is not on this machine; the boot goes on without it", s.Spec, s.Path)
		default:
			j.stop("/etc/fstab names %s for %s, which is not on this machine, and nothing tells what it must be", s.Spec, s.Path)
		}
	}
}

func (j *judge) nvram() {
	b := &j.f.Boot
	var esps []manifest.ID
	for _, e := range b.ESPs {
		esps = append(esps, e.ID)
	}
	switch {
	case j.f.Firmware.Host != manifest.FirmwareUEFI || len(esps) == 0:
		return
	case !b.NVRAM.Looked:
		j.say(Note, "the firmware's boot entries could not be read")
		if len(j.v.Repair.ESPs) > 0 {
			j.v.Repair.NVRAM = esps
		}
	case b.NVRAM.Gone:
		j.mend("the firmware has no boot entry for this system")
		j.v.Repair.NVRAM = esps
	default:
		j.say(Good, "the firmware has a boot entry for this system (%s)", b.NVRAM.Entry)
		// A filesystem that is made again keeps its partition: the entry stays.
	}
}

// tools: a repair works with the installed system's own programs.
func (j *judge) tools() {
	r := &j.v.Repair
	needed := map[string]bool{ToolGRUB: len(r.Sectors)+len(r.ESPs) > 0, ToolInitramfs: len(r.Initramfs) > 0, ToolConfig: r.Config}
	for _, t := range j.f.Boot.NoTools {
		if needed[t.For] {
			j.stop("the installed system lacks %s, which a repair needs", t.Name)
		}
	}
}

// initRoom is what a new initramfs takes when nothing tells.
const initRoom = 64 << 20

// room tells whether what is to be built has a place.
func (j *judge) room() {
	if len(j.v.Repair.Initramfs) == 0 {
		return
	}
	at := j.bootFS()
	if at == nil {
		return
	}
	need, back := int64(0), int64(0)
	for _, k := range j.f.Boot.Kernels {
		need = max(need, k.InitBytes)
		if slices.Contains(j.v.Repair.Initramfs, k.Version) {
			back += k.InitBytes // the broken one goes first
		}
	}
	if need == 0 {
		need = initRoom
	}
	need += need/4 + 1<<20
	if at.Free+back < need {
		j.v.Blocked = fmt.Sprintf("%s has %s free; a new initramfs takes about %s: remove old kernels there first",
			strings.Join(at.Mounts, ", "), bytesText(at.Free), bytesText(need))
		j.say(Bad, "%s", j.v.Blocked)
	}
}

// bootFS is the filesystem that /boot lies on.
func (j *judge) bootFS() *Filesystem {
	for i := range j.f.Filesystems {
		if slices.Contains(j.f.Filesystems[i].Mounts, "/boot") {
			return &j.f.Filesystems[i]
		}
	}
	return j.rootFS()
}

// conclude writes the one line, the advice and the time.
func (j *judge) conclude() {
	v := j.v
	backup := int(j.f.BackupBytes/restoreRate/60) + 3
	files := fmt.Sprintf("%s%d files newer than %s", atLeast(v.AtLeast), v.Newer, j.what())
	switch v.Kind {
	case Healthy:
		v.Line = "healthy: nothing is wrong that was looked at"
		v.Next = "start it from its own disk; nothing is to be recovered"
	case Intact:
		v.Minutes = 2 + 2*len(v.Repair.Initramfs)
		v.Line = fmt.Sprintf("intact, %s: repair, about %d min", j.broke(), v.Minutes)
		v.Next = "choose the repair from the menu (in a shell: lifeboat repair); it touches no data"
		if v.Blocked != "" {
			v.Next = v.Blocked + "; then lifeboat repair"
		}
	case Readable:
		v.Minutes = backup
		if v.Newer > 0 {
			v.Line = fmt.Sprintf("readable, %s: save them first, then recover, about %d min", files, backup)
			v.Next = "mount what is readable with `mount -o ro` in a shell and copy what is needed to another machine; a recovery erases it"
		} else {
			v.Line = fmt.Sprintf("readable, and no file newer than %s was found: recover, about %d min", j.what(), backup)
			v.Next = "lifeboat recover; look through the evidence before"
		}
	case Gone:
		v.Minutes = backup
		v.Line = fmt.Sprintf("gone: recover, about %d min", backup)
		v.Next = "lifeboat recover"
	default:
		v.Line = "unclear: what lies on the disks cannot be told"
		v.Next = "look at the evidence and at the disks in a shell; a recovery erases what is there"
	}
}

// what the age of files is compared with.
func (j *judge) what() string {
	if j.f.FromBackup {
		return "the backup"
	}
	return "the medium"
}

// broke names in a few words what keeps the system from starting.
func (j *judge) broke() string {
	r := &j.v.Repair
	var parts []string
	add := func(is bool, s string) {
		if is {
			parts = append(parts, s)
		}
	}
	add(len(r.Tables) > 0, "partition table damaged")
	add(len(r.Sectors)+len(r.ESPs)+len(r.MakeESPs) > 0, "boot loader gone")
	add(len(r.Initramfs) > 0, "initramfs broken")
	add(r.Config, "boot menu broken")
	add(r.Fstab || len(r.Renamed) > 0, "ids in fstab wrong")
	add(len(r.NVRAM) > 0 && len(r.ESPs)+len(r.MakeESPs) == 0, "firmware entry gone")
	return strings.Join(parts, ", ")
}

// restoreRate is what a recovery is taken to restore in a second, bytes; real
// ones differ by network and disk, and the verdict says "about".
const restoreRate = 40 << 20

func bytesText(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

// Lines are the evidence and the verdict for people. What is bad stands next
// to the verdict, which comes last: a small screen shows the last lines only.
func (v Verdict) Lines() []string {
	out := []string{"What was found of the installed system:"}
	for _, w := range []Weight{Good, Note, Bad} {
		for _, e := range v.Evidence {
			if e.Weight == w {
				out = append(out, fmt.Sprintf("  %-4s %s", e.Weight, e.Text))
			}
		}
	}
	return append(out, "The installed system: "+v.Line, "  next: "+v.Next)
}
