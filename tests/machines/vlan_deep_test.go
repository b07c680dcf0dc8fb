//go:build machines && deep

package machines

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/drill/qemu"
	"lifeboat/report"
	"lifeboat/tests/lab"
)

// Addresses of the VLAN scenario.
const (
	vlanStore  = "10.7.0.1"
	vlanServer = "10.7.0.2"
	firstMAC   = "52:54:00:07:00:01"
	secondMAC  = "52:54:00:07:00:99"
)

// onVLAN is what the administrator of a server on a tagged VLAN writes: the
// card is found by its address and its name, so that both must come back.
const onVLAN = `
rm /etc/systemd/network/50-wired.network
card=$(basename "$(dirname /sys/class/net/*/device)")
cat >/etc/systemd/network/20-card.network <<END
[Match]
PermanentMACAddress=$(cat /sys/class/net/$card/address)
Name=$card

[Network]
VLAN=lan7
LinkLocalAddressing=no
END
printf '[NetDev]\nName=lan7\nKind=vlan\n\n[VLAN]\nId=7\n' >/etc/systemd/network/20-lan7.netdev
printf '[Match]\nName=lan7\n\n[Network]\nAddress=` + vlanServer + `/24\nGateway=` + vlanStore + `\n' >/etc/systemd/network/30-lan7.network
systemctl restart systemd-networkd
for i in $(seq 60); do ping -c 1 -W 1 ` + vlanStore + ` >/dev/null && break; done
ping -c 1 ` + vlanStore + ` >/dev/null
basename "$card"`

// Scenario 6: a server with a static address on a tagged VLAN, where no DHCP
// answers. The new machine's card has another address and another slot: the
// rescue system reaches the backup, and the restored server answers.
func TestVLAN(t *testing.T) {
	proven(t, "tagged VLAN, static address, no DHCP, a card with a new address in another slot")
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	phase := phases(t)
	store := t.TempDir()
	w := newWire(t, 7, vlanStore+"/24", store)
	iso, card, size := vlanBackup(ctx, t, w)
	phase("a server on a VLAN that backed itself up")

	disk := blankDisk(t, t.TempDir(), "new.raw", size)
	r := bootRescue(ctx, t, iso, "lifeboat.recover=menu lifeboat.then=stay", qemu.Config{Name: "vlan-rescue", Dir: pictures(t), Memory: 1 << 30, Log: t.Logf,
		Drives: []qemu.Drive{{File: disk, Interface: qemu.Virtio}}, Extra: w.card(secondMAC, "0x1a")})
	r.openShell()
	var said []string
	res, _ := r.recoverAuto("", func(e report.Event) {
		if e.Problem != nil && e.Problem.Severity != report.Info {
			said = append(said, e.Problem.Line())
		}
	})
	if res.Exit != report.ExitOK || res.State != "done" {
		t.Fatalf("the recovery: %+v\n%s", res, lastOf(r.Console().Text(), 4000))
	}
	t.Logf("problems: %q; phases: %+v", said, res.Phases)
	phase("recovery")
	if err := r.Quit(ctx); err != nil {
		t.Fatal(err)
	}

	vm, err := lab.Start(ctx, qemu.Config{Name: "vlan-restored", Memory: 1 << 30, NoReboot: true,
		Drives: []qemu.Drive{{File: disk, Interface: qemu.Virtio}}, Extra: w.card(secondMAC, "0x1a")})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Kill()
	boot, stop := soon(ctx, 5*time.Minute)
	defer stop()
	line, err := w.banner(boot, vlanServer+":22")
	if err != nil || !strings.HasPrefix(line, "SSH-2.0-") {
		t.Errorf("the restored server does not answer on its address: %q, %v\n%s", line, err, lastOf(vm.Console().Text(), 3000))
	}
	phase("the restored server answers")
	if err := vm.Agent(ctx); err != nil {
		t.Fatal(err)
	}
	out, err := vm.Run(ctx, "cat /sys/class/net/"+card+"/address; ip -br address; cat /etc/systemd/network/*; networkctl --no-pager status "+card)
	if err != nil || !strings.HasPrefix(string(out.Stdout), secondMAC+"\n") {
		t.Errorf("the card is not called %s: %v\n%s%s", card, err, out.Stdout, out.Stderr)
	}
	t.Logf("%s\nuntagged frames dropped: %d", out.Stdout, w.untagged.Load())
	if err := vm.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
}

// vlanBackup lets a server on the wire back itself up; it returns its image,
// what its card is called, and the size of its disk.
func vlanBackup(ctx context.Context, t *testing.T, w *wire) (iso, card string, size int64) {
	t.Helper()
	_, src := sourceOf(ctx, t, lab.BIOSLayout())
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if err := src.Copy(ctx, disk); err != nil {
		t.Fatal(err)
	}
	vm, err := lab.Start(ctx, qemu.Config{Name: "vlan-source", Memory: 1 << 30, NoReboot: true,
		Drives: []qemu.Drive{{File: disk, Interface: qemu.Virtio}}, Extra: w.card(firstMAC, "0x10")})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Kill()
	if err := vm.Agent(ctx); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "lifeboat.yaml")
	if err := os.WriteFile(conf, []byte("backup: {url: \"http://"+vlanStore+":8080\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	res, err := vm.Run(ctx, "set -eu; mkdir -p /etc/lifeboat"+onVLAN)
	if err != nil {
		t.Fatalf("%v\n%s%s", err, res.Stdout, res.Stderr)
	}
	card = strings.TrimSpace(string(res.Stdout))
	for _, err := range []error{vm.Put(ctx, product, "/usr/local/sbin/lifeboat", 0o755), vm.Put(ctx, conf, "/etc/lifeboat/lifeboat.yaml", 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if res, err = vm.Run(ctx, "lifeboat mkbackup && echo /var/lib/lifeboat/output/*.iso >&2"); err != nil {
		t.Fatalf("lifeboat mkbackup: %v\n%s%s", err, res.Stdout, res.Stderr)
	}
	lines := strings.Fields(string(res.Stderr))
	iso = filepath.Join(t.TempDir(), "image.iso")
	if err := vm.Get(ctx, lines[len(lines)-1], iso); err != nil {
		t.Fatal(err)
	}
	if err := vm.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(disk)
	if err != nil {
		t.Fatal(err)
	}
	return iso, card, st.Size()
}
