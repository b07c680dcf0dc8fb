//go:build machines

package machines

import "lifeboat/tests/lab"

// allowed are the differences between the server's disk, as it was after it
// had been shut down, and a disk restored from the backup that it made while
// it ran.
var allowed = []lab.Allow{
	{Path: "var/log/**", Why: "the server went on logging; the recovery's own report lies there"},
	{Where: "part 5", Path: "grub/**", What: "mtime", Why: "grub-install wrote the same files again"},
	{Path: "", What: "Journal features", Why: "says whether the journal was used since it was made"},
	{Path: "var/lib/lifeboat/**", Why: "images are not in the backup; the mark of the order"},
}
