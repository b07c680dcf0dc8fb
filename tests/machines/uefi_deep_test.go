//go:build machines && deep

package machines

import (
	"testing"
	"time"

	"lifeboat/drill"
	"lifeboat/drill/qemu"
	"lifeboat/tests/lab"
)

// A server that starts by UEFI comes back on a blank disk, in front of a
// firmware that has never heard of it.
func TestRecoveryUEFI(t *testing.T) {
	proven(t, "UEFI, GPT, root on xfs, swap partition: blank disk, empty NVRAM, archive over HTTP, unattended")
	ctx, cancel := soon(t.Context(), 40*time.Minute)
	defer cancel()
	phase := phases(t)
	m := fixtureOf(ctx, t, server{name: "uefi", layout: lab.UEFILayout()})
	phase("a server that backed itself up")
	comesBack(ctx, t, m, drill.Options{Firmware: qemu.UEFI}, allowedUEFI)
}
