// Package drill boots an image in a virtual machine against blank disks and
// proves that it restores: the restored system itself must say so.
// Level 4.
package drill

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lifeboat/backup"
	"lifeboat/drill/qemu"
	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/report"
)

// Options say what is drilled and how.
type Options struct {
	Image    string // ISO, or the image of a stick
	Host     string // of a stick with several hosts
	Backup   string // URL, archive file or store directory; "" or usb: is the one on the stick
	Token    string // file with the token of the store
	Disks    []int64
	Bus      qemu.Interface // of the disks: other hardware than the host's; "" is virtio
	Firmware qemu.Firmware  // "" is what the host has
	Dir      string         // disks, logs and screenshots; must exist
	Memory   int64
	Run      run.Logger
	Sink     report.Sink // events of the rescue system and of the drill
	// Patience bounds each of the two boots.
	Patience time.Duration
	// Stays leaves the medium in the machine, first in the boot order, when the
	// restored system is started.
	Stays bool
	// Watch is called when the machine with the restored disks was started: its
	// firmware and boot menus are still to come. nil does nothing.
	Watch func(ctx context.Context, vm *qemu.VM) error
	// Between is called when the disks are restored and before they are booted
	// for the first time; nil does nothing.
	Between func(disks []string) error
	// Words are more words for the order of the recovery, spelled as on the
	// kernel command line.
	Words string
	// During is called with each event of the recovery and may interfere: type
	// on the console, pull a disk. When it has reset the machine it returns
	// ErrReset, and the automatic recovery is chosen again. nil does nothing.
	During func(ctx context.Context, vm *qemu.VM, e report.Event) error
}

// Result is what the drill proved.
type Result struct {
	Host      string         `json:"host"`
	Passed    bool           `json:"passed"`
	Why       string         `json:"why,omitempty"` // when it did not pass
	Recovery  *report.Result `json:"recovery,omitempty"`
	System    *System        `json:"system,omitempty"`
	Phases    []report.Phase `json:"phases"`
	Disks     []string       `json:"disks"`
	Stick     string         `json:"stick,omitempty"` // copy of the stick's image that was used: it holds the journal
	Shots     []string       `json:"screenshots"`
	Accel     string         `json:"accel"`
	Served    int64          `json:"served_bytes"`      // of the backup, in all boots of the rescue system
	Missing   []string       `json:"missing,omitempty"` // mounts of the manifest that the restored system lacks
	FailUnits []string       `json:"failed_units,omitempty"`
}

// ErrReset is returned by Options.During when it has reset the machine.
var ErrReset = errors.New("the machine was reset")

// System is the restored system's own report, sent once by a unit that
// removes itself.
type System struct {
	Hostname string   `json:"hostname"`
	Kernel   string   `json:"kernel"`
	State    string   `json:"state"` // systemctl is-system-running
	Failed   []string `json:"failed"`
	Mounts   []string `json:"mounts"` // mount points
	Swaps    []string `json:"swaps"`
	Uptime   string   `json:"uptime"`
}

// PortEvents and PortReport are the virtio ports that rescue and restored
// system write to.
const (
	PortEvents = "lifeboat.events"
	PortReport = "lifeboat.report"
	// backupAt is where the guest finds the backup on its closed network.
	backupAt = "10.0.2.100:8080"
	// fwcfgName is how the virtual firmware hands over more words for the
	// order of the boot.
	fwcfgName = "opt/org.lifeboat/cmdline"
)

type drill struct {
	o      Options
	m      *manifest.Manifest
	res    *Result
	url    string
	server string
	served atomic.Int64
	medium qemu.Drive
	keys   string // that lead to the automatic recovery in the boot menu
	// onStick: the backup lies on the medium.
	onStick bool
	last    *report.Result
	mu      sync.Mutex
}

