//go:build machines && deep

package machines

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"lifeboat/drill/qemu"
	"lifeboat/report"
	"lifeboat/tests/lab"
)

// A server whose first sector and ESP were zeroed, in front of a firmware that
// has no entry for it: a look tells it and writes nothing; a repair from the
// menu brings it back without a byte of any other partition.
func TestRepairUEFI(t *testing.T) {
	proven(t, "UEFI: first sector and ESP zeroed, NVRAM empty: triage says so, repair from the menu brings it back, other partitions unchanged")
	ctx, cancel := soon(t.Context(), 30*time.Minute)
	defer cancel()
	r := damaged(ctx, t, server{name: "uefi", layout: lab.UEFILayout()}, 512)
	repairUEFI(t, r)
	repairMore(t, r)
}

func repairUEFI(t *testing.T, r *repaired) {
	t.Helper()
	r.boot("lifeboat.recover=menu lifeboat.then=stay")
	notes := r.vm.type_("6\n", "menu")
	r.phase("a look at the installed system")
	r.verdict(notes, "intact, partition table damaged, boot loader gone: repair, about 2 min")
	r.shot("verdict")
	r.unchanged("looking")
	r.vm.type_("7\n", "type")
	r.shot("confirm")
	r.vm.type_(hostOf(notes)+"\n", "menu")
	r.phase("the repair")
	r.done(r.vm.result)
	r.verdict(r.vm.type_("6\n", "menu"), "healthy: ")
	r.phase("another look")
	r.starts(breakSettings)
}

// repairMore: what else a repair mends, on a disk with broken settings.
func repairMore(t *testing.T, r *repaired) {
	t.Helper()
	r.boot("lifeboat.recover=repair lifeboat.then=stay")
	notes := r.vm.saying("menu")
	r.phase("a repair by order")
	r.verdict(notes, "intact, initramfs broken, boot menu broken, ids in fstab wrong, firmware entry gone: repair, about 4 min")
	r.succeeded(r.vm.result)
	r.starts("cmp /etc/fstab /root/fstab.good; swapon --noheadings | grep .; findmnt /boot/efi")
}

// breakSettings makes the next start fail in four ways.
const breakSettings = `set -e
cp /etc/fstab /root/fstab.good
sed -i 's/^UUID=B007-E5B1/UUID=B007-0000/; s/^UUID=5a5a5a5a-4444/UUID=5a5a5a5a-0000/' /etc/fstab
if cmp -s /etc/fstab /root/fstab.good; then exit 1; fi
truncate -s 5M /boot/initrd.img-*
: >/boot/grub/grub.cfg
sync`

// A server whose boot code and BIOS boot partition were zeroed is repaired by
// an order, with nobody typing.
func TestRepairBIOS(t *testing.T) {
	proven(t, "BIOS: boot code and BIOS boot partition zeroed: lifeboat.recover=repair brings it back unattended, other partitions unchanged")
	ctx, cancel := soon(t.Context(), 30*time.Minute)
	defer cancel()
	repairBIOS(t, damaged(ctx, t, server{name: "bios", layout: lab.BIOSLayout()}, 446))
}

func repairBIOS(t *testing.T, r *repaired) {
	t.Helper()
	r.boot("lifeboat.recover=repair lifeboat.then=stay")
	notes := r.vm.saying("menu")
	r.phase("a repair by order")
	r.shot("order")
	r.verdict(notes, "intact, boot loader gone: repair, about 2 min")
	r.done(r.vm.result)
	r.starts("true")
}

// repaired is a damaged disk and the rescue system in front of it.
type repaired struct {
	t      *testing.T
	ctx    context.Context
	iso    string
	disk   string
	parts  []filePart
	before string // digests of the partitions that no repair may touch
	whole  string // digest of the damaged disk
	config qemu.Config
	vm     *rescueVM
	phase  func(string)
	// boots a rescue system; tests of one's own may have another.
	start func(words string, c qemu.Config) *rescueVM
}

