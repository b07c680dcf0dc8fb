// Package plan decides: manifest and machine in, target graph, disk
// assignments and ordered steps out; matching, graph → graph, steps, needs,
// refusals.
// Level 1: pure: no os, net, clock.
package plan

import (
	"lifeboat/manifest"
	"lifeboat/report"
)

// Format names this version of the plan.
const Format = "lifeboat.plan/1"

// Input is everything that a plan is made from. See Plan.ID for what of it
// counts for the id.
type Input struct {
	Manifest *manifest.Manifest `json:"manifest"`
	Machine  *manifest.Machine  `json:"machine"`
	Mapping  *Mapping           `json:"mapping,omitempty"`
	Policy   Policy             `json:"policy"`
}

// Policy is what the order and the person allow.
type Policy struct {
	// Unattended: nobody watches, so a living system on a target is doubt
	// (rule 4). Which disks may be targets is the same with a person: only a
	// mapping file makes a disk one that is neither blank nor known by WWN or
	// serial.
	Unattended bool `json:"unattended"`
	// Armed: the one-time arm of pxe or server, or a person who typed the
	// host name: living systems and done orders are no doubt any more.
	Armed bool `json:"armed,omitempty"`
	// Order is the id of the order that is carried out; claims on disks are
	// honoured for this order only. "" honours none.
	Order string `json:"order,omitempty"`
	// Backup identifies the backup that will be restored (archive UUID, or
	// the method's own name of it). It counts for the plan's id, so that a
	// restore never goes on from another backup's checkpoint.
	Backup string `json:"backup,omitempty"`
	// BackupMade is when the backup was begun, RFC 3339; "" means when the
	// manifest was made. A root with later signs of life is a living system.
	BackupMade string `json:"backup_made,omitempty"`
	// OwnHardware plans a host onto its own hardware, as capture does to find
	// what could not be rebuilt: contents and protection of disks do not count.
	OwnHardware bool `json:"own_hardware,omitempty"`
	// Unprotect lists serials whose protection a person lifted (rule 2).
	Unprotect []string `json:"unprotect,omitempty"`
	// Method of the backup: archive, or the name of a method of others.
	Method string `json:"method"`
	// BackupNeeds are tools that the backup method needs.
	BackupNeeds []string `json:"backup_needs,omitempty"`
}

// Mapping is a mapping file: which disk of the machine takes the place of
// which captured disk.
type Mapping struct {
	Disks []DiskMapping `json:"disks" yaml:"disks"`
}

// DiskMapping maps one captured disk. From is a WWN, serial or node ID of the
// manifest; To is a WWN, serial or by-path name of this machine.
type DiskMapping struct {
	From string `json:"from" yaml:"from"`
	To   string `json:"to" yaml:"to"`
}

// Rule that decided an assignment, in the order in which they are tried.
type Rule string

const (
	ByMapping Rule = "mapping"
	ByWWN     Rule = "wwn"
	BySerial  Rule = "serial"
	ByClaim   Rule = "claim" // the disk carries the claim of this order, manifest and captured disk
	ByBlank   Rule = "blank" // the only possible assignment among blank disks
	ByOwn     Rule = "own"   // capture's plan of a host onto itself
)

// Plan is what would be done. It is the same for the same Input.
type Plan struct {
	Format      string               `json:"format"`
	Kind        string               `json:"kind,omitempty"` // "" for a recovery, KindRepair
	ID          string               `json:"id"`             // digest of the inputs that decide what is built, see id.go
	Host        string               `json:"host"`
	Target      manifest.Storage     `json:"target"` // graph as it will be: node IDs are the captured ones
	Assignments []Assignment         `json:"assignments"`
	Steps       []Step               `json:"steps"`
	Renames     []Rename             `json:"renames,omitempty"` // identities that change
	Cards       []Card               `json:"cards,omitempty"`   // network cards whose address or place changes
	Erased      []DiskRef            `json:"erased"`
	Untouched   []DiskRef            `json:"untouched"`
	Needs       Needs                `json:"needs"`
	Warnings    []report.Problem     `json:"warnings,omitempty"`
	Refusals    []report.Problem     `json:"refusals,omitempty"` // any of them: nothing is written
	Uncovered   []manifest.Uncovered `json:"uncovered,omitempty"`
}

// Assignment gives a captured disk its place on this machine.
type Assignment struct {
	Node manifest.ID `json:"node"` // disk node of Target
	Was  string      `json:"was"`  // the captured disk, for people
	Disk DiskRef     `json:"disk"`
	Rule Rule        `json:"rule"`
	Why  string      `json:"why"` // one line for people
	// Claimed: the disk carries the claim of a plan with this very id. Only
	// when every assignment is claimed may the layers be opened instead of
	// made (rule 11).
	Claimed bool `json:"claimed,omitempty"`
	// ClaimAt is the byte offset for the claim record, a place that no
	// partition and no boot loader uses; 0: the layout leaves no room. The
	// record is written before the first wipe, the wipe spares it, and the
	// unmount step takes it away when all is done.
	ClaimAt int64 `json:"claim_at,omitempty"`
	// Lost names what lies on the captured disk and is in no backup.
	Lost []string `json:"lost,omitempty"`
}

