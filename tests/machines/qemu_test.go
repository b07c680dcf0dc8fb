//go:build machines

package machines

import (
	"context"
	"image/png"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"lifeboat/drill/qemu"
)

// TestQEMUDriver starts a guest that answers on a virtio port and checks what
// later tests build on: console, ports, closed network, hot-plugged drives,
// keys, pictures, reset and the end.
func TestQEMUDriver(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	kernel, _ := hostKernel(t)
	// The port gets a line for each block device and its serial that comes or
	// goes, and the answers of the network.
	initrd := miniInitrd(t, `
ifconfig lo up; ifconfig eth0 10.0.2.15 up; route add default gw 10.0.2.2
port=/dev/vport$(basename /sys/class/virtio-ports/vport* | sed s/vport//)
exec 3> $port
echo "SERVICE $(wget -q -O - http://10.0.2.100/hello)" >&3
wget -q -T 3 -O - http://10.0.2.2:$(sed 's/.*hostport=\([0-9]*\).*/\1/' /proc/cmdline)/hello && echo "HOST OPEN" >&3 || echo "HOST CLOSED" >&3
cat /proc/version > /run/version; httpd -p 8080 -h /run
(setsid sh -c 'exec < /dev/tty0; read -r line; echo "TYPED $line" >&3') &
while :; do
  now=$(for d in /sys/block/*; do s=$(cat $d/serial $d/device/serial $(readlink -f $d/device)/../../../../serial 2>/dev/null | head -1 | tr -d ' '); v=$(dd if=$d/device/vpd_pg80 bs=1 skip=4 2>/dev/null); echo "${d##*/}:$s$v:$(cat $d/queue/logical_block_size):$(cat $d/size)"; done | tr '\n' ' ')
  [ "$now" = "$old" ] || echo "DISKS $now" >&3
  old=$now; sleep 0.2
done`, "virtio_pci", "virtio_blk", "virtio_scsi", "virtio_console", "virtio_net", "sd_mod", "usb_storage", "xhci_pci", "nvme", "ahci", "i8042", "atkbd")

	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello from the host") }))
	defer host.Close()
	_, hostPort, _ := net.SplitHostPort(host.Listener.Addr().String())
	dir, work := pictures(t), t.TempDir()
	blank := func(name string) string {
		p := filepath.Join(work, name)
		if err := qemu.CreateRaw(p, 64<<20); err != nil {
			t.Fatal(err)
		}
		return p
	}
	port := freePort(t)
	v, err := qemu.Start(ctx, qemu.Config{
		Name: "driver test", Dir: dir, Memory: 512 << 20, HotplugSlots: 1, Log: t.Logf,
		Kernel: kernel, Initrd: initrd, Append: "console=ttyS0 console=tty0 rootfstype=ramfs net.ifnames=0 hostport=" + hostPort,
		Drives: []qemu.Drive{
			{File: blank("a"), Serial: "VIRT1"},
			{File: blank("b"), Interface: qemu.SCSI, Serial: "SCSI1", WWN: 0x5000c50012345678, SectorBytes: 4096},
			{File: blank("c"), Interface: qemu.NVMe, Serial: "NVME1"},
			{File: blank("d"), Interface: qemu.AHCI, Serial: "SATA1", Snapshot: true},
		},
		NICs: []qemu.NIC{{
			Forwards: []qemu.Forward{{HostPort: port, GuestPort: 8080}},
			Services: []qemu.GuestService{{Address: "10.0.2.100:80", To: host.Listener.Addr().String()}},
		}},
		Ports: []qemu.Port{{Name: "org.lifeboat.test", File: filepath.Join(dir, "port.log")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Kill()
	t.Logf("accelerator %s, pid %d", v.Accel(), v.Pid())
	if err := v.WaitSerial(ctx, "MINI-UP"); err != nil {
		t.Fatal(err)
	}
	p := v.Port("org.lifeboat.test")
	wait := func(mark int, re string) int {
		t.Helper()
		_, next, err := p.Wait(ctx, mark, regexp.MustCompile(re))
		if err != nil {
			t.Fatalf("%v\n%s", err, v.Console().Text())
		}
		return next
	}
	wait(0, `SERVICE hello from the host\n`)
	wait(0, `HOST CLOSED\n`)
	for _, d := range []string{`vda:VIRT1:512:131072`, `sd.:SCSI1:4096:131072`, `nvme0n1:NVME1:512:131072`, `sd.:SATA1 *:512:131072`} {
		wait(0, `DISKS .*`+d)
	}
	if b, err := get(ctx, port, "/version"); err != nil || !strings.Contains(b, "Linux version") {
		t.Errorf("forwarded port: %q, %v", b, err)
	}

	mark := p.Mark()
	for _, d := range []qemu.Drive{
		{ID: "hotvirt", File: blank("e"), Serial: "HOT1"},
		{ID: "hotscsi", File: blank("f"), Interface: qemu.SCSI, Serial: "HOT2"},
		{ID: "hotusb", File: blank("g"), Interface: qemu.USB, Serial: "HOT3", Removable: true},
	} {
		if err := v.AddDrive(ctx, d); err != nil {
			t.Fatal(err)
		}
		wait(mark, `DISKS .*`+d.Serial)
	}
	if err := v.AddDrive(ctx, qemu.Drive{ID: "more", File: blank("h")}); err == nil || !strings.Contains(err.Error(), "HotplugSlots") {
		t.Errorf("a drive without a slot: %v", err)
	}
	for _, id := range []string{"hotscsi", "hotvirt", "hotusb"} {
		mark = p.Mark()
		if err := v.RemoveDrive(ctx, id); err != nil {
			t.Fatal(err)
		}
		wait(mark, `DISKS `)
	}

	if err := v.Type(ctx, "Hello, \"World\" 42!\n"); err != nil {
		t.Fatal(err)
	}
	wait(0, `TYPED Hello, "World" 42!\n`)
	picture := filepath.Join(dir, "screen.png")
	if err := v.Screenshot(ctx, picture); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(picture)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if img, err := png.Decode(f); err != nil || img.Bounds().Dx() < 640 {
		t.Errorf("picture: %v", err)
	}

	events, text := v.QMP().Mark(), v.Console().Mark()
	if err := v.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := v.QMP().WaitEvent(ctx, events, func(e qemu.Event) bool { return e.Name == "RESET" }); err != nil {
		t.Fatal(err)
	}
	if _, _, err := v.Console().Wait(ctx, text, regexp.MustCompile("MINI-UP")); err != nil {
		t.Fatal(err)
	}
	if err := v.Quit(ctx); err != nil {
		t.Error(err)
	}
	if err := v.WaitSerial(ctx, "no such text"); !qemu.Ended(err) {
		t.Errorf("have %v", err)
	}
}

// TestQEMUFails: what QEMU itself says is in the error.
func TestQEMUFails(t *testing.T) {
	_, err := qemu.Start(t.Context(), qemu.Config{Accel: qemu.TCG, Extra: []string{"-device", "flux-capacitor"}})
	if err == nil || !strings.Contains(err.Error(), "flux-capacitor") {
		t.Errorf("have %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	v, err := qemu.Start(ctx, qemu.Config{Accel: qemu.TCG})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-v.Done()
	if _, err := os.Stat("/proc/" + strconv.Itoa(v.Pid())); err == nil {
		t.Error("the machine lives on after its context ended")
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func get(ctx context.Context, port int, path string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, "GET", "http://127.0.0.1:"+strconv.Itoa(port)+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}
