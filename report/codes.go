package report

// Codes of problems. A code never changes its meaning; the table fixes the
// exit code that a run ends with when the problem stops it.
const (
	CodeFailed        = "failed"
	CodeUsage         = "usage"
	CodeConfig        = "config"
	CodeUncovered     = "uncovered-mount"
	CodeUnsupported   = "unsupported-storage"
	CodeDiskMissing   = "disk-missing"
	CodeDiskAmbiguous = "disk-ambiguous"
	CodeDiskNotBlank  = "disk-not-blank"
	CodeDiskTooSmall  = "disk-too-small"
	CodeDiskProtected = "disk-protected"
	CodeDiskChanged   = "disk-changed"
	CodeDiskBusy      = "disk-busy"
	CodeSectorSize    = "sector-size"
	CodeFirmwareMode  = "firmware-mode"
	CodeToolMissing   = "tool-missing"
	CodeModuleMissing = "module-missing"
	CodeKernelFeature = "kernel-feature-missing"
	CodeLoaderMissing = "loader-file-missing"
	CodeManifest      = "manifest-invalid"
	CodeManifestNewer = "manifest-newer"
	CodeHostDiffers   = "host-differs"
	CodeMapping       = "mapping-invalid"
	CodeBackupMissing = "backup-missing"
	CodeBackupShort   = "backup-cut-short"
	CodeBackupDamaged = "backup-damaged"
	CodeBackupHost    = "backup-of-another-host"
	CodeBackupOnDisk  = "backup-on-target"
	CodeBackupMounts  = "backup-lacks-mount"
	CodeNotPID1       = "not-rescue-system"
	CodeLiving        = "living-system"
	CodeUnlooked      = "disk-not-looked-into"
	CodeOrderDone     = "order-done"
	CodeAttempts      = "attempts-used-up"
	CodeDeclined      = "declined"
	CodeNoRepair      = "no-repair"
	CodeNoUndo        = "no-undo"
	CodeRestoreFiles  = "restore-files"
	CodeNoSpace       = "no-space"
	CodeIdentity      = "identity-changed"
	CodeLeftover      = "identity-leftover"
	CodeInitramfs     = "initramfs"
	CodeBootloader    = "bootloader"
	CodeNetwork       = "network"
	CodeFirmwareFile  = "firmware-missing"
	CodeCloudKernel   = "cloud-kernel"
	CodeSize          = "size"
	CodeClock         = "clock"
	CodeSecret        = "secret"
	CodeFilesChanged  = "files-changed"
	CodeFilesUnread   = "files-unreadable"
	CodeInterrupted   = "interrupted"
	CodeNotInBackup   = "not-in-backup"
	CodeMemory        = "memory"
	CodeShrunk        = "shrunk"
	CodeKeymap        = "keymap"
)

// Row is one code with its exit code.
type Row struct {
	Code string
	Exit Exit
	Text string // what the code means, for the manual
}

// Codes is the table of all codes.
var Codes = []Row{
	{CodeFailed, ExitFailed, "something failed; the text says what"},
	{CodeUsage, ExitUsage, "the command was called wrongly"},
	{CodeConfig, ExitUsage, "the configuration is wrong"},
	{CodeUncovered, ExitUncovered, "a mount of this host could not be recovered"},
	{CodeUnsupported, ExitUncovered, "a storage layer that cannot be rebuilt"},
	{CodeDiskMissing, ExitRefused, "no disk of this machine can take the place of a captured one"},
	{CodeDiskAmbiguous, ExitRefused, "more than one assignment of disks is possible"},
	{CodeDiskNotBlank, ExitRefused, "a disk holds data and is not known by WWN, serial or mapping"},
	{CodeDiskTooSmall, ExitRefused, "a disk is smaller than the layout needs"},
	{CodeDiskProtected, ExitRefused, "a disk carries the medium, the backup or something in use"},
	{CodeDiskChanged, ExitRefused, "a disk differs from what the plan was made for"},
	{CodeDiskBusy, ExitRefused, "a disk is in use"},
	{CodeSectorSize, ExitRefused, "the layout cannot be exact on this sector size"},
	{CodeFirmwareMode, ExitRefused, "the machine was started in another firmware mode"},
	{CodeToolMissing, ExitFailed, "a program that the plan needs is not in the image or does not run"},
	{CodeModuleMissing, ExitFailed, "a kernel module that the plan needs is missing"},
	{CodeKernelFeature, ExitFailed, "the kernel lacks something that the plan needs"},
	{CodeLoaderMissing, ExitFailed, "a boot loader file that the plan needs is missing"},
	{CodeManifest, ExitUsage, "the manifest is not valid"},
	{CodeManifestNewer, ExitUsage, "the manifest is of a newer version"},
	{CodeHostDiffers, ExitRefused, "medium and backup are of different hosts"},
	{CodeMapping, ExitUsage, "the mapping file is not valid"},
	{CodeBackupMissing, ExitBackup, "the backup cannot be reached"},
	{CodeBackupShort, ExitBackup, "the backup is cut short"},
	{CodeBackupDamaged, ExitBackup, "the backup is damaged"},
	{CodeBackupHost, ExitBackup, "the backup is of another host"},
	{CodeBackupOnDisk, ExitRefused, "the backup lies on a disk that would be erased"},
	{CodeBackupMounts, ExitBackup, "the backup lacks a filesystem of the manifest"},
	{CodeNotPID1, ExitRefused, "disks are written in the rescue system only"},
	{CodeLiving, ExitRefused, "the disk holds a living system"},
	{CodeUnlooked, ExitRefused, "the disk may hold a living system, and nothing here can look into it"},
	{CodeOrderDone, ExitRefused, "this order was carried out already"},
	{CodeAttempts, ExitRefused, "the order was begun three times and never ended, or ended with files missing; a person must decide"},
	{CodeDeclined, ExitRefused, "a person declined"},
	{CodeNoRepair, ExitRefused, "the installed system needs no repair, or none brings it back"},
	{CodeNoUndo, ExitRefused, "what was on the disks before a recovery cannot be put back"},
	{CodeRestoreFiles, ExitBackup, "files could not be restored"},
	{CodeNoSpace, ExitFailed, "a filesystem is full"},
	{CodeIdentity, ExitOK, "an identity could not be kept; references were rewritten"},
	{CodeLeftover, ExitOK, "an old identity is still named somewhere"},
	{CodeInitramfs, ExitFailed, "the restored initramfs cannot start this machine"},
	{CodeBootloader, ExitFailed, "the boot loader could not be installed or checked"},
	{CodeNetwork, ExitFailed, "the network could not be brought up"},
	{CodeFirmwareFile, ExitOK, "firmware of a packed driver is not installed"},
	{CodeCloudKernel, ExitOK, "the kernel lacks drivers of physical machines"},
	{CodeSize, ExitOK, "an image is larger than some machines can load"},
	{CodeClock, ExitOK, "the clock was wrong"},
	{CodeSecret, ExitOK, "an image holds a secret"},
	{CodeFilesChanged, ExitOK, "files changed while they were read"},
	{CodeFilesUnread, ExitFailed, "files are missing from a backup because they could not be read"},
	{CodeInterrupted, ExitFailed, "the run was interrupted"},
	{CodeNotInBackup, ExitOK, "something on a disk that is erased is in no backup"},
	{CodeMemory, ExitOK, "the machine has less memory than advised"},
	{CodeShrunk, ExitOK, "free room or swap was made smaller, for the disk is smaller than the captured one"},
	{CodeKeymap, ExitOK, "the keyboard of the rescue system is not the host's"},
}
