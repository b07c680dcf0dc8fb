package adapt

import "testing"

// LVM's own copies name a device as a comment; its configuration is none.
func TestHints(t *testing.T) {
	for name, want := range map[string]bool{
		"etc/lvm/backup/vg-data-a": true, "etc/lvm/archive/vg_00000-1.vg": true,
		"etc/lvm/lvm.conf": false, "etc/lvm/devices/system.devices": false, "etc/fstab": false,
	} {
		if hints(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
