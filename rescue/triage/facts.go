// Package triage looks at the system that is installed on a machine, without
// a write, compares it with the manifest and judges: is it healthy, does only
// its boot path need a repair, is there something to save, or is it gone.
// Level 4: its own job.
package triage

import "lifeboat/manifest"

// FormatFacts names this version of the facts.
const FormatFacts = "lifeboat.triage/1"

// Facts are what was found of the captured system. They can be saved, sent
// and judged again: Decide needs nothing else.
type Facts struct {
	Format      string       `json:"format"`
	Host        string       `json:"host"`
	Made        string       `json:"made"` // RFC 3339: what is newer than this is in no backup
	FromBackup  bool         `json:"from_backup"`
	BackupBytes int64        `json:"backup_bytes,omitempty"` // of files that a recovery would restore, as far as known
	Firmware    Firmware     `json:"firmware"`
	Layers      []Layer      `json:"layers"`      // captured disks, tables, partitions, groups and volumes
	Filesystems []Filesystem `json:"filesystems"` // captured filesystems and swaps
	Root        Root         `json:"root"`
	Boot        Boot         `json:"boot"`
	Unseen      []string     `json:"unseen,omitempty"` // what could not be looked into, a line each
}

// Disks are, by captured disk, the device numbers of those that hold what was
// captured.
func (f *Facts) Disks() map[manifest.ID]string {
	out := map[manifest.ID]string{}
	for _, l := range f.Layers {
		if l.Kind == manifest.KindDisk && l.DevNo != "" {
			out[l.ID] = l.DevNo
		}
	}
	return out
}

// Kernels are the installed ones as the manifest has them.
func (f *Facts) Kernels() []manifest.Kernel {
	var out []manifest.Kernel
	for i := range f.Boot.Kernels {
		out = append(out, f.Boot.Kernels[i].captured())
	}
	return out
}

// Firmware compares how the host starts with how this machine was started.
type Firmware struct {
	Host    string `json:"host"`
	Machine string `json:"machine"`
}

// State of something captured, as it is now.
type State string

const (
	Same    State = "same"    // as captured
	Changed State = "changed" // there, and otherwise than captured
	Damaged State = "damaged" // there in part
	Missing State = "missing"
	Unseen  State = "unseen" // it could not be told
)

// Layer is a captured node that is no filesystem.
type Layer struct {
	ID     manifest.ID   `json:"id"`
	Kind   manifest.Kind `json:"kind"`
	Name   string        `json:"name"` // for people
	State  State         `json:"state"`
	Detail string        `json:"detail,omitempty"`
	// DevNo is, of a disk, the device number of the one that holds what was
	// captured: itself, or one that took its place.
	DevNo string `json:"dev_no,omitempty"`
}

// Filesystem is a captured filesystem or swap area.
type Filesystem struct {
	ID     manifest.ID   `json:"id"`
	Kind   manifest.Kind `json:"kind"` // fs or swap
	Type   string        `json:"type"`
	Mounts []string      `json:"mounts,omitempty"`
	ESP    bool          `json:"esp,omitempty"`
	Data   bool          `json:"data,omitempty"`   // its files are in the backup
	Device string        `json:"device,omitempty"` // kernel name now
	State  State         `json:"state"`
	Detail string        `json:"detail,omitempty"`
	// WasUUID and IsUUID differ when it lies in its place under another id.
	WasUUID string `json:"was_uuid,omitempty"`
	IsUUID  string `json:"is_uuid,omitempty"`
	Free    int64  `json:"free,omitempty"`  // bytes, of readable ones
	Bytes   int64  `json:"bytes,omitempty"` // size
	// Newer counts files that changed after Facts.Made; AtLeast when the count
	// was ended early.
	Newer    int64    `json:"newer,omitempty"`
	AtLeast  bool     `json:"at_least,omitempty"`
	NewerIn  []string `json:"newer_in,omitempty"`  // folders with the most of them
	Unlisted int64    `json:"unlisted,omitempty"`  // folders that could not be read
	Vacant   bool     `json:"vacant,omitempty"`    // its device is there and holds nothing that is recognised
	Readable bool     `json:"readable,omitempty"`  // it was mounted read-only and its root listed
	Twins    []string `json:"twins,omitempty"`     // other devices with the same id
	Torn     bool     `json:"torn,omitempty"`      // not unmounted: the journal holds writes
	ReadOnly bool     `json:"read_only,omitempty"` // its device cannot be written
}

