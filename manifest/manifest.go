// Package manifest describes the protected system and the machine as data:
// what is, never what is to be done. Canonical form JSON.
// Level 0: data, validation, encoding; pure.
package manifest

import "time"

// Format names this version of the manifest. Readers take every earlier one
// by explicit upgrade; a newer one is an error that names the version needed.
const (
	FormatName    = "lifeboat.manifest"
	FormatVersion = 1
	Format        = "lifeboat.manifest/1"
)

// Manifest is the protected system. It holds no secrets.
type Manifest struct {
	Format    string      `json:"format"`
	Made      time.Time   `json:"made"`      // when captured
	By        string      `json:"by"`        // lifeboat version
	Host      Host        `json:"host"`      // who
	Machine   Machine     `json:"machine"`   // on what hardware
	Storage   Storage     `json:"storage"`   // disks up to mounts
	LeftOut   []LeftOut   `json:"left_out"`  // mounts not part of the host's data, with the reason
	Uncovered []Uncovered `json:"uncovered"` // mounts that cannot be rebuilt
	Network   Network     `json:"network"`
	Boot      Boot        `json:"boot"`
	System    System      `json:"system"`
	Dirs      []Dir       `json:"dirs"` // standard directories that no backup may hold
}

// Host is the identity of the protected system.
type Host struct {
	Name      string    `json:"name"`       // as hostname prints it
	MachineID string    `json:"machine_id"` // /etc/machine-id
	OS        OSRelease `json:"os"`
	Timezone  string    `json:"timezone,omitempty"`
	Keymap    string    `json:"keymap,omitempty"`
	Locale    string    `json:"locale,omitempty"`
}

// OSRelease is what /etc/os-release says.
type OSRelease struct {
	ID      string   `json:"id"`
	IDLike  []string `json:"id_like,omitempty"`
	Version string   `json:"version,omitempty"`
	Pretty  string   `json:"pretty"`
	Arch    string   `json:"arch"` // Go's GOARCH
}

// LeftOut is a mount that is not part of the host's data.
type LeftOut struct {
	Path   Bytes  `json:"path"`
	Type   string `json:"type"`
	Source Bytes  `json:"source"`
	Reason string `json:"reason"` // runtime, network, loop, medium, excluded
}

// Uncovered is a mount that the planner could not rebuild on this very
// hardware.
type Uncovered struct {
	Path     Bytes  `json:"path"` // mount point, or the swap's or node's name when nothing is mounted
	Node     ID     `json:"node,omitempty"`
	Reason   string `json:"reason"`
	Accepted bool   `json:"accepted"` // its loss is accepted by name in the configuration
}

// System is the kernel and what starts it.
type System struct {
	Kernel    string   `json:"kernel"`  // uname -r when captured
	Cmdline   string   `json:"cmdline"` // /proc/cmdline when captured
	Kernels   []Kernel `json:"kernels"` // all installed
	Initramfs string   `json:"initramfs"`
	SELinux   string   `json:"selinux,omitempty"` // enforcing, permissive, "" when off
	Init      string   `json:"init,omitempty"`    // what /sbin/init resolves to
	MergedUsr bool     `json:"merged_usr"`
}

// Initramfs tools by name, as System.Initramfs holds them.
const (
	InitramfsTools  = "initramfs-tools"
	Dracut          = "dracut"
	Mkinitcpio      = "mkinitcpio"
	Booster         = "booster"
	InitramfsNone   = ""
	ConsoleTTY0     = "tty0"
	FirmwareBIOS    = "bios"
	FirmwareUEFI    = "uefi"
	ProtectMedium   = "medium"  // carries the rescue system
	ProtectBackup   = "backup"  // carries the backup in use
	ProtectMounted  = "mounted" // mounted or used as swap, not by us
	ProtectActive   = "active"  // held by dm, md or loop that we did not open
	ProtectReadOnly = "readonly"
)

// Kernel is one installed kernel.
type Kernel struct {
	Version   string `json:"version"`
	Image     Bytes  `json:"image"`               // path in the host
	Initramfs Bytes  `json:"initramfs,omitempty"` // path in the host
	Modules   Bytes  `json:"modules,omitempty"`   // folder
	Default   bool   `json:"default"`             // what the boot loader starts
}

// Dir is a directory, link or other inode that must exist after a restore
// even when no backup holds it: standard directories and their links.
type Dir struct {
	Path  Bytes `json:"path"`
	Inode Inode `json:"inode"`
}

