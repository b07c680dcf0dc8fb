package manifest

// Storage is the graph: nodes below before above, mounts in tree order.
type Storage struct {
	Nodes  []Node  `json:"nodes"`
	Mounts []Mount `json:"mounts"`
}

// ID names a node by the thing's own identity: "disk:wwn-…", "table:GUID",
// "part:PARTUUID", "md:UUID", "pv:UUID", "vg:UUID", "lv:UUID", "luks:UUID",
// "fs:UUID", "swap:UUID"; never a device name or a position.
type ID string

// Kind of a node. The kinds are one literal table here and one in
// rescue/storage.
type Kind string

const (
	KindDisk      Kind = "disk"
	KindMultipath Kind = "multipath"
	KindTable     Kind = "table"
	KindPartition Kind = "partition"
	KindMD        Kind = "md"
	KindPV        Kind = "pv"
	KindVG        Kind = "vg"
	KindLV        Kind = "lv"
	KindLUKS      Kind = "luks"
	KindFS        Kind = "fs"
	KindSubvol    Kind = "subvol"
	KindSwap      Kind = "swap"
	KindSwapFile  Kind = "swapfile"
	KindUnknown   Kind = "unknown"
)

// Role of an edge.
type Role string

const (
	RoleMember   Role = "member"
	RoleSpare    Role = "spare"
	RoleJournal  Role = "journal"
	RoleData     Role = "data"
	RoleMetadata Role = "metadata"
	RoleCache    Role = "cache"
	RoleLog      Role = "log"
	RoleHeader   Role = "header"
	RolePool     Role = "pool"
	RoleOrigin   Role = "origin"
	RolePath     Role = "path"
)

// Edge says on what a node stands. Order is meaning; a nil slot's member was
// missing: the intent keeps the slot.
type Edge struct {
	Node ID   `json:"node"`
	Role Role `json:"role"`
	Slot *int `json:"slot,omitempty"`
}

// Node is one layer of storage. Exactly the struct that Kind names is set.
type Node struct {
	ID    ID     `json:"id"`
	Kind  Kind   `json:"kind"`
	On    []Edge `json:"on,omitempty"`
	Bytes int64  `json:"bytes"` // usable size of the device it offers; for fs and swap the size it occupies

	Disk      *Disk      `json:"disk,omitempty"`
	Multipath *Multipath `json:"multipath,omitempty"`
	Table     *Table     `json:"table,omitempty"`
	Partition *Partition `json:"partition,omitempty"`
	MD        *MD        `json:"md,omitempty"`
	PV        *PV        `json:"pv,omitempty"`
	VG        *VG        `json:"vg,omitempty"`
	LV        *LV        `json:"lv,omitempty"`
	LUKS      *LUKS      `json:"luks,omitempty"`
	FS        *FS        `json:"fs,omitempty"`
	Subvol    *Subvol    `json:"subvol,omitempty"`
	Swap      *Swap      `json:"swap,omitempty"`
	SwapFile  *SwapFile  `json:"swapfile,omitempty"`
	Unknown   *Unknown   `json:"unknown,omitempty"`

	Seen Seen `json:"seen"` // observed only, never compared
}

// Seen is what was observed when captured and may differ any day.
type Seen struct {
	Device string   `json:"device,omitempty"` // kernel name, e.g. sda1, dm-0
	Name   string   `json:"name,omitempty"`   // /dev/mapper name or other name users know
	Used   int64    `json:"used,omitempty"`   // bytes used, for filesystems
	Health string   `json:"health,omitempty"` // degraded, resync …
	SubLVs []string `json:"sub_lvs,omitempty"`
}

// Disk is a whole disk's identity. Source: sysfs.
type Disk struct {
	WWN       string `json:"wwn,omitempty"` // naa., eui., t10. … as sysfs wwid, lower case
	Serial    string `json:"serial,omitempty"`
	Model     string `json:"model,omitempty"`
	Vendor    string `json:"vendor,omitempty"`
	Bytes     int64  `json:"bytes"`
	Logical   int64  `json:"logical"`             // logical sector, bytes
	Physical  int64  `json:"physical"`            // physical sector, bytes
	Transport string `json:"transport,omitempty"` // sata, sas, nvme, usb, virtio, iscsi, fc, mmc …
	Removable bool   `json:"removable,omitempty"`
	Rotates   bool   `json:"rotates,omitempty"`
	ReadOnly  bool   `json:"read_only,omitempty"`
}