// Root is the root filesystem as a system.
type Root struct {
	Looked    bool   `json:"looked"`               // a readable filesystem is there to look at
	System    string `json:"system,omitempty"`     // PRETTY_NAME of os-release
	MachineID string `json:"machine_id,omitempty"` // of the disk
	HostName  string `json:"host_name,omitempty"`  // of the disk
	OtherHost bool   `json:"other_host,omitempty"` // neither machine-id nor host name is the captured one
	NoInit    bool   `json:"no_init,omitempty"`    // /sbin/init leads nowhere
	// Unfinished: a recovery was cut off here.
	Unfinished bool `json:"unfinished,omitempty"`
}

// Boot are the parts that start the system.
type Boot struct {
	Loader  string   `json:"loader"` // as captured: grub, systemd-boot, none
	Sectors []Sector `json:"sectors,omitempty"`
	ESPs    []ESP    `json:"esps,omitempty"`
	Kernels []Kernel `json:"kernels,omitempty"`
	// Modules is what is wrong with GRUB's modules below /boot, "" for nothing.
	Modules string `json:"modules,omitempty"`
	// Config is what is wrong with GRUB's configuration, "" for nothing.
	Config     string  `json:"config,omitempty"`
	ConfigPath string  `json:"config_path,omitempty"`
	Fstab      []Spec  `json:"fstab,omitempty"` // lines that lead nowhere
	FstabGone  bool    `json:"fstab_gone,omitempty"`
	NVRAM      NVRAM   `json:"nvram"`
	Full       []Place `json:"full,omitempty"` // filesystems without room that starting depends on
	// Tools of the installed system that a repair needs and that are not there.
	NoTools []Tool `json:"no_tools,omitempty"`
}

// What a program of the installed system is needed for.
const (
	ToolGRUB      = "grub"
	ToolConfig    = "config"
	ToolInitramfs = "initramfs"
)

// Tool is a program or file of the installed system.
type Tool struct {
	Name string `json:"name"`
	For  string `json:"for"` // Tool* constants
}

// Sector is the boot code of one disk (BIOS).
type Sector struct {
	Disk   manifest.ID `json:"disk"`
	Name   string      `json:"name"` // for people
	State  State       `json:"state"`
	Detail string      `json:"detail,omitempty"`
}

// ESP is what one EFI system partition holds.
type ESP struct {
	ID      manifest.ID `json:"id"`
	Name    string      `json:"name"`
	State   State       `json:"state"`
	Detail  string      `json:"detail,omitempty"`
	Default bool        `json:"default,omitempty"` // EFI/BOOT/BOOTX64.EFI or its like is whole
	Loader  string      `json:"loader,omitempty"`  // path of the host's own boot program, when whole
}

// Kernel is an installed kernel with its initramfs.
type Kernel struct {
	Version   string         `json:"version"`
	Image     manifest.Bytes `json:"image"`
	Initramfs manifest.Bytes `json:"initramfs,omitempty"`
	Default   bool           `json:"default,omitempty"`
	ImageBad  string         `json:"image_bad,omitempty"` // what is wrong with it
	InitBad   string         `json:"init_bad,omitempty"`
	InitBytes int64          `json:"init_bytes,omitempty"`
}

// Spec is a line of fstab whose device is not on this machine.
type Spec struct {
	Spec   string      `json:"spec"`
	Path   string      `json:"path"`
	Should string      `json:"should,omitempty"` // what it must be; "" when that is not known
	Node   manifest.ID `json:"node,omitempty"`
	Soft   bool        `json:"soft,omitempty"` // nofail, noauto or swap: the boot goes on without it
}

// NVRAM is what the firmware would start.
type NVRAM struct {
	Looked bool   `json:"looked"` // its variables could be read
	Entry  string `json:"entry,omitempty"`
	Gone   bool   `json:"gone,omitempty"` // no entry leads to an ESP of this host
}

// Place is a filesystem without room.
type Place struct {
	Mount string `json:"mount"`
	Free  int64  `json:"free"`
	Bytes int64  `json:"bytes"`
}
