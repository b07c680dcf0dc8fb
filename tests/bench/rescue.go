package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"lifeboat/drill/qemu"
	"lifeboat/internal/run"
	"lifeboat/report"
	"lifeboat/tests/lab"
)

// rearConf is what a ReaR user with a backup of his own sets: defaults else.
// The guest asks no name server, which ReaR must be told.
const rearConf = "OUTPUT=ISO\nBACKUP=REQUESTRESTORE\nUSE_RESOLV_CONF=no\n"

// image is one way to make a rescue image, as measured in the guest.
type image struct {
	name      string
	command   string
	runs      int
	times     []time.Duration
	cpu       []time.Duration
	size      int64
	initramfs int64
}

// rescues measures mkrescue of both in one guest, one after the other.
func (b *bench) rescues(ctx context.Context) error {
	disk := filepath.Join(b.dir, "source.raw")
	defer os.Remove(disk)
	if err := b.makeGuest(ctx, disk); err != nil {
		return err
	}
	b.out.Info("rescue: the guest starts")
	vm, err := lab.Start(ctx, qemu.Config{Name: "bench", Memory: 1 << 30, NoReboot: true,
		Drives: []qemu.Drive{{File: disk, Interface: qemu.Virtio}}, NICs: []qemu.NIC{{}}})
	if err != nil {
		return err
	}
	defer vm.Kill()
	if err := vm.Agent(ctx); err != nil {
		return err
	}
	if err := vm.Put(ctx, b.binary, "/usr/local/sbin/lifeboat", 0o755); err != nil {
		return err
	}
	if _, err := vm.Run(ctx, "systemctl is-system-running --wait >/dev/null; printf "+run.Quote([]string{rearConf})+" >/etc/rear/local.conf"); err != nil {
		return err
	}
	images := []*image{
		{name: "lifeboat, modules: host", command: "lifeboat mkrescue --json --modules host", runs: 3},
		{name: "lifeboat, modules: universal", command: "lifeboat mkrescue --json --modules universal", runs: 3},
		{name: "lifeboat, modules: all", command: "lifeboat mkrescue --json --modules all", runs: 1},
		{name: "ReaR", command: "rear mkrescue", runs: 1},
	}
	// ReaR first: it is what may refuse to work, and the others take long.
	for _, im := range slices.Backward(images) {
		for range im.runs {
			if err := b.makeImage(ctx, vm, im); err != nil {
				return fmt.Errorf("%s: %w", im.command, err)
			}
		}
	}
	version, err := vm.Run(ctx, "rear --version")
	if err != nil {
		return err
	}
	how, _ := qemu.DefaultAccel(ctx, run.Exec{})
	b.rescueReport(images, strings.TrimSpace(string(version.Stdout)), how)
	return vm.PowerOff(ctx)
}

func (b *bench) makeGuest(ctx context.Context, disk string) error {
	l, err := lab.Open(ctx, b.out.Info)
	if err != nil {
		return err
	}
	src, err := l.MakeSource(ctx, lab.BIOSLayout())
	if err != nil {
		return err
	}
	// ReaR refuses to start without file, on which its package does not depend.
	with, err := l.WithPackages(ctx, src, "rear", "file")
	if err != nil {
		return fmt.Errorf("install ReaR in the guest: %w", err)
	}
	return with.Copy(ctx, disk)
}

// timed runs a command with bash's own clock. The last line of its output has
// real, user and system seconds.
const timed = `TIMEFORMAT='%%R %%U %%S'; { time %s >/run/bench.out 2>/run/bench.err; } 2>/run/bench.time; code=$?
cat /run/bench.time; [ $code = 0 ] || { tail -n 20 /run/bench.out /run/bench.err >&2; exit $code; }`

func (b *bench) makeImage(ctx context.Context, vm *lab.Machine, im *image) error {
	b.out.Info("rescue: %s (minutes, in emulation)", im.command)
	r, err := vm.Run(ctx, fmt.Sprintf(timed, im.command))
	if err != nil {
		return err
	}
	real, cpu, err := parseTime(string(r.Stdout))
	if err != nil {
		return err
	}
	im.times, im.cpu = append(im.times, real), append(im.cpu, cpu)
	if im.name == "ReaR" {
		im.size, im.initramfs, err = b.rearSizes(ctx, vm)
	} else {
		im.size, im.initramfs, err = b.ourSizes(ctx, vm)
	}
	b.out.Info("rescue: %.1f s, %.1f s CPU, image %d MiB", real.Seconds(), cpu.Seconds(), im.size>>20)
	return err
}

