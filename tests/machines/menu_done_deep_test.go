//go:build machines && deep

package machines

import (
	"testing"

	"lifeboat/drill/qemu"
)

// TestMenuOrderDoneUEFI: the mark on a filesystem beside the EFI system
// partition, and no mark at all.
func TestMenuOrderDoneUEFI(t *testing.T) {
	onExt := uefiDisk(t, false)
	put(t, markedFS(t, bootBuildID, 32), onExt, "1048576")
	menuDone(t, []doneCase{
		{"uefi-ext4", qemu.UEFI, onExt, true},
		{"uefi-none", qemu.UEFI, uefiDisk(t, false), false},
	})
}