// Run drills an image. An error means that the drill itself could not be
// done; a recovery that fails is a Result that did not pass.
func Run(ctx context.Context, o Options) (*Result, error) {
	if o.Sink == nil {
		o.Sink = report.Discard
	}
	if o.Patience == 0 {
		o.Patience = 40 * time.Minute
	}
	d := &drill{o: o, res: &Result{}}
	if err := d.openImage(); err != nil {
		return nil, err
	}
	d.res.Host = d.m.Host.Name
	if err := d.makeDisks(); err != nil {
		return nil, err
	}
	done, err := d.serveBackup(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	err = d.phase("recovery", func() error { return d.recovery(ctx) })
	d.res.Served = d.served.Load()
	if err != nil {
		return d.failed(err)
	}
	if d.last == nil || d.last.Exit != report.ExitOK {
		return d.res, nil
	}
	if o.Between != nil {
		if err := o.Between(d.res.Disks); err != nil {
			return d.res, err
		}
	}
	if err := d.phase("first boot", func() error { return d.firstBoot(ctx) }); err != nil {
		return d.failed(err)
	}
	d.judge()
	return d.res, nil
}

// failed tells faults of the drilled system from faults of the drill.
func (d *drill) failed(err error) (*Result, error) {
	if d.res.Why != "" {
		return d.res, nil
	}
	return d.res, err
}

func (d *drill) phase(name string, f func() error) error {
	d.o.Sink.Emit(report.Event{Kind: report.Started, Step: "drill/" + name, Text: "Drill: " + name})
	start := time.Now()
	err := f()
	ms := time.Since(start).Milliseconds()
	d.res.Phases = append(d.res.Phases, report.Phase{Name: name, Millis: ms})
	if err == nil {
		d.o.Sink.Emit(report.Event{Kind: report.Finished, Step: "drill/" + name, Text: "Drill: " + name + " ended", Millis: ms})
	}
	return err
}

// makeDisks makes a blank disk for every disk that the host needs, of the same
// size unless told otherwise, and without a serial: new hardware.
func (d *drill) makeDisks() error {
	sizes := d.o.Disks
	if len(sizes) == 0 {
		for _, n := range d.m.OwnDisks() {
			sizes = append(sizes, n.Bytes)
		}
	}
	for i, n := range sizes {
		p := filepath.Join(d.o.Dir, fmt.Sprintf("disk%d.raw", i))
		if err := qemu.CreateRaw(p, n); err != nil {
			return err
		}
		d.res.Disks = append(d.res.Disks, p)
	}
	return nil
}

func (d *drill) config(name string) qemu.Config {
	mem := d.o.Memory
	if mem == 0 {
		mem = 2 << 30
	}
	c := qemu.Config{Name: name, Dir: filepath.Join(d.o.Dir, name), Memory: mem, Firmware: d.o.Firmware, NoReboot: true, Log: d.o.Run}
	if c.Firmware == "" {
		c.Firmware = qemu.BIOS
		if d.m.Boot.Firmware == manifest.FirmwareUEFI {
			c.Firmware = qemu.UEFI
		}
	}
	c.Vars = filepath.Join(d.o.Dir, "efivars.fd")
	for _, f := range d.res.Disks {
		c.Drives = append(c.Drives, qemu.Drive{File: f, Interface: cmp.Or(d.o.Bus, qemu.Virtio)})
	}
	return c
}

// recovery boots the image and waits until the machine restarts itself.
func (d *drill) recovery(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.o.Patience)
	defer cancel()
	c := d.config("rescue")
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	c.Drives = append(c.Drives, d.medium)
	c.Ports = []qemu.Port{{Name: PortEvents, File: filepath.Join(d.o.Dir, "events.jsonl")}}
	words := "lifeboat.recover=auto lifeboat.then=reboot lifeboat.drill=1 " + d.o.Words
	if d.onStick {
		words += " lifeboat.backup=" + backup.USB
	}
	if d.url != "" {
		words += " lifeboat.backup=" + d.url
		c.NICs = []qemu.NIC{{Services: []qemu.GuestService{{Address: backupAt, To: d.server}}}}
	}
	c.Extra = []string{"-fw_cfg", "name=" + fwcfgName + ",string=" + strings.ReplaceAll(words, ",", ",,")}
	vm, err := qemu.Start(ctx, c)
	if err != nil {
		return err
	}
	defer vm.Kill()
	d.res.Accel = string(vm.Accel())
	// The boot menu's first entry is the local disk: choose the automatic
	// recovery as a person would.
	if err := d.chooseAuto(ctx, vm, 0); err != nil {
		d.shot(ctx, vm, "boot-failed.png")
		d.res.Why = err.Error()
		return err
	}
	if err := d.followEvents(ctx, vm); err != nil {
		d.shot(ctx, vm, "recovery-failed.png")
		d.res.Why = err.Error()
		return err
	}
	if d.last.Exit != report.ExitOK {
		d.shot(ctx, vm, "recovery-failed.png")
		d.res.Why = fmt.Sprintf("the recovery ended with exit code %d", d.last.Exit)
		if len(d.last.Problems) > 0 {
			d.res.Why += ": " + d.last.Problems[0].Line()
		}
		return nil
	}
	if err := vm.Wait(ctx); err != nil {
		d.res.Why = "the rescue system did not restart the machine: " + err.Error()
		return err
	}
	return nil
}

