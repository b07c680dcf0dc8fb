package manifest

import "strings"

// Machine is a machine as found: the planner sees nothing else of it.
type Machine struct {
	DMI      DMI           `json:"dmi"`
	CPU      CPU           `json:"cpu"`
	Memory   int64         `json:"memory"` // bytes usable
	PCI      []PCIDevice   `json:"pci"`
	NICs     []NIC         `json:"nics"`
	Firmware Firmware      `json:"firmware"`
	Disks    []MachineDisk `json:"disks"`
	Tools    []Tool        `json:"tools,omitempty"`
	Kernel   KernelInfo    `json:"kernel"`
	Modalias []string      `json:"modalias,omitempty"` // of every device, sorted, once
	Rescue   bool          `json:"rescue,omitempty"`   // found by the rescue system under its own PID 1
}

// DMI is what the firmware says of the machine.
type DMI struct {
	Vendor        string `json:"vendor"`
	Product       string `json:"product"`
	Version       string `json:"version,omitempty"`
	Serial        string `json:"serial,omitempty"`
	UUID          string `json:"uuid,omitempty"`
	Board         string `json:"board,omitempty"`
	BIOS          string `json:"bios,omitempty"`
	ChassisType   string `json:"chassis_type,omitempty"`
	ChassisSerial string `json:"chassis_serial,omitempty"`
}

// CPU of the machine.
type CPU struct {
	Model   string `json:"model"`
	Sockets int    `json:"sockets"`
	Cores   int    `json:"cores"`
	Threads int    `json:"threads"`
}

// PCIDevice is one PCI function.
type PCIDevice struct {
	Address string `json:"address"`
	Class   string `json:"class"` // six hex digits
	Vendor  string `json:"vendor"`
	Device  string `json:"device"`
	Name    string `json:"name,omitempty"` // by pci.ids
	Driver  string `json:"driver,omitempty"`
}

// NIC is a network card.
type NIC struct {
	Name    string `json:"name"`
	MAC     string `json:"mac"`
	Driver  string `json:"driver,omitempty"`
	BusPath string `json:"bus_path,omitempty"`
	Model   string `json:"model,omitempty"`
	Carrier bool   `json:"carrier"`
}

// Slot is a card's place on the bus: its path without the number of a virtio
// device, which counts the other virtio devices of the machine, too.
func Slot(busPath string) string {
	if i := strings.LastIndex(busPath, "/virtio"); i >= 0 && strings.Trim(busPath[i+len("/virtio"):], "0123456789") == "" {
		return busPath[:i]
	}
	return busPath
}

// Firmware mode and variables.
type Firmware struct {
	Mode       string     `json:"mode"` // bios, uefi
	Bits       int        `json:"bits,omitempty"`
	SecureBoot bool       `json:"secure_boot"`
	NVRAM      string     `json:"nvram,omitempty"` // rw, ro, none
	Entries    []EFIEntry `json:"entries,omitempty"`
	Order      []string   `json:"order,omitempty"`
	Current    string     `json:"current,omitempty"`
}

// KernelInfo is what the running kernel offers.
type KernelInfo struct {
	Release     string   `json:"release"`
	Filesystems []string `json:"filesystems,omitempty"` // loaded or loadable
	Modules     []string `json:"modules,omitempty"`     // loadable or built in, normalised names; only those asked for
}

// Tool is a program with its version.
type Tool struct {
	Name    string `json:"name"`
	Path    string `json:"path"`
	Version string `json:"version,omitempty"`
	Works   bool   `json:"works"` // was run and answered
	Problem string `json:"problem,omitempty"`
}

// MachineDisk is a whole disk as found, with what it holds and what protects
// it.
type MachineDisk struct {
	Disk       Disk         `json:"disk"`
	Name       string       `json:"name"`               // kernel name now, e.g. sda: never an identity
	BusPath    string       `json:"bus_path,omitempty"` // below /sys/devices
	DevNo      string       `json:"dev_no,omitempty"`   // major:minor
	Links      []string     `json:"links,omitempty"`    // by-id and by-path names
	Table      string       `json:"table,omitempty"`    // gpt, dos, ""
	TableID    string       `json:"table_id,omitempty"`
	Signatures []Signature  `json:"signatures,omitempty"` // on the disk and on its partitions
	Unread     string       `json:"unread,omitempty"`     // why signatures could not be read; such a disk is never blank
	Protection []Protection `json:"protection,omitempty"`
	Marks      []Mark       `json:"marks,omitempty"`    // roots found on it
	Unlooked   []Unlooked   `json:"unlooked,omitempty"` // what could be or hold a root and was not looked into
	Claim      *Claim       `json:"claim,omitempty"`    // of an unfinished recovery onto it, see ClaimPlaces
}

// Blank tells whether the disk holds no table and no signature.
func (d MachineDisk) Blank() bool {
	return d.Table == "" && len(d.Signatures) == 0 && d.Unread == ""
}

// Signature is something recognisable on a device.
type Signature struct {
	Device string `json:"device"` // kernel name it was found on
	Type   string `json:"type"`   // as blkid names it: ext4, LVM2_member, gpt …
	UUID   string `json:"uuid,omitempty"`
	Label  string `json:"label,omitempty"`
	Offset int64  `json:"offset"` // of the magic, bytes
}

// Protection says what forbids writing to a disk, and by which chain of
// devices the user of the disk was reached.
type Protection struct {
	Why   string   `json:"why"`   // Protect* constants
	What  string   `json:"what"`  // mount point, file or holder
	Chain []string `json:"chain"` // from the user down to the disk: /mnt/x, dm-1, sdb3, sdb
}

// Unlooked is something on a disk that could be or hold the root of a system,
// and into which nobody could look.
type Unlooked struct {
	Device string `json:"device"`         // kernel name, or GROUP/VOLUME
	Type   string `json:"type,omitempty"` // as blkid names it; "" when it could not be recognised
	UUID   string `json:"uuid,omitempty"` // its own, as the storage graph has it
	Why    string `json:"why"`            // Unlooked* constants
	Text   string `json:"text,omitempty"` // what came back, one line
}

// Causes of Unlooked. Only "damaged" says something of the content; all others
// say that this rescue system could not look.
const (
	UnlookedDamaged = "damaged" // the content contradicts itself, or the disk cannot read it
	UnlookedTool    = "tool"    // a program is missing or does not run
	UnlookedDriver  = "driver"  // this kernel cannot, or nothing can without writing
	UnlookedTimeout = "timeout"
	UnlookedLocked  = "locked" // encrypted, and there is no key here
	UnlookedOther   = "other"
)

// Mark is a readable root filesystem of a Lifeboat-protected host on a disk.
type Mark struct {
	Device    string `json:"device"`
	Host      string `json:"host,omitempty"`
	MachineID string `json:"machine_id,omitempty"`
	Newest    string `json:"newest,omitempty"` // RFC 3339: newest sign of life on it
	Order     string `json:"order,omitempty"`  // id of the completed order written into it
	// Unfinished: it holds the journal of a recovery that did not end. It never
	// ran as a system, unless a person mended and started it later: then signs
	// of life are newer than the journal.
	Unfinished bool   `json:"unfinished,omitempty"`
	Journal    string `json:"journal,omitempty"` // RFC 3339: when that journal was last written
	// Lost is how many files the recovery by Order could not bring back, and
	// Ended when that was (RFC 3339): the order is not done, and no person has
	// used the system unless signs of life are newer.
	Lost  int64  `json:"lost,omitempty"`
	Ended string `json:"ended,omitempty"`
}
