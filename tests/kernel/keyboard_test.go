//go:build kernel

package kernel

import (
	"os"
	"strings"
	"testing"

	"lifeboat/internal/cpio"
	"lifeboat/internal/handoff"
)

// A machine with nothing but a USB keyboard, a German one: the smallest choice
// of modules drives it, and the keys give what is printed on them, on the
// screen, while the serial line has its own session.
func TestUSBKeyboard(t *testing.T) {
	image, _ := kernelImage(t)
	keys, err := os.ReadFile("../../internal/tools/loadkeys/testdata/de.bkeymap")
	if err != nil {
		t.Fatal(err)
	}
	part := makePart(t, func(w *cpio.Writer) error {
		if err := w.File(strings.TrimPrefix(handoff.KeymapPath, "/"), 0o644, keys); err != nil {
			return err
		}
		return w.File("etc/lifeboat/order.json", 0o600, []byte(`{"id":"order-1","build_id":"b1","host":"packed","built":"2026-05-01T03:00:00Z","recover":"menu","then":"reboot","verify":"","keymap":"de","backup":{"method":"archive","url":"file:///nowhere/none.lba"},"net":{}}`))
	})
	m := boot(t, setup{name: "usb-keyboard", segments: [][]byte{packedWith(t, strings.TrimPrefix(image, "/boot/vmlinuz-"), "host"), part},
		noConsole: true, append: "console=tty0 console=ttyS0 quiet", memory: 2 << 30,
		extra: []string{"-machine", "i8042=off", "-device", "qemu-xhci,id=keyboard-bus", "-device", "usb-kbd,bus=keyboard-bus.0"}})
	serial := m.Console()
	m.expect(serial, 0, `Keyboard: de\n`)
	_, mark := m.expect(serial, 0, `9  Start the installed system(.*\n)+> `)
	if _, err := serial.Write([]byte("s\n")); err != nil {
		t.Fatal(err)
	}
	m.expect(serial, mark, `(?s)Shell; exit comes back.*# `)
	m.typeLine(serial, "ls /sys/bus/serio/devices | grep -c serio; until grep -q 'USB Keyboard' /proc/bus/input/devices; do sleep .2; done; echo KEY''BOARD\n", `\n0\n(.*\n)*KEYBOARD\n`)
	// As on the keys of an American keyboard, whose names QEMU has.
	if err := m.Type(m.ctx(), "yz&/"); err != nil {
		t.Fatal(err)
	}
	m.typeLine(serial, "until grep -q 'zy/-' /dev/vcs1; do sleep .2; done; echo SE''EN\n", `SEEN\n`)
}
