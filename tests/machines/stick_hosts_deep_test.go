//go:build machines && deep

package machines

import (
	"testing"
	"time"

	"lifeboat/drill"
	"lifeboat/drill/qemu"
	"lifeboat/images/usb"
	"lifeboat/tests/lab"
)

// TestRecoveryTwoHosts: the image that a server made with its backup inside is
// added to a stick that another host has its place on, and the server comes
// back from there by its own menu.
func TestRecoveryTwoHosts(t *testing.T) {
	proven(t, "a stick with two hosts, one added by usb write with the backup in its image, brings this one back on a blank disk, unattended")
	ctx, cancel := soon(t.Context(), 40*time.Minute)
	defer cancel()
	m := fixtureOf(ctx, t, server{name: "two", layout: lab.UEFILayout(), stick: &onStick{otherHost, "output: [usb]\nbackup: {url: \"usb:\"}\n", intoImage}})
	res := comesBack(ctx, t, m, drill.Options{Host: "harbour-7", Firmware: qemu.UEFI}, allowedUEFI)
	img, err := usb.Open(res.Stick)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if err := img.Verify(ctx); err != nil || len(img.Hosts()) != 2 || len(img.Archives("db01")) != 1 || len(img.Archives("harbour-7")) != 1 {
		t.Errorf("the stick holds %+v afterwards: %v", img.Hosts(), err)
	}
}

// otherHost is a stick of db01 with room for more.
func otherHost(t *testing.T, path string) {
	t.Helper()
	if err := lab.CopySparse(t.Context(), bootUSB(t, "db01", "usb-test-db01", anyBackup(t), 1536<<20), path); err != nil {
		t.Fatal(err)
	}
}

// intoImage backs up into the image of a stick, and adds that to the stick.
const intoImage = `set -e
udevadm settle
lifeboat mkbackup
lifeboat inspect /var/lib/lifeboat/output/harbour-7.usb.img verify
lifeboat usb write ` + stickDev + ` --confirm ` + stickSerial + `
lifeboat inspect ` + stickDev + ` --host harbour-7 verify
lifeboat usb list ` + stickDev + `
! lifeboat inspect ` + stickDev + `
! grep lifeboat-stick /proc/mounts`
