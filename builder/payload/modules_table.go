package payload

import "strings"

// Choices of `modules:` in the configuration.
const (
	ModulesHost      = "host"      // what this machine uses, and what a recovery needs anywhere
	ModulesUniversal = "universal" // plus all storage, network and virtual machine drivers
	ModulesAll       = "all"
)

// baseModules go into every image as far as the kernel has them: file
// systems, layers of storage, removable media, keyboards, virtual machines.
var baseModules = strings.Fields(`
	ext4 xfs vfat msdos fat isofs udf exfat overlay squashfs loop fuse efivarfs
	nls_cp437 nls_cp850 nls_ascii nls_iso8859_1 nls_iso8859_15 nls_utf8
	dm_mod dm_crypt dm_snapshot dm_mirror dm_raid dm_thin_pool dm_cache dm_cache_smq dm_writecache dm_zero
	dm_multipath dm_round_robin dm_queue_length dm_service_time dm_integrity dm_verity dm_log dm_bufio
	md_mod linear raid0 raid1 raid10 raid456
	scsi_mod sd_mod sr_mod cdrom sg
	usb_storage uas usbhid hid hid_generic ehci_pci ehci_hcd uhci_hcd ohci_pci ohci_hcd xhci_pci xhci_hcd
	hid_logitech hid_logitech_dj hid_logitech_hidpp hid_apple hid_cherry hid_microsoft hid_holtek_kbd hid_hyperv
	atkbd i8042 evdev
	virtio virtio_ring virtio_pci virtio_mmio virtio_blk virtio_scsi virtio_net virtio_console virtio_balloon virtio_rng
	af_packet bonding 8021q bridge
	crc32c_generic crc32c_intel crc32_pclmul crct10dif_pclmul
	algif_skcipher algif_hash essiv xts cbc aes_generic aesni_intel sha256_generic sha512_generic
	softdog ipmi_si ipmi_devintf efi_pstore rtc_cmos vmw_vsock_virtio_transport qemu_fw_cfg
`)

// universalFolders are the folders below kernel/ that `universal` packs whole.
var universalFolders = strings.Fields(`
	drivers/ata drivers/block drivers/cdrom drivers/dax drivers/firewire drivers/hv drivers/md
	drivers/message drivers/mmc drivers/net/bonding drivers/net/ethernet drivers/net/fjes
	drivers/net/hyperv drivers/net/mdio drivers/net/pcs drivers/net/phy drivers/net/team drivers/net/usb drivers/net/vmxnet3
	drivers/nvdimm drivers/nvme drivers/scsi drivers/ufs drivers/usb/host drivers/usb/storage drivers/usb/typec
	drivers/virt drivers/virtio drivers/xen drivers/infiniband/core drivers/pci drivers/thunderbolt drivers/vmd
	drivers/char/hw_random drivers/char/ipmi drivers/input/keyboard drivers/input/serio
	fs/nls fs/nfs fs/smb net/8021q net/bridge net/802 net/llc net/packet net/vmw_vsock crypto arch/x86/crypto arch/arm64/crypto
`)

// servingFolders lie in those folders and serve storage to others, or test the
// kernel: no recovery's disk hangs on them. A host that has one loaded gets it
// all the same.
var servingFolders = strings.Fields(`
	drivers/nvme/target drivers/block/drbd drivers/block/rbd drivers/block/rnbd drivers/md/md-cluster drivers/xen/xen-scsiback
	drivers/scsi/qla2xxx/tcm_qla2xxx drivers/usb/typec/altmodes fs/smb/server net/bridge/netfilter drivers/scsi/elx/efct drivers/scsi/ibmvscsi_tgt drivers/infiniband/ulp
`)

// universalModules are single drivers outside those folders.
var universalModules = strings.Fields(`
	hid_lenovo btrfs f2fs jfs
	virtio_net xen_netfront net_failover mii tun tap dummy veth macvlan sungem_phy mdio
	intel_lpss_pci i2c_hid_acpi pinctrl_amd ntfs3 reiserfs hfsplus erofs ufs minix virtiofs 9p 9pnet_virtio
`)

// neverFolders hold what a rescue system has no use for; loaded there or not,
// such a module is packed only when the plan or the user names it. They are
// large, and drag firmware along.
var neverFolders = strings.Fields(`
	sound drivers/gpu drivers/media drivers/staging drivers/bluetooth net/bluetooth drivers/net/wireless net/wireless
	net/mac80211 drivers/iio drivers/hwmon drivers/isdn drivers/comedi drivers/soundwire drivers/accessibility
	drivers/video drivers/leds drivers/edac drivers/usb/gadget drivers/nfc net/nfc drivers/net/can net/can drivers/misc/mei
	fs/ocfs2 fs/gfs2 fs/dlm fs/afs fs/ceph fs/nfsd fs/coda fs/orangefs drivers/input/joystick drivers/input/touchscreen
	drivers/powercap drivers/rapl
`)

// lowerFolder tells whether a module's path lies in one of the folders, or is
// one of them itself: drivers/block/rbd is a module without a folder.
func lowerFolder(modulePath string, folders []string) bool {
	p, ok := strings.CutPrefix(modulePath, "kernel/")
	if !ok {
		// Modules of others lie in extra/, updates/ or weak-updates/, with the
		// same folders below when they replace one of the kernel's.
		_, p, _ = strings.Cut(modulePath, "/")
		p = strings.TrimPrefix(p, "kernel/")
	}
	p = plainName(p)
	for _, f := range folders {
		if strings.HasPrefix(p, f+"/") || p == f+".ko" {
			return true
		}
	}
	return false
}