// Table is a partition table.
type Table struct {
	Type     string `json:"type"`                // gpt, dos
	UUID     string `json:"uuid"`                // GPT disk GUID upper case, or MBR id as 0x%08x
	FirstLBA int64  `json:"first_lba,omitempty"` // GPT: first usable, bytes
	LastLBA  int64  `json:"last_lba,omitempty"`  // GPT: last usable sector's start, bytes
	Entries  int    `json:"entries,omitempty"`   // GPT: number of entries, 128 mostly
	PMBRBoot bool   `json:"pmbr_boot,omitempty"` // GPT: protective entry flagged active
	Hybrid   bool   `json:"hybrid,omitempty"`    // GPT with a hybrid MBR: reported
	BootCode bool   `json:"boot_code,omitempty"` // first 440 bytes are not zero
}

// Partition is one entry of a table. Number, start and size are independent.
type Partition struct {
	Number int    `json:"number"`
	Start  int64  `json:"start"`          // bytes from the disk's begin
	Size   int64  `json:"size"`           // bytes
	Type   string `json:"type"`           // GPT type GUID upper case, or MBR type as two hex digits
	UUID   string `json:"uuid,omitempty"` // GPT PARTUUID upper case; MBR: derived, not stored
	Name   string `json:"name,omitempty"` // GPT, any text of up to 36 UTF-16 units
	Attrs  uint64 `json:"attrs,omitempty,string"`
	Active bool   `json:"active,omitempty"` // MBR
}

// Well-known partition types.
const (
	TypeESP      = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	TypeBIOSBoot = "21686148-6449-6E6F-744E-656564454649"
	TypeLVM      = "E6D6D379-F507-44C2-A23C-238F2A3DF928"
	TypeLinux    = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
	TypeSwap     = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
	TypeRAID     = "A19D880F-05FC-4D3B-A006-743F0F84911E"
	TypeXBOOTLDR = "BC13C2FF-59E6-4262-A352-B275FD6F7172"
	TypePReP     = "9E1A2D38-C612-4316-AA26-8B49521E5A8B"
)

// PV is an LVM physical volume.
type PV struct {
	UUID      string   `json:"uuid"`
	VG        string   `json:"vg,omitempty"`       // name of its VG, "" when it has none
	PEStart   int64    `json:"pe_start"`           // bytes
	Extents   int64    `json:"extents"`            // pe_count
	DevSize   int64    `json:"dev_size"`           // bytes
	BAStart   int64    `json:"ba_start,omitempty"` // bootloader area, bytes
	BASize    int64    `json:"ba_size,omitempty"`
	MDASize   int64    `json:"mda_size,omitempty"` // of the smaller metadata area
	MDACopies int      `json:"mda_copies"`         // metadata areas on this PV
	Tags      []string `json:"tags,omitempty"`
	NoAlloc   bool     `json:"no_alloc,omitempty"`
	Missing   bool     `json:"missing,omitempty"`
}

// VG is an LVM volume group; it stands on its PVs.
type VG struct {
	Name       string   `json:"name"`
	UUID       string   `json:"uuid"`
	ExtentSize int64    `json:"extent_size"` // bytes
	Extents    int64    `json:"extents"`
	Free       int64    `json:"free"` // extents
	MaxLV      int      `json:"max_lv,omitempty"`
	MaxPV      int      `json:"max_pv,omitempty"`
	Tags       []string `json:"tags,omitempty"`
	SystemID   string   `json:"system_id,omitempty"`
	LockType   string   `json:"lock_type,omitempty"`
	Alloc      string   `json:"alloc,omitempty"`  // normal, contiguous, cling, anywhere; "" was not read
	Backup     Bytes    `json:"backup,omitempty"` // text of vgcfgbackup
}

// LV is an LVM logical volume; it stands on its VG.
type LV struct {
	Name       string    `json:"name"`
	UUID       string    `json:"uuid"`
	Type       string    `json:"type"` // segtype: linear, striped, raid1, thin, thin-pool …
	Segments   []Segment `json:"segments"`
	Tags       []string  `json:"tags,omitempty"`
	ReadOnly   bool      `json:"read_only,omitempty"`
	Inactive   bool      `json:"inactive,omitempty"`
	ReadAhead  int64     `json:"read_ahead,omitempty"` // bytes; 0 auto
	Contiguous bool      `json:"contiguous,omitempty"`
	Alloc      string    `json:"alloc,omitempty"` // normal, cling, anywhere; "" as the group has it, or contiguous
}

