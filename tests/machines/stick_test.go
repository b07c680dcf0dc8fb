//go:build machines

package machines

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"lifeboat/drill"
	"lifeboat/drill/qemu"
	"lifeboat/images/usb"
	"lifeboat/internal/loaders"
	"lifeboat/internal/run"
	"lifeboat/report"
	"lifeboat/tests/lab"
)

// Scenario 1 of the stick: a server that starts by UEFI backs itself up onto a
// stick and comes back from it on a blank disk, in front of a firmware that
// has never heard of it. The stick stays in the machine, first in the boot
// order, and the next boot starts the restored system.
func TestRecoveryStick(t *testing.T) {
	proven(t, "UEFI, GPT, root on xfs, swap partition: blank disk, empty NVRAM, stick with archive and journal, unattended; the stick stays in, first in the boot order")
	ctx, cancel := soon(t.Context(), 40*time.Minute)
	defer cancel()
	phase := phases(t)
	m := fixtureOf(ctx, t, stickServer())
	phase("a server that backed itself up onto a stick")
	saysWhatItDid(t, m)
	dir := t.TempDir()
	stick := filepath.Join(dir, "stick.img")
	var before []string
	o := drill.Options{Dir: dir, Firmware: qemu.UEFI, Stays: true}
	o.Between = func(disks []string) error {
		keepsJournal(t, stick)
		before = []string{contentSum(t, disks[0]), contentSum(t, stick)}
		return nil
	}
	o.Watch = func(ctx context.Context, vm *qemu.VM) error {
		return startsLocalDisk(ctx, t, vm, func() {
			if now := []string{contentSum(t, filepath.Join(dir, "disk0.raw")), contentSum(t, stick)}; now[0] != before[0] || now[1] != before[1] {
				t.Errorf("disk and stick were %v when the machine was started, and are %v when the restored system starts", before, now)
			}
		})
	}
	noted := []lab.Allow{{Path: "var/lib/lifeboat", What: "missing", Why: "made when the stick was whole, after the backup"},
		{Path: "var/lib", What: "mtime", Why: "the folder of notes was made in it"}}
	res := comesBack(ctx, t, m, o, append(noted, allowedUEFI...))
	if res.Stick != stick || res.Served != 0 {
		t.Errorf("the stick is %s, and %d bytes were read of another backup", res.Stick, res.Served)
	}
	if now := contentSum(t, stick); now != before[1] {
		t.Error("the stick was written while the restored system ran")
	}
	phase("drill and what lies on the stick")
}

// stickServer is the server that backs itself up onto a stick.
func stickServer() server {
	return server{name: "stick", layout: lab.UEFILayout(), stick: &onStick{preparedStick, "backup: {url: \"usb:\"}\n", toStick}}
}

// oldBuild is what was on the stick before.
const oldBuild = "stick-test-old"

// toStick backs the server up and then looks at the stick as a person would.
const toStick = `set -e
udevadm settle
lifeboat mkbackup --to ` + stickDev + `
lifeboat usb list ` + stickDev + `
lifeboat inspect ` + stickDev + `
! grep lifeboat-stick /proc/mounts`

// preparedStick is a stick on which the server has its place, with a rescue
// system of long ago and room for a backup. `usb write` made it so; that has
// a test of its own in the kernel tier.
func preparedStick(t *testing.T, path string) {
	t.Helper()
	kernel, version := hostKernel(t)
	initrd := filepath.Join(t.TempDir(), "initrd")
	write(t, initrd, []byte("of long ago\n"), 0o600)
	_, err := usb.Write(t.Context(), path, usb.Spec{
		Kernel: kernel, Initrd: []string{initrd}, Manifest: []byte("{}\n"), OS: "debian", Room: 1536 << 20, Loaders: loaders.Find("/"),
		Menu: loaders.Menu{BuildID: oldBuild, Host: "harbour-7", Kernel: version, Built: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)},
	}, run.Exec{Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
}

// saysWhatItDid: mkbackup, list and inspect name what is on the stick, and all
// of it is whole.
func saysWhatItDid(t *testing.T, m *made) {
	t.Helper()
	b, err := os.ReadFile(m.log)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", b)
	for _, want := range []string{
		`(?m)^usb +harbour-7 on /dev/sd[a-z], .* starts by bios, uefi, uefi-secureboot$`,
		`(?m)^backup +usb:harbour-7/\d{8}T\d{6}Z\.lba: `,
		`rescue stick, .* free\n`,
		`(?m)^boot loaders for bios, uefi, uefi-secureboot$`,
		`(?m)^harbour-7 +made .*; 1 backups, `,
		`: .* of harbour-7, `,
		`recover auto, then reboot, backup usb: \(archive\)`,
	} {
		if !regexp.MustCompile(want).Match(b) {
			t.Errorf("the log has no line %s", want)
		}
	}
	img, err := usb.Open(m.iso)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	h := img.Hosts()
	if len(h) != 1 || h[0].Name != "harbour-7" || h[0].Menu.BuildID == oldBuild || len(img.Archives("harbour-7")) != 1 {
		t.Errorf("the stick holds %+v with %+v", h, img.Archives("harbour-7"))
	}
	if err := img.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// keepsJournal: the stick was left clean, and holds what happened.
func keepsJournal(t *testing.T, stick string) {
	t.Helper()
	at := fmt.Sprintf("%s?offset=%d", stick, usb.DataStart)
	tool(t, "e2fsck", "-fn", at)
	dir := regexp.MustCompile(`recover-\d{8}T\d{6}Z`).FindString(tool(t, "debugfs", "-R", "ls -p /harbour-7", at))
	if dir == "" {
		t.Fatal("the stick holds no journal of the recovery")
	}
	out := t.TempDir()
	tool(t, "debugfs", "-R", "rdump /harbour-7/"+dir+" "+out, at)
	var r report.Result
	b, err := os.ReadFile(filepath.Join(out, dir, "report.json"))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil || r.Exit != report.ExitOK {
		t.Errorf("the report on the stick: exit code %d, %v", r.Exit, err)
	}
	events, err := drill.Lines(filepath.Join(out, dir, "events.jsonl"))
	if err != nil || len(events) < 20 {
		t.Errorf("the journal on the stick has %d events: %v", len(events), err)
	}
	for _, name := range []string{"plan.txt", "order.json", "log.txt"} {
		if st, err := os.Stat(filepath.Join(out, dir, name)); err != nil || st.Size() == 0 {
			t.Errorf("%s on the stick: %v", name, err)
		}
	}
}

// startsLocalDisk follows the boot menu of a stick that is first in the boot
// order, and stops the machine when the restored system's own boot loader has
// read its kernel: until then nothing may have been written.
func startsLocalDisk(ctx context.Context, t *testing.T, vm *qemu.VM, judge func()) error {
	if err := os.MkdirAll("../../build/machines", 0o755); err != nil {
		return err
	}
	if err := vm.WaitSerial(ctx, "recovered by this medium already"); err != nil {
		return err
	}
	if err := vm.Screenshot(ctx, "../../build/machines/stick-second-boot.png"); err != nil {
		return err
	}
	if err := vm.WaitSerial(ctx, "Loading initial ramdisk"); err != nil {
		return err
	}
	if text := vm.Console().Text(); strings.Contains(text, "Loading the rescue system") {
		return fmt.Errorf("the stick's rescue system was started:\n%s", lastOf(text, 1000))
	}
	if _, err := vm.QMP().Execute(ctx, "stop", nil); err != nil {
		return err
	}
	judge()
	_, err := vm.QMP().Execute(ctx, "cont", nil)
	return err
}