// Inode is the metadata of one file system object.
type Inode struct {
	Type   string            `json:"type"` // dir, link, file, fifo, char, block, socket; "" when unknown
	Mode   string            `json:"mode"` // octal, four digits
	UID    uint32            `json:"uid"`
	GID    uint32            `json:"gid"`
	Xattrs map[string][]byte `json:"xattrs,omitempty"` // values base64 in JSON
	Target Bytes             `json:"target,omitempty"` // of a link
}

// Boot is how the host starts. Nodes are named, targets are found by walking
// down to all disks.
type Boot struct {
	Firmware   string     `json:"firmware"`    // bios, uefi: what the running system was started by
	SecureBoot bool       `json:"secure_boot"` // enabled when captured
	Loader     string     `json:"loader"`      // grub, systemd-boot, none
	GRUB       *GRUB      `json:"grub,omitempty"`
	BootFS     ID         `json:"boot_fs"`             // the filesystem that holds /boot
	RootFS     ID         `json:"root_fs"`             // the filesystem mounted on /
	ESPs       []ID       `json:"esps,omitempty"`      // vfat filesystems with the ESP type
	BIOSBoot   []ID       `json:"bios_boot,omitempty"` // BIOS-boot partitions
	MBRCode    []ID       `json:"mbr_code,omitempty"`  // disks whose first sector carries boot code
	Entries    []EFIEntry `json:"efi_entries,omitempty"`
	Order      []string   `json:"efi_order,omitempty"`
	Consoles   []string   `json:"consoles,omitempty"` // values of console= in order
}

// GRUB is the installed GRUB.
type GRUB struct {
	Version   string   `json:"version"`             // as grub-install --version prints
	Prefix    string   `json:"prefix"`              // "grub" or "grub2": names of tools and folders
	Platforms []string `json:"platforms"`           // i386-pc, x86_64-efi … with modules installed
	Dir       Bytes    `json:"dir"`                 // /boot/grub
	Config    Bytes    `json:"config"`              // /boot/grub/grub.cfg
	EFIDirs   []string `json:"efi_dirs,omitempty"`  // folders below EFI/ on the ESP
	Removable bool     `json:"removable,omitempty"` // EFI/BOOT/BOOTX64.EFI present
	Signed    bool     `json:"signed,omitempty"`    // shim is installed on the ESP
}

// EFIEntry is one boot entry of the firmware.
type EFIEntry struct {
	Num      string `json:"num"` // four hex digits
	Label    string `json:"label"`
	Active   bool   `json:"active"`
	PartUUID string `json:"part_uuid,omitempty"`
	Loader   string `json:"loader,omitempty"` // path with backslashes
	Raw      []byte `json:"raw,omitempty"`
}

// Network is the host's network.
type Network struct {
	Links  []Link  `json:"links"`            // as running
	Routes []Route `json:"routes"`           // as running, main table
	DNS    DNS     `json:"dns"`              // real resolvers, not local stubs
	Files  []File  `json:"files,omitempty"`  // as configured: the text files, secrets taken out
	System string  `json:"system,omitempty"` // ifupdown, networkd, networkmanager, netplan, wicked, ifcfg
}

// Link is one network interface as running.
type Link struct {
	Name      string   `json:"name"`
	Kind      string   `json:"kind"` // ether, bond, vlan, bridge, loopback …
	MAC       string   `json:"mac,omitempty"`
	PermMAC   string   `json:"perm_mac,omitempty"`
	Driver    string   `json:"driver,omitempty"`
	BusPath   string   `json:"bus_path,omitempty"` // sysfs path below /sys/devices
	MTU       int      `json:"mtu"`
	Up        bool     `json:"up"`
	Carrier   bool     `json:"carrier"`
	Addresses []string `json:"addresses,omitempty"` // CIDR
	Dynamic   bool     `json:"dynamic,omitempty"`   // an address has a lifetime
	Leased    []string `json:"leased,omitempty"`    // those of Addresses that have a lifetime: by DHCP or router advertisement
	Parent    string   `json:"parent,omitempty"`    // of a VLAN
	VLAN      int      `json:"vlan,omitempty"`
	Master    string   `json:"master,omitempty"` // bond or bridge it belongs to
	Bond      string   `json:"bond,omitempty"`   // mode of a bond
}

// Route is one route of the main table.
type Route struct {
	To     string `json:"to"` // CIDR or "default"
	Via    string `json:"via,omitempty"`
	Dev    string `json:"dev"`
	Source string `json:"source,omitempty"`
	Metric int    `json:"metric,omitempty"`
	Family int    `json:"family"` // 4 or 6
}

// DNS is the resolver configuration.
type DNS struct {
	Servers []string `json:"servers,omitempty"`
	Search  []string `json:"search,omitempty"`
}

// File is a configuration file kept as text.
type File struct {
	Path Bytes `json:"path"`
	Text Bytes `json:"text"`
}