// damaged is the disk of a server that backed itself up and was shut down
// then, with the first bytes of the disk and all boot partitions zeroed.
func damaged(ctx context.Context, t *testing.T, s server, first int64) *repaired {
	t.Helper()
	phase := phases(t)
	m := fixtureOf(ctx, t, s)
	phase("a server that backed itself up")
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if err := lab.CopySparse(ctx, m.disk, disk); err != nil {
		t.Fatal(err)
	}
	r := damage(ctx, t, disk, first, s.layout.Firmware, phase)
	r.iso = m.iso
	return r
}

func damage(ctx context.Context, t *testing.T, disk string, first int64, fw qemu.Firmware, phase func(string)) *repaired {
	t.Helper()
	r := &repaired{t: t, ctx: ctx, disk: disk, parts: partitions(t, disk), phase: phase,
		config: qemu.Config{Name: "repair", Memory: 1 << 30, Firmware: fw, Drives: []qemu.Drive{{File: disk, Interface: qemu.Virtio}}}}
	r.start = func(words string, c qemu.Config) *rescueVM { return startRescue(ctx, t, r.iso, words, c) }
	zeroBoot(t, disk, r.parts, first)
	r.before, r.whole = sums(t, disk, r.parts), contentSum(t, disk)
	return r
}

func (r *repaired) boot(words string) {
	r.t.Helper()
	r.vm = r.start(words, r.config)
	if strings.Contains(words, "recover=menu") {
		r.vm.menu()
	}
}

func (r *repaired) verdict(notes []string, want string) {
	r.t.Helper()
	if got := lineOf(notes, "The installed system: "); !strings.HasPrefix(got, want) {
		r.t.Errorf("the verdict is %q, not %q\n%s", got, want, strings.Join(notes, "\n"))
	}
}

func (r *repaired) unchanged(what string) {
	r.t.Helper()
	if contentSum(r.t, r.disk) != r.whole {
		r.t.Errorf("%s wrote to the disk", what)
	}
}

