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
	"lifeboat/tests/lab"
)

// TestCheck is a server's year in a quarter of an hour: systemd backs it up
// and checks it by the units of the package, its storage changes, its backup
// gets lost, its clock goes on.
func TestCheck(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 14*time.Minute)
	defer cancel()
	proven(t, "check, checklayout and the systemd units on a server that changes")
	phase := phases(t)
	store := t.TempDir()
	vm := checkedServer(ctx, t, store)
	phase("the server started")
	// say runs a command and gives what it printed, which must end as told.
	say := func(script string, code int, texts ...string) {
		t.Helper()
		res, err := vm.Run(ctx, script)
		out := string(res.Stdout) + string(res.Stderr)
		if res.Code != code || err != nil && code == 0 {
			t.Errorf("%s: exit code %d instead of %d, %v\n%s", script, res.Code, code, err, out)
		}
		for _, want := range texts {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is not in\n%s", script, want, out)
			}
		}
		t.Logf("%s\n%s", script, out)
	}
	say("lifeboat check", 2, "LIFEBOAT CRITICAL - no rescue image was made")
	say("lifeboat checklayout", 1, "no rescue image was made")
	say("systemctl start lifeboat-backup.service; code=$?; journalctl -q -o cat -u lifeboat-backup.service; exit $code", 0, "The rescue image is made again", "backup ")
	phase("backed up by its unit")
	// What the service saw is what a person sees, or drift would never end.
	say("lifeboat check", 0, "LIFEBOAT OK - ", "this host has not changed since | image_age=")
	say("lifeboat checklayout", 0)
	say("systemctl start lifeboat-check.service; code=$?; journalctl -q -o cat -u lifeboat-check.service; exit $code", 0, "LIFEBOAT OK - ")
	say("lifeboat mkrescue --if-changed", 0, "nothing changed since")
	phase("checked by its unit")
	say(`lvcreate -q -y -Wn -n late -L 64m vg-data-a && mkfs.ext4 -q /dev/vg-data-a/late && mkdir /srv/late &&
echo '/dev/vg-data-a/late /srv/late ext4 defaults 0 2' >>/etc/fstab && mount /srv/late`, 0)
	say("lifeboat check", 1, "LIFEBOAT WARNING - changed since the rescue image was made", "logical volume vg-data-a/late is new", "not in the backup: /srv/late")
	say("lifeboat checklayout", 1, "logical volume vg-data-a/late is new", "mount /srv/late is new")
	say("systemctl start lifeboat-check.service; systemctl is-failed lifeboat-check.service", 0, "failed")
	say("umount /srv/late && lvremove -q -y vg-data-a/late && sed -i '/late/d' /etc/fstab", 0)
	say("lifeboat checklayout", 0)
	phase("storage changed and changed back")
	say("date -s +3days >/dev/null; lifeboat check --quiet", 1, "LIFEBOAT WARNING - the backup is ", "the limit is 2d")
	say("date -s +3days >/dev/null; lifeboat check --quiet", 2, "LIFEBOAT CRITICAL - the backup is ")
	archives, _ := filepath.Glob(filepath.Join(store, "*", "*.lba"))
	if len(archives) != 1 {
		t.Fatalf("archives: %v", archives)
	}
	if err := os.Truncate(archives[0], 1<<20); err != nil {
		t.Fatal(err)
	}
	say("date -s -6days >/dev/null; lifeboat check --quiet", 2, "cut short")
	if err := os.Remove(archives[0]); err != nil {
		t.Fatal(err)
	}
	say("lifeboat check --quiet --json", 2, `"state": "CRITICAL"`, "holds no archive of")
	say("rm /var/lib/lifeboat/output/*.iso; lifeboat check", 2, "is gone")
	phase("backup and image lost")
}

// checkedServer starts the laboratory's server with lifeboat and its units.
func checkedServer(ctx context.Context, t *testing.T, store string) *lab.Machine {
	t.Helper()
	_, src := sourceOf(ctx, t, lab.BIOSLayout())
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if err := src.Copy(ctx, disk); err != nil {
		t.Fatal(err)
	}
	vm, err := lab.Start(ctx, qemu.Config{Name: "checked", Memory: 1 << 30, NoReboot: true, Firmware: src.Layout.Firmware,
		Drives: []qemu.Drive{{File: disk, Interface: qemu.Virtio}},
		NICs:   []qemu.NIC{{Services: []qemu.GuestService{{Address: storeAt, To: serve(t, store)}}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vm.Kill)
	if err := vm.Agent(ctx); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "lifeboat.yaml")
	if err := os.WriteFile(conf, []byte("modules: host\nbackup: {url: \"http://"+storeAt+"\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	put := map[string]string{product: "/usr/local/sbin/lifeboat", conf: "/etc/lifeboat/lifeboat.yaml"}
	units, _ := filepath.Glob("../../packaging/systemd/lifeboat-*")
	for _, u := range units {
		put[u] = "/etc/systemd/system/" + filepath.Base(u)
	}
	if err := inGuest(ctx, vm, "mkdir -p /etc/lifeboat"); err != nil {
		t.Fatal(err)
	}
	for from, to := range put {
		mode := os.FileMode(0o644)
		if from == product {
			mode = 0o755
		}
		if err := vm.Put(ctx, from, to, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := inGuest(ctx, vm, "timedatectl set-ntp false 2>/dev/null; systemctl daemon-reload && systemctl enable --now lifeboat-check.timer && systemctl list-timers --all lifeboat-check.timer | grep -q lifeboat-check && systemctl disable --now lifeboat-check.timer"); err != nil {
		t.Fatal(err)
	}
	return vm
}