func parseTime(s string) (real, cpu time.Duration, err error) {
	f := strings.Fields(s)
	if len(f) != 3 {
		return 0, 0, fmt.Errorf("the guest's time gave %q", s)
	}
	var t [3]time.Duration
	for i := range f {
		secs, err := strconv.ParseFloat(f[i], 64)
		if err != nil {
			return 0, 0, fmt.Errorf("the guest's time gave %q", s)
		}
		t[i] = time.Duration(secs * float64(time.Second))
	}
	return t[0], t[1] + t[2], nil
}

// ourSizes reads what mkrescue --json said.
func (b *bench) ourSizes(ctx context.Context, vm *lab.Machine) (size, initramfs int64, err error) {
	r, err := vm.Run(ctx, "cat /run/bench.out")
	if err != nil {
		return 0, 0, err
	}
	var doc struct {
		Rescue struct {
			Initramfs int64
			Media     []struct{ Bytes int64 }
		}
	}
	// A stream of events, and after them the document.
	for d := json.NewDecoder(bytes.NewReader(r.Stdout)); ; {
		var one json.RawMessage
		if err := d.Decode(&one); err == io.EOF {
			break
		} else if err != nil {
			return 0, 0, fmt.Errorf("what mkrescue --json said: %w", err)
		}
		var e report.Event
		if json.Unmarshal(one, &e) == nil && e.Kind == report.Finished {
			b.out.Info("rescue:   %6.1f s  %s", float64(e.Millis)/1000, e.Text)
		}
		if err := json.Unmarshal(one, &doc); err != nil {
			return 0, 0, fmt.Errorf("what mkrescue --json said: %w", err)
		}
	}
	if len(doc.Rescue.Media) != 1 {
		return 0, 0, fmt.Errorf("mkrescue made %d media instead of one", len(doc.Rescue.Media))
	}
	return doc.Rescue.Media[0].Bytes, doc.Rescue.Initramfs, nil
}

// rearSizes looks into ReaR's ISO with the xorriso that made it.
func (b *bench) rearSizes(ctx context.Context, vm *lab.Machine) (size, initramfs int64, err error) {
	r, err := vm.Run(ctx, `iso=$(ls /var/lib/rear/output/*.iso); stat -c %s "$iso"
xorriso -indev "$iso" -find / -type f -name 'initrd*' -exec lsdl -- 2>/dev/null | awk '/initrd/ { print $5 }'`)
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscan(string(r.Stdout), &size, &initramfs); err != nil {
		return 0, 0, fmt.Errorf("look into ReaR's image: %q: %w", r.Stdout, err)
	}
	return size, initramfs, nil
}

func middleTime(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

func (b *bench) rescueReport(images []*image, rear string, how qemu.Accel) {
	t := table{head: []string{"rescue image", "s", "CPU s", "runs", "image MiB", "initramfs MiB"}}
	mib := func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }
	for _, im := range images {
		t.add(im.name, fmt.Sprintf("%.1f", middleTime(im.times).Seconds()), fmt.Sprintf("%.1f", middleTime(im.cpu).Seconds()),
			fmt.Sprint(im.runs), mib(im.size), mib(im.initramfs))
	}
	b.say("## Rescue image\n\nBoth in one guest, a running Debian server with 2 CPUs and 1 GiB of memory in QEMU (%s), by the guest's own clock; medians.\n%s as Debian packages it, with "+
		"OUTPUT=ISO and defaults.\n\n%s", strings.ToUpper(string(how)), rear, t.String())
	host, universal, theirs := images[0], images[1], images[len(images)-1]
	ratio := middleTime(theirs.times).Seconds() / middleTime(universal.times).Seconds()
	b.bar(ratio >= 10, "mkrescue (universal, the default) in a tenth of ReaR's time", "1/%.1f", ratio)
	ratio = middleTime(theirs.times).Seconds() / middleTime(host.times).Seconds()
	b.bar(ratio >= 10, "mkrescue (host) in a tenth of ReaR's time", "1/%.1f", ratio)
	b.bar(host.initramfs <= 40<<20, "initramfs of host at most 40 MiB", "%s MiB", mib(host.initramfs))
	b.bar(universal.initramfs <= 64<<20, "initramfs of universal at most 64 MiB", "%s MiB", mib(universal.initramfs))
}