// DiskRef names a disk of this machine for people and for the check just
// before the first write.
type DiskRef struct {
	Name       string               `json:"name"`   // kernel name now; never used to find the disk again
	DevNo      string               `json:"dev_no"` // major:minor, checked with the rest
	WWN        string               `json:"wwn,omitempty"`
	Serial     string               `json:"serial,omitempty"`
	Model      string               `json:"model,omitempty"`
	Bytes      int64                `json:"bytes"`
	Signatures []manifest.Signature `json:"signatures,omitempty"`
	Table      string               `json:"table,omitempty"`
	TableID    string               `json:"table_id,omitempty"`
	Reason     string               `json:"reason,omitempty"` // why it is not touched
}

// Rename is an identity that will differ, for the one old→new table.
type Rename struct {
	Kind string      `json:"kind"` // fs-uuid, partuuid, disk-serial, wwn, by-id …
	Old  string      `json:"old"`
	New  string      `json:"new"` // "": the new disk has nothing that corresponds
	Node manifest.ID `json:"node,omitempty"`
}

// RenameMAC is the kind of a network card's address.
const RenameMAC = "mac"

// Stage groups steps; recover --from and --to name them.
type Stage string

const (
	StageRelease    Stage = "release"    // close what lies on the targets
	StageStorage    Stage = "storage"    // wipe and build
	StageMount      Stage = "mount"      // mount the target tree
	StageRestore    Stage = "restore"    // files, mount points, standard directories
	StageAdapt      Stage = "adapt"      // ids, initramfs
	StageBootloader Stage = "bootloader" // install and check
	StageFinish     Stage = "finish"     // report, mark, unmount
)

// Verb is what a step does to its node.
type Verb string

const (
	VerbRelease   Verb = "release"    // disk: tear down every layer above it, top-down
	VerbWipe      Verb = "wipe"       // disk: signatures of every layer, bottom-up
	VerbTable     Verb = "table"      // table: write it with all partitions, wait for their nodes
	VerbPV        Verb = "pv"         // pv
	VerbVG        Verb = "vg"         // vg
	VerbLV        Verb = "lv"         // lv
	VerbMkfs      Verb = "mkfs"       // fs
	VerbMkswap    Verb = "mkswap"     // swap
	VerbMount     Verb = "mount"      // fs; Arg = mount point
	VerbRestore   Verb = "restore"    // no node: all mounts of the backup
	VerbSwapFile  Verb = "swapfile"   // swapfile: make it in its mounted filesystem
	VerbPoints    Verb = "points"     // no node: mount points and standard directories
	VerbNetwork   Verb = "network"    // no node: network cards keep their names, and their configuration finds them
	VerbIDs       Verb = "ids"        // no node: rewrite identities by the old→new table, find leftovers
	VerbInitramfs Verb = "initramfs"  // Arg = kernel version: check, rebuild when something is missing
	VerbGRUB      Verb = "grub"       // disk; Arg = platform (i386-pc)
	VerbGRUBEFI   Verb = "grub-efi"   // ESP filesystem; Arg = platform (x86_64-efi)
	VerbNVRAM     Verb = "nvram"      // ESP filesystem: firmware entry
	VerbBootCheck Verb = "boot-check" // no node: sectors, files, grub.cfg, ids
	VerbReport    Verb = "report"     // no node: report, log, plan into the restored system; order mark
	VerbUnmount   Verb = "unmount"    // no node: unmount everything, sync, deactivate
)

// Again says what may be done with a step when a recovery is started again.
type Again string

const (
	AgainWipe Again = "wipe" // the layers are built anew from the wipe on
	AgainOpen Again = "open" // opened when the plan id is equal and all storage steps are done
	AgainRun  Again = "run"  // always from the start
	AgainPart Again = "part" // goes on from its checkpoint
)

// Step is one act. The node's struct in Target is its parameter: nothing is
// copied.
type Step struct {
	ID     string        `json:"id"` // Verb/Node[/Arg]: the journal's key
	Verb   Verb          `json:"verb"`
	Stage  Stage         `json:"stage"`
	Node   manifest.ID   `json:"node,omitempty"`
	Arg    string        `json:"arg,omitempty"`
	After  []string      `json:"after,omitempty"`
	Erases []manifest.ID `json:"erases,omitempty"`
	Again  Again         `json:"again"`
	Fatal  bool          `json:"fatal"`           // a failure stops the run
	Bytes  int64         `json:"bytes,omitempty"` // expected work, for progress
}

// Needs is what must be there before anything is written: builder packs
// exactly this, rescue checks exactly this.
type Needs struct {
	Tools    []ToolNeed `json:"tools,omitempty"`
	Modules  []string   `json:"modules,omitempty"`   // normalised names; built in counts
	Kernel   []string   `json:"kernel,omitempty"`    // filesystems by name, e.g. "ext4"
	Loaders  []string   `json:"loaders,omitempty"`   // boot loader files inside the target, absolute
	InTarget []string   `json:"in_target,omitempty"` // programs that the restored system itself must have
	Memory   int64      `json:"memory,omitempty"`    // bytes
}

// ToolNeed is a program of the rescue system with the step that needs it.
type ToolNeed struct {
	Name  string `json:"name"`
	Step  string `json:"step"`            // first step that needs it
	Probe string `json:"probe,omitempty"` // argument with which it is known to answer harmlessly
}