// Segment is a run of extents of an LV.
type Segment struct {
	Type       string `json:"type"`
	Start      int64  `json:"start"` // extents
	Extents    int64  `json:"extents"`
	Stripes    int    `json:"stripes"`
	StripeSize int64  `json:"stripe_size,omitempty"` // bytes
	Areas      []Area `json:"areas"`
}

// Area is where a stripe of a segment lies.
type Area struct {
	PV    ID    `json:"pv"`
	Start int64 `json:"start"` // extent on the PV
}

// FS is a filesystem.
type FS struct {
	Type  string `json:"type"`           // ext2, ext3, ext4, xfs, btrfs, vfat, f2fs …
	UUID  string `json:"uuid,omitempty"` // vfat: XXXX-XXXX
	Label string `json:"label,omitempty"`
	Ext   *Ext   `json:"ext,omitempty"`
	XFS   *XFS   `json:"xfs,omitempty"`
	VFAT  *VFAT  `json:"vfat,omitempty"`
	Btrfs *Btrfs `json:"btrfs,omitempty"`
}

// Ext are the parameters of ext2, ext3 and ext4.
type Ext struct {
	Features     []string `json:"features"` // as dumpe2fs names them, sorted
	BlockSize    int64    `json:"block_size"`
	Blocks       int64    `json:"blocks"`
	InodeSize    int64    `json:"inode_size"`
	Inodes       int64    `json:"inodes"`
	Reserved     int64    `json:"reserved"` // blocks
	ReservedUID  uint32   `json:"reserved_uid,omitempty"`
	ReservedGID  uint32   `json:"reserved_gid,omitempty"`
	Journal      int64    `json:"journal,omitempty"`      // bytes
	JournalUUID  string   `json:"journal_uuid,omitempty"` // external
	HashSeed     string   `json:"hash_seed,omitempty"`
	HashAlg      string   `json:"hash_alg,omitempty"`
	Stride       int64    `json:"stride,omitempty"` // blocks
	StripeWidth  int64    `json:"stripe_width,omitempty"`
	MountOptions []string `json:"mount_options,omitempty"` // default mount options in the superblock
	MoreOptions  string   `json:"more_options,omitempty"`  // extended ones, as text (tune2fs -E mount_opts)
	Errors       string   `json:"errors,omitempty"`        // continue, remount-ro, panic
	MaxMounts    int64    `json:"max_mounts"`
	CheckSeconds int64    `json:"check_seconds"`
	FlexBG       int64    `json:"flex_bg,omitempty"` // groups per flex group
	ClusterSize  int64    `json:"cluster_size,omitempty"`
	ChecksumSeed string   `json:"checksum_seed,omitempty"`
	Encoding     string   `json:"encoding,omitempty"` // casefold
	Strict       bool     `json:"strict,omitempty"`   // casefold: names that are not of the encoding are refused
	Quotas       []string `json:"quotas,omitempty"`   // usrquota, grpquota, prjquota that have an inode
	Revision     string   `json:"revision,omitempty"`
	ReservedGDT  int64    `json:"reserved_gdt,omitempty"` // blocks
	GroupBlocks  int64    `json:"group_blocks,omitempty"` // blocks per group
	LastMounted  string   `json:"last_mounted,omitempty"`
}

// XFS are the parameters of xfs. Features names every known feature as on or
// off, by mkfs.xfs's own option names ("crc", "finobt", "reflink" …).
type XFS struct {
	Features    map[string]bool `json:"features"`
	BlockSize   int64           `json:"block_size"`
	SectorSize  int64           `json:"sector_size"`
	InodeSize   int64           `json:"inode_size"`
	MaxPct      int             `json:"max_pct"`
	AGCount     int64           `json:"ag_count"`
	AGBlocks    int64           `json:"ag_blocks"`
	Blocks      int64           `json:"blocks"`
	SUnit       int64           `json:"sunit"`  // bytes
	SWidth      int64           `json:"swidth"` // bytes
	DirBlock    int64           `json:"dir_block"`
	DirVersion  int             `json:"dir_version"`
	LogBlocks   int64           `json:"log_blocks"`
	LogSector   int64           `json:"log_sector"`
	LogSUnit    int64           `json:"log_sunit"` // bytes
	LogVersion  int             `json:"log_version"`
	LogExternal bool            `json:"log_external,omitempty"`
	Realtime    bool            `json:"realtime,omitempty"`
}