// shot leaves a picture of the screen where people find it after the test.
func (r *repaired) shot(name string) {
	r.t.Helper()
	if err := os.MkdirAll("../../build/machines", 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := r.vm.SettledScreenshot(r.ctx, "../../build/machines/repair-"+name+".png"); err != nil {
		r.t.Error(err)
	}
}

// done: the repair succeeded, had nothing to say, and changed nothing but
// what starts the system.
func (r *repaired) done(res *report.Result) {
	r.t.Helper()
	r.succeeded(res)
	if now := sums(r.t, r.disk, r.parts); now != r.before {
		r.t.Errorf("partitions that hold no boot loader changed:\n%s\nnot\n%s", now, r.before)
	}
}

func (r *repaired) succeeded(res *report.Result) {
	r.t.Helper()
	if res == nil || res.Exit != report.ExitOK || res.Kind != "repair" || res.State != "done" {
		r.t.Fatalf("the repair ended with %+v", res)
	}
	for _, p := range res.Problems {
		r.t.Errorf("the repair had something to say: %s", p.Line())
	}
}

// starts: the repaired disk starts by itself, in a machine whose firmware has
// never heard of it, and the standard tools find no fault in its table. A
// script is run in it last.
func (r *repaired) starts(script string) {
	r.t.Helper()
	r.vm.Kill()
	if out, err := exec.Command("sfdisk", "--verify", r.disk).CombinedOutput(); err != nil || !strings.Contains(string(out), "No errors detected") {
		r.t.Errorf("sfdisk: %v, %s", err, out)
	}
	vm, err := lab.Start(r.ctx, r.config)
	if err != nil {
		r.t.Fatal(err)
	}
	defer vm.Kill()
	if err := vm.Agent(r.ctx); err != nil {
		r.t.Fatalf("the repaired system does not start: %v\n%s", err, lastOf(vm.Console().Text(), 3000))
	}
	out, err := vm.Run(r.ctx, "systemctl is-system-running --wait")
	if err != nil || !strings.HasPrefix(string(out.Stdout), "running") {
		r.t.Errorf("the repaired system is %s, %v", out.Stdout, err)
	}
	if _, err := vm.Run(r.ctx, "set -e\n"+script); err != nil {
		r.t.Errorf("in the repaired system: %v", err)
	}
	if err := vm.PowerOff(r.ctx); err != nil {
		r.t.Error(err)
	}
	r.phase("the repaired system runs")
}

// hostOf is the host's name as the rescue system knows it.
func hostOf(notes []string) string {
	for _, l := range notes {
		if _, after, ok := strings.Cut(l, "the root filesystem holds "); ok {
			return after[strings.LastIndex(after, " ")+1:]
		}
	}
	return ""
}

func lineOf(notes []string, prefix string) string {
	for _, l := range notes {
		if s, ok := strings.CutPrefix(l, prefix); ok {
			return s
		}
	}
	return ""
}

// type_ types into the menu on the serial console and returns what the rescue
// system says until its next question of a kind.
func (r *rescueVM) type_(text, until string) (notes []string) {
	r.t.Helper()
	// What is typed before the console shows its prompt is no answer.
	_, shown, err := r.Console().Wait(r.ctx, r.shown, regexp.MustCompile(`\n> $`))
	if err != nil {
		r.t.Fatal(err)
	}
	r.shown = shown
	if _, err := r.Console().Write([]byte(text)); err != nil {
		r.t.Fatal(err)
	}
	return r.saying(until)
}

// saying is what the rescue system says until its next question of a kind.
func (r *rescueVM) saying(until string) (notes []string) {
	r.t.Helper()
	for {
		e := r.event()
		switch {
		case asks(e, until):
			return notes
		case asks(e, "menu") && until != "menu":
			r.t.Fatalf("no question of kind %q, but the menu:\n%s", until, strings.Join(notes, "\n"))
		case e.Kind == report.Done:
			r.result = new(report.Result)
			if err := json.Unmarshal(e.Data, r.result); err != nil {
				r.t.Fatal(err)
			}
		case e.Text != "" && e.Kind != report.Ask && e.Kind != report.Answered:
			notes = append(notes, e.Text)
		}
	}
}

// filePart is a partition of an image file.
type filePart struct {
	Node  string `json:"node"`
	Start int64  `json:"start"` // sectors
	Size  int64  `json:"size"`
	Type  string `json:"type"`
}

func partitions(t *testing.T, disk string) []filePart {
	t.Helper()
	out, err := exec.Command("sfdisk", "--json", disk).Output()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Table struct {
			Partitions []filePart `json:"partitions"`
		} `json:"partitiontable"`
	}
	if err := json.Unmarshal(out, &doc); err != nil || len(doc.Table.Partitions) == 0 {
		t.Fatalf("%v: %s", err, out)
	}
	return doc.Table.Partitions
}

// bootPart tells of a partition that holds nothing but boot programs.
func bootPart(p filePart) bool {
	return p.Type == "C12A7328-F81F-11D2-BA4B-00A0C93EC93B" || p.Type == "21686148-6449-6E6F-744E-656564454649"
}

// zeroBoot overwrites the first bytes of a disk, its ESP and its BIOS boot
// partition.
func zeroBoot(t *testing.T, disk string, parts []filePart, first int64) {
	t.Helper()
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zero := func(at, n int64) {
		if _, err := f.WriteAt(make([]byte, n), at); err != nil {
			t.Fatal(err)
		}
	}
	zero(0, first)
	for _, p := range parts {
		if bootPart(p) {
			zero(p.Start*512, p.Size*512)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// sums digests every partition that is not for boot programs alone.
func sums(t *testing.T, disk string, parts []filePart) string {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b strings.Builder
	for _, p := range parts {
		if bootPart(p) {
			continue
		}
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(f, p.Start*512, p.Size*512)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%d %s\n", p.Start, hex.EncodeToString(h.Sum(nil)))
	}
	return b.String()
}
