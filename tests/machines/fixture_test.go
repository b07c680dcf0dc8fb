//go:build machines

package machines

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lifeboat/backup"
	"lifeboat/drill/qemu"
	"lifeboat/tests/lab"
)

// product is what `make` builds.
const product = "../../build/lifeboat"

// storeAt is where guests find the archive server of the test.
const storeAt = "10.0.2.100:8080"

// made is a server that backed itself up with the lifeboat of this tree.
type made struct {
	lab    *lab.Lab
	source *lab.Source
	iso    string // the image that it made, or the stick
	store  string // directory of the archive server, or "usb:"
	disk   string // the server's disk after it was shut down
	log    string // what mkbackup printed
	kept   *lab.Kept
}

// in names the parts of a fixture in its folder.
func (m *made) in(dir string) *made {
	m.iso, m.store = filepath.Join(dir, "image.iso"), filepath.Join(dir, "store")
	m.disk, m.log = filepath.Join(dir, "disk.raw"), filepath.Join(dir, "mkbackup.log")
	return m
}

var fixture struct {
	sync.Mutex
	made map[string]*made // by server.name
}

// recoveryFixture lets the laboratory's server back itself up, once for all
// scenarios.
func recoveryFixture(ctx context.Context, t *testing.T) *made {
	t.Helper()
	return fixtureOf(ctx, t, server{name: "bios", layout: lab.BIOSLayout()})
}

// server is a system that backs itself up.
type server struct {
	name    string // of the fixture
	layout  lab.Layout
	prepare string // shell, run in it before
	stick   *onStick
	image   string // the image that is fetched, in it; "" is the one that mkbackup makes
}

// onStick: image and backup go onto a stick instead of into folder and store.
type onStick struct {
	prepare  func(t *testing.T, path string) // makes the stick as it is before
	settings string                          // what is not told of every server
	command  string                          // backs up; the stick is stickDev
}

// The stick in the server.
const (
	stickSerial = "STICK-0001"
	stickDev    = "/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_" + stickSerial + "-0:0"
)

// fixtureOf lets a server back itself up, once for all scenarios. It is kept
// beside the other fixtures, named by the program and the source that it was
// made with; the newest two of each kind stay.
func fixtureOf(ctx context.Context, t *testing.T, sv server) *made {
	t.Helper()
	fixture.Lock()
	defer fixture.Unlock()
	if m := fixture.made[sv.name]; m != nil {
		return m
	}
	l, s := sourceOf(ctx, t, sv.layout)
	key := sha256.New()
	f, err := os.Open(product)
	if err != nil {
		t.Fatalf("%v; run make", err)
	}
	defer f.Close()
	if _, err := io.Copy(key, f); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(key, filepath.Base(filepath.Dir(s.Disk)), sv.prepare)
	if sv.stick != nil {
		fmt.Fprint(key, sv.stick.settings, sv.stick.command)
	}
	m := &made{lab: l, source: s}
	m.kept, err = l.Keep(ctx, "backup-"+sv.name, hex.EncodeToString(key.Sum(nil))[:16], func(dir string) error {
		if err := os.Chmod(dir, 0o700); err != nil {
			return err
		}
		if err := os.Mkdir(m.in(dir).store, 0o700); err != nil {
			return err
		}
		m.backUp(ctx, t, sv)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	m.in(m.kept.Dir)
	if sv.stick != nil {
		m.store = backup.USB
	}
	if fixture.made == nil {
		fixture.made = map[string]*made{}
	}
	fixture.made[sv.name] = m
	return m
}

// serve runs an archive server on a directory and returns its address.
func serve(t *testing.T, dir string) string {
	t.Helper()
	srv, err := backup.NewServer(dir, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: srv, ReadHeaderTimeout: time.Minute}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// backUp boots a copy of the source and runs `lifeboat mkbackup` in it.
func (m *made) backUp(ctx context.Context, t *testing.T, sv server) {
	t.Helper()
	phase := phases(t)
	if err := m.source.Copy(ctx, m.disk); err != nil {
		t.Fatal(err)
	}
	addr := serve(t, m.store)
	drives := []qemu.Drive{{File: m.disk, Interface: qemu.Virtio}}
	settings, command := "backup: {url: \"http://"+storeAt+"\"}\n", "lifeboat mkbackup"
	if sv.stick != nil {
		sv.stick.prepare(t, m.iso)
		drives[0].Boot = 1 // before the stick, which starts as well
		drives = append(drives, qemu.Drive{File: m.iso, Interface: qemu.USB, Serial: stickSerial, Removable: true})
		settings, command = sv.stick.settings, sv.stick.command
	}
	vm, err := lab.Start(ctx, qemu.Config{Name: "source", Memory: 1 << 30, NoReboot: true, Firmware: sv.layout.Firmware, Drives: drives,
		NICs: []qemu.NIC{{Services: []qemu.GuestService{{Address: storeAt, To: addr}}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Kill()
	if err := vm.Agent(ctx); err != nil {
		t.Fatal(err)
	}
	phase("the server started")
	conf := filepath.Join(t.TempDir(), "lifeboat.yaml")
	if err := os.WriteFile(conf, []byte(settings+"recover: {mode: auto}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		vm.Put(ctx, product, "/usr/local/sbin/lifeboat", 0o755),
		inGuest(ctx, vm, "mkdir -p /etc/lifeboat"),
		vm.Put(ctx, conf, "/etc/lifeboat/lifeboat.yaml", 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if sv.name == "bios" {
		m.refusesOwnDisk(ctx, t, vm)
	}
	if sv.prepare != "" {
		if err := inGuest(ctx, vm, sv.prepare); err != nil {
			t.Fatal(err)
		}
		phase("prepared")
	}
	log, err := os.Create(m.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	code, err := vm.Stream(ctx, command, log, log)
	if err != nil || code != 0 {
		text, _ := os.ReadFile(m.log)
		t.Fatalf("%s: exit code %d, %v\n%s", command, code, err, text)
	}
	phase("lifeboat mkbackup")
	if sv.stick == nil {
		res, err := vm.Run(ctx, "echo "+cmp.Or(sv.image, "/var/lib/lifeboat/output/*.iso"))
		if err != nil {
			t.Fatal(err)
		}
		if err := vm.Get(ctx, strings.TrimSpace(string(res.Stdout)), m.iso); err != nil {
			t.Fatal(err)
		}
	}
	if err := vm.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	phase("the image fetched, the server shut down")
}

// refusesOwnDisk: a backup onto a disk that a recovery erases is none.
func (m *made) refusesOwnDisk(ctx context.Context, t *testing.T, vm *lab.Machine) {
	t.Helper()
	res, err := vm.Run(ctx, `mkdir -p /srv/data/backup
printf 'backup: {url: /srv/data/backup}\n' >/tmp/own.yaml
lifeboat mkbackuponly --config /tmp/own.yaml; code=$?
find /srv/data/backup -type f; rmdir /srv/data/backup; rm /tmp/own.yaml
exit $code`)
	if res.Code != 2 || len(res.Stdout) != 0 || !strings.Contains(string(res.Stderr), "which a recovery of this host erases") {
		t.Errorf("a backup onto the host's own disk: exit code %d, %v, %s%s", res.Code, err, res.Stdout, res.Stderr)
	}
}

func inGuest(ctx context.Context, vm *lab.Machine, script string) error {
	_, err := vm.Run(ctx, script)
	return err
}
