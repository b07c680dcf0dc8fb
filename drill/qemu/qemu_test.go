package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"lifeboat/internal/run"
)

// TestNetworkIsClosed: whatever a caller asks for, the guest's network is
// restricted, and without a card there is none.
func TestNetworkIsClosed(t *testing.T) {
	c := Config{NICs: []NIC{
		{Forwards: []Forward{{HostPort: 2222, GuestPort: 22}}},
		{Services: []GuestService{{Address: "10.0.2.100:80", To: "127.0.0.1:8000"}}},
	}}
	a, err := args(c, TCG, paths{dir: "/s"})
	if err != nil {
		t.Fatal(err)
	}
	nets := after(a, "-netdev")
	if len(nets) != 2 {
		t.Fatalf("want 2 networks, have %q", nets)
	}
	for _, n := range nets {
		if !strings.HasPrefix(n, "user,") || !strings.Contains(n, ",restrict=on") {
			t.Errorf("network %q is not restricted", n)
		}
	}
	if !strings.Contains(nets[0], "hostfwd=tcp:127.0.0.1:2222-:22") {
		t.Errorf("forward is missing or open to others: %q", nets[0])
	}
	if a, _ = args(Config{}, TCG, paths{}); !slices.Equal(after(a, "-nic"), []string{"none"}) {
		t.Errorf("a machine without cards must say -nic none: %q", a)
	}
	for _, to := range []string{"", "host", ":80", "h:80;reboot", "$(x):1"} {
		if _, err := nicArgs(Config{NICs: []NIC{{Services: []GuestService{{Address: "10.0.2.100:80", To: to}}}}}); err == nil {
			t.Errorf("service to %q was accepted", to)
		}
	}
}

func after(args []string, flag string) (values []string) {
	for i, a := range args {
		if a == flag {
			values = append(values, args[i+1])
		}
	}
	return values
}