// VFAT are the parameters of FAT filesystems.
type VFAT struct {
	Bits        int   `json:"bits"` // 12, 16, 32
	SectorSize  int64 `json:"sector_size"`
	ClusterSize int64 `json:"cluster_size"` // bytes
	Reserved    int   `json:"reserved"`     // sectors
	FATs        int   `json:"fats"`
	RootEntries int   `json:"root_entries,omitempty"`
	Media       int   `json:"media,omitempty"`
	Hidden      int64 `json:"hidden,omitempty"` // sectors
	// CHS is what old firmware and systems calculate with; nil in manifests that
	// were made before it was read, or where the boot sector holds none.
	CHS *CHS `json:"chs,omitempty"`
}

// CHS is the geometry and drive number in the boot sector of a FAT.
type CHS struct {
	Heads   int `json:"heads"`
	Sectors int `json:"sectors"` // per track
	Drive   int `json:"drive"`   // 0x80 the first hard disk, 0 the first floppy
}

// Btrfs are the parameters of btrfs.
type Btrfs struct {
	DataProfile     string   `json:"data_profile"`
	MetadataProfile string   `json:"metadata_profile"`
	Features        []string `json:"features"`
	NodeSize        int64    `json:"node_size"`
	SectorSize      int64    `json:"sector_size"`
	Checksum        string   `json:"checksum"`
	Default         Bytes    `json:"default,omitempty"` // path of the default subvolume
	Quota           bool     `json:"quota,omitempty"`
}

// Subvol is a btrfs subvolume, by path.
type Subvol struct {
	Path  Bytes `json:"path"`
	NoCOW bool  `json:"nocow,omitempty"`
}

// Swap is a swap area.
type Swap struct {
	UUID     string `json:"uuid,omitempty"`
	Label    string `json:"label,omitempty"`
	PageSize int64  `json:"page_size"`
}

// SwapFile is a swap area in a file of the filesystem it stands on.
type SwapFile struct {
	Path  Bytes `json:"path"` // absolute, in the host's tree
	Swap  Swap  `json:"swap"`
	Inode Inode `json:"inode"`
}

// MD is a software RAID array.
type MD struct {
	UUID      string `json:"uuid"`
	Level     string `json:"level"`
	Metadata  string `json:"metadata"`
	Name      string `json:"name,omitempty"`
	Devices   int    `json:"devices"`
	Chunk     int64  `json:"chunk,omitempty"`
	Layout    string `json:"layout,omitempty"`
	Bitmap    string `json:"bitmap,omitempty"`
	Offset    int64  `json:"offset,omitempty"`
	Container ID     `json:"container,omitempty"`
}

// LUKS is an encrypted volume.
type LUKS struct {
	UUID    string   `json:"uuid"`
	Version int      `json:"version"`
	Label   string   `json:"label,omitempty"`
	Cipher  string   `json:"cipher"`
	KeyBits int      `json:"key_bits"`
	Sector  int64    `json:"sector,omitempty"`
	KDF     string   `json:"kdf,omitempty"`
	Memory  int64    `json:"memory,omitempty"`
	Slots   int      `json:"slots,omitempty"`
	Tokens  []string `json:"tokens,omitempty"`
	Name    string   `json:"name,omitempty"` // mapping name
}

// Multipath is a map over several paths to one LUN.
type Multipath struct {
	WWID string `json:"wwid"`
	Name string `json:"name,omitempty"`
}

// Unknown is something that cannot be rebuilt; it makes everything above it
// refusable.
type Unknown struct {
	What   string `json:"what"`   // as blkid, lsblk or sysfs names it
	Reason string `json:"reason"` // one line for people
}

// Scope of a mount in the backup.
type Scope string

const (
	ScopeFull    Scope = "full"    // its files are in the backup
	ScopeExclude Scope = "exclude" // stays in fstab, is neither formatted nor restored
	ScopeNone    Scope = "none"    // recreated empty
)

// Mount is a place in the tree where a filesystem or swap belongs.
type Mount struct {
	Path    Bytes    `json:"path"` // "none" for swap
	Node    ID       `json:"node"`
	Bind    Bytes    `json:"bind,omitempty"`    // path within the node's filesystem; "" is its root
	Type    string   `json:"type"`              // filesystem type as mounted
	Options []string `json:"options,omitempty"` // of fstab if there, else as mounted
	Spec    string   `json:"spec,omitempty"`    // first field of fstab
	InFstab bool     `json:"in_fstab"`
	Live    bool     `json:"live"`  // mounted when captured
	Point   Inode    `json:"point"` // the directory below, that the mount covers
	Top     Inode    `json:"top"`   // the root of the filesystem mounted
	Backup  Scope    `json:"backup"`
}
