// Package qemu starts virtual machines in QEMU, follows their consoles, takes
// pictures and presses keys, so that an image can be proven without hardware.
// Level 4 (half a step below drill): drives QEMU; knows nothing of Lifeboat's
// images.
package qemu

import "lifeboat/internal/run"

// Firmware is what the machine starts with.
type Firmware string

// The firmwares.
const (
	BIOS           Firmware = "bios"            // SeaBIOS, part of every QEMU
	UEFI           Firmware = "uefi"            // OVMF with an empty variable store
	UEFISecureBoot Firmware = "uefi-secureboot" // OVMF with Microsoft's keys enrolled and enforced
)

// Interface is how a drive is attached.
type Interface string

// The interfaces.
const (
	Virtio Interface = "virtio" // virtio-blk
	SCSI   Interface = "scsi"   // a disk on virtio-scsi
	AHCI   Interface = "ahci"   // a SATA disk
	NVMe   Interface = "nvme"
	USB    Interface = "usb"   // a stick on xHCI
	CDROM  Interface = "cdrom" // a read-only SATA CD drive
)

// Drive is a disk, stick or CD.
type Drive struct {
	ID        string // "" gives drive0, drive1 ...; needed to remove it later
	File      string
	Format    string // "raw" (also for "") or "qcow2"
	Interface Interface
	Serial    string // what the guest sees; "" is a disk without a serial, but NVMe always has one
	WWN       uint64 // 0: none; SCSI and AHCI only
	Boot      int    // place in the firmware's boot order from 1; 0: not asked to boot
	Snapshot  bool   // the guest's writes are thrown away; not for hot-plugged drives
	ReadOnly  bool   // CD drives are always read-only
	Removable bool   // USB only: say so to the guest, as sticks do

	SectorBytes   int64 // logical sector; 0 is 512
	PhysicalBytes int64 // physical sector; 0 is the same as SectorBytes
}

// NIC is a network card on a network of its own. The guest reaches nothing
// but what is named here: no host, no other network, because what boots may
// be a copy of a living system.
type NIC struct {
	Model    string         // "" is virtio-net-pci; e1000e, vmxnet3 ...
	MAC      string         // "" lets QEMU choose
	Forwards []Forward      // from this host into the guest
	Services []GuestService // from the guest to this host
}

// Forward lets programs of this host reach a TCP port of the guest.
type Forward struct {
	HostPort  int // on 127.0.0.1
	GuestPort int
}

// GuestService is a TCP address that the guest sees in its network and that
// leads to one address of this host.
type GuestService struct {
	Address string // as the guest calls it, such as "10.0.2.100:80"
	To      string // host:port on this machine
	// Command is started for each connection, speaks on stdin and stdout, and
	// replaces To. Nil uses bash, which every Debian has.
	Command []string
}

// Port is another channel out of the guest besides the console.
type Port struct {
	Name   string // of the virtio port (/dev/virtio-ports/NAME); key for VM.Port
	Serial bool   // an ISA serial port (ttyS1, ttyS2, ttyS3) instead of a virtio port
	File   string // what the guest writes is also kept here; may be ""
	// Socket, when set, is made by QEMU as a listening unix socket for others
	// to connect to; VM.Port then has nothing.
	Socket string
}

// Config describes a machine. The zero value of a field is a usable default.
type Config struct {
	Name string // in messages; "" is "vm"
	// Dir keeps console.log and screenshots. It must exist. "" keeps nothing.
	Dir      string
	Memory   int64 // bytes; 0 is 1 GiB
	CPUs     int   // 0 is 2
	CPU      string
	Accel    Accel // "" probes
	Machine  string
	Firmware Firmware
	// Vars is the file of EFI variables. It is made from the firmware's
	// template when it does not exist, and kept. "" uses a fresh copy for
	// this run only, as a machine with new NVRAM has.
	Vars   string
	Drives []Drive
	// HotplugSlots is how many virtio or NVMe drives AddDrive may attach. Any
	// value above 0 also adds the controllers for plugging SCSI and USB drives.
	HotplugSlots int
	Kernel       string // boots this kernel directly, without the firmware's boot order
	Initrd       string
	Append       string
	NICs         []NIC
	Ports        []Port
	NoReboot     bool     // a reset of the guest ends the machine
	UUID         string   // DMI product_uuid
	Serial       string   // DMI product_serial
	Extra        []string // more QEMU arguments
	Log          run.Logger
}

const (
	defaultMemory = 1 << 30
	defaultCPUs   = 2
)

func (c Config) name() string {
	if c.Name == "" {
		return "vm"
	}
	return c.Name
}