// followEvents reads the rescue system's events until it is done.
func (d *drill) followEvents(ctx context.Context, vm *qemu.VM) error {
	port := vm.Port(PortEvents)
	mark := 0
	re := regexp.MustCompile(`(?m)^(\{.*\})$`)
	for {
		m, next, err := port.Wait(ctx, mark, re)
		if err != nil {
			return fmt.Errorf("the rescue system fell silent: %w", err)
		}
		mark = next
		var e report.Event
		if json.Unmarshal([]byte(m[1]), &e) != nil {
			continue
		}
		d.o.Sink.Emit(e)
		if d.o.During != nil {
			err := d.o.During(ctx, vm, e)
			if errors.Is(err, ErrReset) {
				err = d.chooseAuto(ctx, vm, mark)
			}
			if err != nil {
				return err
			}
		}
		if e.Kind == report.Ask && e.Step != "" && strings.Contains(string(e.Data), `"kind":"key"`) {
			seen, cancel := context.WithTimeout(ctx, 3*time.Second)
			_ = vm.WaitSerial(seen, "any key stops") // the screen shows the same
			cancel()
			d.shot(ctx, vm, "countdown.png")
		}
		if e.Kind == report.Done {
			r := new(report.Result)
			if err := json.Unmarshal(e.Data, r); err != nil {
				return fmt.Errorf("the rescue system's result cannot be read: %w", err)
			}
			d.last, d.res.Recovery = r, r
			return nil
		}
	}
}

func (d *drill) shot(ctx context.Context, vm *qemu.VM, name string) {
	p := filepath.Join(d.o.Dir, name)
	if err := vm.Screenshot(ctx, p); err == nil {
		d.res.Shots = append(d.res.Shots, p)
	}
}

// firstBoot starts the restored disks alone, without any network, and waits
// for the restored system's own word.
func (d *drill) firstBoot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.o.Patience)
	defer cancel()
	c := d.config("restored")
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	if d.o.Stays {
		c.Drives = append(c.Drives, d.medium)
	}
	c.Ports = []qemu.Port{{Name: PortReport, File: filepath.Join(d.o.Dir, "system.json")}}
	vm, err := qemu.Start(ctx, c)
	if err != nil {
		return err
	}
	defer vm.Kill()
	if d.o.Watch != nil {
		if err := d.o.Watch(ctx, vm); err != nil {
			d.shot(ctx, vm, "restored-failed.png")
			d.res.Why = "the start of the restored system: " + err.Error()
			return err
		}
	}
	m, _, err := vm.Port(PortReport).Wait(ctx, 0, regexp.MustCompile(`(?s)(\{.*\})\s*END`))
	if err != nil {
		d.shot(ctx, vm, "restored-failed.png")
		d.res.Why = "the restored system did not report: " + err.Error()
		return err
	}
	d.res.System = new(System)
	if err := json.Unmarshal([]byte(m[1]), d.res.System); err != nil {
		return fmt.Errorf("the restored system's report cannot be read: %w", err)
	}
	d.loginShot(ctx, vm)
	_ = vm.PowerButton(ctx)
	off, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	_ = vm.Wait(off) // a system that ignores the button is stopped by Kill
	return nil
}

// loginShot waits for the screen to come to rest at the login prompt.
func (d *drill) loginShot(ctx context.Context, vm *qemu.VM) {
	p := filepath.Join(d.o.Dir, "login.png")
	var last []byte
	still := 0
	deadline := time.Now().Add(60 * time.Second)
	for time.Now().Before(deadline) && still < 3 {
		if vm.Screenshot(ctx, p) != nil {
			return
		}
		now, err := os.ReadFile(p)
		if err != nil {
			return
		}
		if string(now) == string(last) {
			still++
		} else {
			still = 0
		}
		last = now
		select {
		case <-ctx.Done():
			return
		case <-time.After(700 * time.Millisecond):
		}
	}
	d.res.Shots = append(d.res.Shots, p)
}

// judge compares what the restored system says with the manifest.
func (d *drill) judge() {
	s := d.res.System
	have := map[string]bool{}
	for _, m := range s.Mounts {
		have[m] = true
	}
	for _, m := range d.m.Storage.Mounts {
		if m.Live && m.Path != "none" && m.Backup == manifest.ScopeFull && !have[string(m.Path)] {
			d.res.Missing = append(d.res.Missing, string(m.Path))
		}
	}
	d.res.FailUnits = s.Failed
	swaps := 0
	for _, m := range d.m.Storage.Mounts {
		if m.Live && m.Type == "swap" {
			swaps++
		}
	}
	switch {
	case s.Hostname != d.m.Host.Name:
		d.res.Why = fmt.Sprintf("the restored system calls itself %q, not %q", s.Hostname, d.m.Host.Name)
	case len(d.res.Missing) > 0:
		d.res.Why = "the restored system lacks the mounts " + strings.Join(d.res.Missing, ", ")
	case len(s.Swaps) < swaps:
		d.res.Why = fmt.Sprintf("the restored system uses %d of %d swaps: %s", len(s.Swaps), swaps, strings.Join(s.Swaps, ", "))
	default:
		d.res.Passed = true
	}
}

// Lines reads JSON lines, for the tests of what the drill kept.
func Lines(path string) ([]report.Event, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []report.Event
	in := bufio.NewScanner(f)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e report.Event
		if json.Unmarshal(in.Bytes(), &e) == nil {
			out = append(out, e)
		}
	}
	return out, in.Err()
}
