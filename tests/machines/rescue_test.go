//go:build machines

package machines

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/drill"
	"lifeboat/drill/qemu"
	"lifeboat/report"
)

// rescueVM is a rescue system that waits in its menu, with a shell on the
// serial console.
type rescueVM struct {
	*qemu.VM
	t      *testing.T
	ctx    context.Context
	mark   int            // of the events' port: what was read
	n      int            // of the shell's commands
	result *report.Result // of the last run, see type_
	shown  int            // of the console: prompts that were answered
}

// bootRescue boots an image whose order gets more words, and waits for its
// menu.
func bootRescue(ctx context.Context, t *testing.T, image, words string, c qemu.Config) *rescueVM {
	t.Helper()
	r := startRescue(ctx, t, image, words, c)
	r.menu()
	return r
}

// startRescue boots an image whose order gets more words.
func startRescue(ctx context.Context, t *testing.T, image, words string, c qemu.Config) *rescueVM {
	t.Helper()
	c.Drives = append(c.Drives, qemu.Drive{ID: "medium", File: image, Interface: qemu.CDROM, Boot: 1})
	c.Ports = append(c.Ports, qemu.Port{Name: drill.PortEvents})
	c.Extra = append(c.Extra, "-fw_cfg", "name=opt/org.lifeboat/cmdline,string="+words)
	vm, err := qemu.Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	r := &rescueVM{VM: vm, t: t, ctx: ctx}
	t.Cleanup(vm.Kill)
	if err := vm.WaitSerial(ctx, "step by step"); err != nil {
		t.Fatal(err)
	}
	if err := vm.SendKeys(ctx, "s"); err != nil { // what the firmware adds wins
		t.Fatal(err)
	}
	return r
}

var jsonLine = regexp.MustCompile(`(?m)^(\{.*\})$`)

// event waits for the next event.
func (r *rescueVM) event() report.Event {
	r.t.Helper()
	for {
		m, next, err := r.Port(drill.PortEvents).Wait(r.ctx, r.mark, jsonLine)
		if err != nil {
			r.t.Fatalf("%v\nthe end of the console:\n%s", err, lastOf(r.Console().Text(), 3000))
		}
		r.mark = next
		var e report.Event
		if json.Unmarshal([]byte(m[1]), &e) == nil {
			return e
		}
	}
}

func lastOf(s string, n int) string { return s[max(0, len(s)-n):] }

// asks tells whether e puts a question of that kind.
func asks(e report.Event, kind string) bool {
	return e.Kind == report.Ask && bytes.Contains(e.Data, []byte(`"kind":"`+kind+`"`))
}

// menu waits until the worker asks what to do: it takes requests then.
func (r *rescueVM) menu() {
	r.t.Helper()
	for !asks(r.event(), "menu") {
	}
}

// openShell leaves the serial console's menu for a shell.
func (r *rescueVM) openShell() {
	r.t.Helper()
	if err := openShell(r.ctx, r.VM, "s\n"); err != nil {
		r.t.Fatal(err)
	}
}

// openShell types the keys that leave the console for a shell, and waits for
// its prompt: what is typed before is the console's.
func openShell(ctx context.Context, vm *qemu.VM, keys string) error {
	ctx, cancel := soon(ctx, time.Minute)
	defer cancel()
	mark := vm.Console().Mark()
	if _, err := vm.Console().Write([]byte(keys)); err != nil {
		return err
	}
	_, _, err := vm.Console().Wait(ctx, mark, regexp.MustCompile(`(?s)Shell; exit comes back.*# `))
	return err
}

// sh runs a command in the shell; it must succeed.
func (r *rescueVM) sh(command string) string {
	r.t.Helper()
	r.n++
	mark := r.Console().Mark()
	// The quotes keep the echo of the line from looking like its end.
	if _, err := fmt.Fprintf(r.Console(), "%s; echo END''-%d-$?-\n", command, r.n); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := soon(r.ctx, time.Minute)
	defer cancel()
	m, _, err := r.Console().Wait(ctx, mark, regexp.MustCompile(fmt.Sprintf(`(?s)(.*)END-%d-(\d+)-`, r.n)))
	if err != nil {
		r.t.Fatal(err)
	}
	if code, _ := strconv.Atoi(m[2]); code != 0 {
		r.t.Fatalf("%s: exit status %d\n%s", command, code, m[1])
	}
	return m[1]
}

// plug plugs a virtio disk in and waits until the guest has seen it.
func (r *rescueVM) plug(id, file, serial string) {
	r.t.Helper()
	if err := r.AddDrive(r.ctx, qemu.Drive{ID: id, File: file, Interface: qemu.Virtio, Serial: serial}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rescueVM) pull(id string) {
	r.t.Helper()
	if err := r.RemoveDrive(r.ctx, id); err != nil {
		r.t.Fatal(err)
	}
}

// disks waits in the shell until the guest sees n virtio disks.
func (r *rescueVM) disks(n int) {
	r.t.Helper()
	r.sh(fmt.Sprintf(`for i in {1..100}; do d=(/sys/block/vd*); [ -e "${d[0]}" ] || d=(); [ ${#d[@]} = %d ] && break; sleep .2; done; [ ${#d[@]} = %d ]`, n, n))
}

// recoverAuto asks for an unattended recovery by a command line in the shell
// and returns how it ended, with all its events. during sees each event.
func (r *rescueVM) recoverAuto(args string, during func(report.Event)) (*report.Result, []report.Event) {
	r.t.Helper()
	r.sh("lifeboat recover --auto " + args)
	var events []report.Event
	for {
		e := r.event()
		events = append(events, e)
		if during != nil {
			during(e)
		}
		if e.Kind != report.Done {
			continue
		}
		res := new(report.Result)
		if err := json.Unmarshal(e.Data, res); err != nil {
			r.t.Fatal(err)
		}
		r.menu()
		return res, events
	}
}

// blankDisk makes a blank disk of n bytes.
func blankDisk(t *testing.T, dir, name string, n int64) string {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := qemu.CreateRaw(p, n); err != nil {
		t.Fatal(err)
	}
	return p
}

// contentSum digests all bytes of a sparse file: blocks of zeros count by
// their absence, so that holes need not be read.
func contentSum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	fmt.Fprintln(h, st.Size())
	zero, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); at < st.Size(); {
		data, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		at = data - data%int64(len(b))
		n, err := f.ReadAt(b, at)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if !bytes.Equal(b[:n], zero[:n]) {
			fmt.Fprintln(h, at)
			h.Write(b[:n])
		}
		at += int64(n)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// soon bounds a part of a test.
func soon(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("not within %s", d))
}

// waitAfter waits until the console shows text after mark.
func waitAfter(ctx context.Context, vm *qemu.VM, mark int, text string) error {
	_, _, err := vm.Console().Wait(ctx, mark, regexp.MustCompile(regexp.QuoteMeta(text)))
	return err
}
