//go:build kernel

package kernel

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"lifeboat/drill/qemu"
	"lifeboat/tests/kernel/inguest"
)

const portName = "lifeboat.kernel"

// patience is the limit of any one wait; nothing but a fault comes near it.
const patience = 10 * time.Minute

// Machine is a running guest.
type Machine struct {
	*qemu.VM
	t      testing.TB
	mark   int // in the port: what was read
	calls  int
	disks  string // serials
	drives []qemu.Drive
}

// setup is what a guest is made of.
type setup struct {
	name      string
	segments  [][]byte // after the base; nil: modules, tools and the guest program
	append    string
	disks     int          // blank disks
	drives    []qemu.Drive // disks of an earlier machine instead
	ports     []qemu.Port
	nics      []qemu.NIC
	slots     int  // for disks that are plugged in later
	noConsole bool // no console= on the command line beyond append
	memory    int64
	extra     []string // for QEMU
}

// blankDisks are sparse files: virtio disks, one SCSI disk with a WWN, one
// NVMe disk with sectors of 4096 bytes, and virtio disks again. The fourth is
// a little smaller than the others, as a replacement may be.
func blankDisks(t testing.TB, n int) ([]qemu.Drive, string) {
	t.Helper()
	dir := t.TempDir()
	var out []qemu.Drive
	var serials []string
	for i := range n {
		d := qemu.Drive{File: filepath.Join(dir, fmt.Sprintf("disk%d.img", i)), Serial: fmt.Sprintf("blank%d", i), Interface: qemu.Virtio}
		bytes := int64(2 << 30)
		switch i {
		case 3:
			bytes -= 48 << 20
		case 4:
			d.Interface, d.WWN = qemu.SCSI, 0x5000c50000000004
		case 5:
			d.Interface, d.SectorBytes, d.PhysicalBytes = qemu.NVMe, 4096, 4096
		}
		if err := qemu.CreateRaw(d.File, bytes); err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
		serials = append(serials, d.Serial)
	}
	return out, strings.Join(serials, ",")
}

// boot starts a guest and kills it at the end of the test.
func boot(t testing.TB, s setup) *Machine {
	t.Helper()
	kernel, set := kernelImage(t)
	if s.segments == nil {
		s.segments = [][]byte{modulesPart(t, set), toolsPart(t), guestPart(t)}
	}
	initrd := image(t, append([][]byte{basePart(t)}, s.segments...)...)
	drives, serials := s.drives, ""
	if drives == nil {
		drives, serials = blankDisks(t, s.disks)
	}
	line := "rootfstype=ramfs panic=-1 " + s.append
	if !s.noConsole {
		line = "console=ttyS0 quiet " + line
	}
	if s.memory == 0 {
		s.memory = 1 << 30
	}
	vm, err := qemu.Start(t.Context(), qemu.Config{
		Name: s.name, Memory: s.memory, Kernel: kernel, Initrd: initrd, Append: line,
		Drives: drives, NICs: s.nics, Ports: append([]qemu.Port{{Name: portName}}, s.ports...), HotplugSlots: s.slots, Extra: s.extra,
	})
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{VM: vm, t: t, disks: serials, drives: drives}
	t.Cleanup(func() {
		vm.Kill()
		if t.Failed() {
			t.Logf("end of the console of %s:\n%s", s.name, lastOf(vm.Console().Text(), 6000))
		}
	})
	return m
}

func lastOf(s string, n int) string { return s[max(0, len(s)-n):] }

func (m *Machine) ctx() context.Context {
	c, cancel := context.WithTimeout(m.t.Context(), patience)
	m.t.Cleanup(cancel)
	return c
}

// Hello waits for the worker to come up and returns the count of its starts.
func (m *Machine) Hello() int {
	m.t.Helper()
	g, mark, err := m.Port(portName).Wait(m.ctx(), m.mark, regexp.MustCompile(`hello (\d+)\n`))
	if err != nil {
		m.t.Fatalf("the worker does not come up: %v\nconsole:\n%s", err, lastOf(m.Console().Text(), 4000))
	}
	m.mark = mark
	n, _ := strconv.Atoi(g[1])
	return n
}

// start asks the guest to run a program and returns the number of the call.
func (m *Machine) start(env []string, argv ...string) (id string) {
	m.t.Helper()
	m.calls++
	id = strconv.Itoa(m.calls)
	b, err := json.Marshal(map[string][]string{"Argv": argv, "Env": append(env, inguest.DisksEnv+"="+m.disks)})
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(m.Port(portName), "run %s %s\n", id, base64.StdEncoding.EncodeToString(b)); err != nil {
		m.t.Fatal(err)
	}
	return id
}

// Run runs a program in the guest and returns its output and exit status.
func (m *Machine) Run(limit time.Duration, argv ...string) (string, int) {
	m.t.Helper()
	id := m.start(nil, argv...)
	ctx, cancel := context.WithTimeout(m.t.Context(), limit)
	defer cancel()
	from := m.mark
	g, mark, err := m.Port(portName).Wait(ctx, from, regexp.MustCompile(`end `+id+` (-?\d+)\n`))
	text := m.Port(portName).Text()
	var out strings.Builder
	for _, l := range regexp.MustCompile(`(?m)^out `+id+` (\S+)$`).FindAllStringSubmatch(text[from:], -1) {
		b, e := base64.StdEncoding.DecodeString(l[1])
		if e != nil {
			m.t.Fatal(e)
		}
		out.Write(b)
	}
	if err != nil {
		m.t.Fatalf("%v in the guest: %v\noutput so far:\n%s\nconsole:\n%s", argv, context.Cause(ctx), out.String(), lastOf(m.Console().Text(), 4000))
	}
	m.mark = mark
	code, _ := strconv.Atoi(g[1])
	return out.String(), code
}

// Sh runs a script by bash in the guest; anything but status 0 is fatal.
func (m *Machine) Sh(script string) string {
	m.t.Helper()
	out, code := m.Run(patience, "bash", "-euc", script)
	if code != 0 {
		m.t.Fatalf("in the guest: %s\nexit status %d:\n%s", script, code, out)
	}
	return out
}

// expect waits for a pattern on a line that the guest writes, from mark on.
func (m *Machine) expect(s *qemu.Stream, mark int, pattern string) ([]string, int) {
	m.t.Helper()
	g, next, err := s.Wait(m.ctx(), mark, regexp.MustCompile(pattern))
	if err != nil {
		m.t.Fatal(err)
	}
	return g, next
}

// Reset presses the reset button and waits for the worker of the new boot.
func (m *Machine) Reset() {
	m.t.Helper()
	m.mark = m.Port(portName).Mark()
	if err := m.VM.Reset(m.ctx()); err != nil {
		m.t.Fatal(err)
	}
	m.Hello()
}