func TestDrives(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a,b.img")
	if err := CreateRaw(file, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := CreateRaw(file, 1<<20); err == nil {
		t.Error("CreateRaw took over an existing file")
	}
	c := Config{Drives: []Drive{
		{File: file, Serial: "S,1", Boot: 1},
		{File: file, Interface: SCSI, WWN: 0x5000c50012345678, SectorBytes: 4096},
		{File: file, Interface: CDROM},
		{File: file, Interface: NVMe},
		{File: file, Interface: USB, Removable: true},
		{File: file, Snapshot: true},
	}}
	a, err := driveArgs(c)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(a, "\n")
	for _, want := range []string{
		`"serial":"S,1"`, `"bootindex":1`, fmt.Sprintf(`"wwn":%d`, uint64(0x5000c50012345678)), `"logical_block_size":4096`,
		`"physical_block_size":4096`, `"driver":"ide-cd"`, `"bus":"sata0.0"`, `"bus":"usb.0"`, `"removable":true`,
		`"serial":"nvme-drive3"`, "snapshot=on,file=" + strings.ReplaceAll(file, ",", ",,"),
		"virtio-scsi-pci,id=scsi", "qemu-xhci,id=usb",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("arguments lack %s:\n%s", want, all)
		}
	}
	for _, n := range after(a, "-blockdev") {
		if !json.Valid([]byte(n)) || !strings.Contains(n, `"no-flush":true`) {
			t.Errorf("bad block node %s", n)
		}
	}
	for _, bad := range []Drive{
		{File: file, Format: "vmdk"}, {File: file, Interface: "floppy"}, {File: file, WWN: 1},
		{File: file, Removable: true}, {File: file + ".not"},
	} {
		if _, err := driveArgs(Config{Drives: []Drive{bad}}); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func TestFirmware(t *testing.T) {
	root := t.TempDir()
	_, err := findFirmware(root, UEFISecureBoot)
	if err == nil || !strings.Contains(err.Error(), "install the package ovmf") {
		t.Errorf("missing firmware: %v", err)
	}
	if _, err := findFirmware(root, "coreboot"); err == nil {
		t.Error("an unknown firmware was accepted")
	}
	dir := filepath.Join(root, "usr/share/OVMF")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"OVMF_CODE.fd", "OVMF_VARS.fd", "OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"} {
		if err := os.WriteFile(filepath.Join(dir, n), []byte(n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := findFirmware(root, UEFI)
	if err != nil || filepath.Base(f.code) != "OVMF_CODE.fd" {
		t.Errorf("have %v, %v", f, err)
	}
	f, err = findFirmware(root, UEFISecureBoot)
	if err != nil || filepath.Base(f.code) != "OVMF_CODE_4M.secboot.fd" {
		t.Errorf("have %v, %v", f, err)
	}
	vars := filepath.Join(root, "vars")
	if err := prepareVars(f.vars, vars); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vars, []byte("changed by a guest"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := prepareVars(f.vars, vars); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(vars); string(b) != "changed by a guest" {
		t.Error("kept EFI variables were overwritten")
	}
	if m := machineArg(Config{Firmware: UEFISecureBoot}); m != "q35,smm=on" {
		t.Errorf("machine %s", m)
	}
}

func TestMissingQEMU(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Start(context.Background(), Config{})
	if err == nil || !strings.Contains(err.Error(), "install the package qemu-system-x86") {
		t.Errorf("have %v", err)
	}
	if !run.NotFound(err) {
		t.Errorf("the cause is lost: %v", err)
	}
}

func TestStream(t *testing.T) {
	here, guest := net.Pipe()
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	s := newStream("console", here, f)
	ctx := t.Context()
	go func() {
		for _, p := range []string{"GNU GRUB\x1b[", "4;1HRecover auto", "matically\r\n\x1b]0;title\x07login: "} {
			if _, err := guest.Write([]byte(p)); err != nil {
				t.Error(err)
			}
		}
	}()
	if err := s.WaitText(ctx, "Recover automatically\nlogin:"); err != nil {
		t.Fatal(err)
	}
	m, mark, err := s.Wait(ctx, 0, regexp.MustCompile(`(GRUB)\n`))
	if err != nil || m[1] != "GRUB" {
		t.Fatalf("%q, %v", m, err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err = s.Wait(done, mark, regexp.MustCompile("GRUB")); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "login:") {
		t.Errorf("old text was found again, or the error shows no last lines: %v", err)
	}
	guest.Close()
	if err := s.WaitText(ctx, "never"); !Ended(err) {
		t.Errorf("have %v", err)
	}
	if b, _ := os.ReadFile(path); !strings.Contains(string(b), "\x1b[4;1H") {
		t.Errorf("the file must keep every byte: %q", b)
	}
}

func FuzzCleaner(f *testing.F) {
	f.Add([]byte("a\x1b[1;2Hb"), 3)
	f.Add([]byte("\x1b]0;t\x1b\\x\x1b(B\r\n\x00"), 1)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		var whole, parts cleaner
		want := whole.append(nil, b)
		cut = max(0, min(cut, len(b)))
		have := parts.append(parts.append(nil, b[:cut]), b[cut:])
		if string(want) != string(have) {
			t.Errorf("cut at %d: %q, whole: %q", cut, have, want)
		}
		if strings.ContainsAny(string(have), "\x1b\r") {
			t.Errorf("escapes stay: %q", have)
		}
	})
}

func TestKeys(t *testing.T) {
	for r, want := range map[rune]string{'a': "a", 'Z': "shift z", '\n': "ret", '"': "shift apostrophe", '7': "7"} {
		k, err := keysFor(r)
		if err != nil || strings.Join(k, " ") != want {
			t.Errorf("%q: %v, %v", r, k, err)
		}
	}
	if _, err := keysFor('ß'); err == nil {
		t.Error("a key that no US keyboard has was accepted")
	}
}

func TestPPM(t *testing.T) {
	img, err := decodePPM([]byte("P6\n2 1\n255\n\xff\x00\x00\x0a\x20\x30"))
	if err != nil {
		t.Fatal(err)
	}
	// The second pixel begins with a byte that is white space in text.
	if r, g, b, _ := img.At(1, 0).RGBA(); r>>8 != 0x0a || g>>8 != 0x20 || b>>8 != 0x30 {
		t.Errorf("second pixel is %x %x %x", r>>8, g>>8, b>>8)
	}
}

func TestSettled(t *testing.T) {
	picture := func(dots ...image.Rectangle) image.Image {
		img := image.NewGray(image.Rect(0, 0, 640, 400))
		for _, d := range dots {
			draw.Draw(img, d, image.White, image.Point{}, draw.Src)
		}
		return img
	}
	menu, cursor, line := image.Rect(10, 10, 210, 60), image.Rect(0, 390, 9, 393), image.Rect(0, 300, 400, 302)
	for _, c := range []struct {
		name string
		a, b image.Image
		want bool
	}{
		{"empty", picture(), picture(), false},
		{"cursor alone", picture(cursor), picture(), false},
		{"menu", picture(menu), picture(menu), true},
		{"menu with a blinking cursor", picture(menu, cursor), picture(menu), true},
		{"another line", picture(menu), picture(menu, line), false},
		{"another mode", image.NewGray(image.Rect(0, 0, 720, 400)), picture(menu), false},
	} {
		if settled(c.a, c.b) != c.want {
			t.Errorf("%s: want %v", c.name, c.want)
		}
	}
}

func FuzzPPM(f *testing.F) {
	f.Add([]byte("P6\n2 1\n255\n\xff\x00\x00\x0a\x20\x30"))
	f.Add([]byte("P6 16384 16384 255 "))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = decodePPM(b) })
}
