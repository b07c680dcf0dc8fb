//go:build machines

package machines

import "lifeboat/tests/lab"

// allowed are the differences between the server's disk, as it was after it
// had been shut down, and a disk restored from the backup that it made while
// it ran, before its first boot.
var allowed = []lab.Allow{
	// The server lived on after its backup.
	{Path: "var/log/**", Why: "the server went on logging; the recovery's own report lies there"},
	{Path: "var/lib/systemd/**", Why: "random seed, timers"},
	{Path: "tmp", What: "mtime", Why: "in use while the server ran"},
	{Path: "tmp/systemd-private-*", Why: "of services that ran"},
	{Path: "tmp/systemd-private-*/tmp", Why: "of services that ran"},
	{Path: "var/tmp", What: "mtime", Why: "in use while the server ran"},
	{Path: "var/tmp/systemd-private-*", Why: "of services that ran"},
	{Path: "var/tmp/systemd-private-*/tmp", Why: "of services that ran"},
	{Path: "", What: "Journal features", Why: "says whether the journal was used since it was made"},
	// What a backup does not hold, by its format.
	{Path: "special/socket", What: "missing", Why: "sockets are made by the program that listens"},
	{Path: "var/lib/kinds/special/socket", What: "missing", Why: "sockets are made by the program that listens"},
	{Path: "sparse/*", What: "stored", Why: "xfs had allocated ahead"},
	{Path: "boot", What: "mtime", Why: "the time of a directory that is mounted upon is not kept"},
	{Path: "srv/data", What: "mtime", Why: "the time of a directory that is mounted upon is not kept"},
	// What the recovery does, and lists in its report.
	{Where: "part 5", Path: "grub/**", What: "mtime", Why: "grub-install wrote the same files again"},
	{Path: "", What: "mtime", Why: "the journal was in the root while the recovery ran"},
	{Path: "etc/lifeboat", What: "mtime", Why: "the mark of the order"},
	{Path: "etc/lifeboat/recovered.json", What: "extra", Why: "the mark of the order"},
	{Path: ".lifeboat-done-*", What: "extra", Why: "tells the medium's boot menu that the order is done"},
	{Path: "etc/systemd/network/10-lifeboat-*.link", What: "extra", Why: "the machine's card has another place, and keeps its name"},
	{Path: "etc/systemd/network", What: "mtime", Why: "the card's new name"},
	{Path: "var/lib/lifeboat/output/**", Why: "images are not in the backup"},
	{Path: "var/lib/lifeboat/*.json", Why: "what was made is noted when it is whole, after the backup"},
	{Path: "var/lib/lifeboat", What: "mtime", Why: "what was made is noted when it is whole, after the backup"},
	{Path: "etc/systemd/system/**", What: "extra", Why: "the drill's reporter, which takes itself away"},
	{Path: "etc/systemd/system/**", What: "mtime", Why: "the drill's reporter, which takes itself away"},
}

// allowedUEFI are the differences on the UEFI server's disk.
var allowedUEFI = append([]lab.Allow{
	{Path: "var/lib/kinds/sparse/*", What: "stored", Why: "xfs had allocated ahead"},
	{Where: "part 1", Path: "EFI/**", What: "mtime", Why: "grub-install wrote the same files again"},
	{Where: "part 2", Path: "boot/grub/**", What: "mtime", Why: "grub-install wrote the same files again"},
	{Path: "boot/efi", What: "mtime", Why: "the time of a directory that is mounted upon is not kept"},
}, allowed...)
