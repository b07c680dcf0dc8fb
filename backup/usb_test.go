package backup

import "testing"

func TestOnStick(t *testing.T) {
	for in, want := range map[string]string{"usb:": "/m", "usb://": "/m", "usb:/": "/m", "usb:web01/20261125T030405Z.lba": "/m/web01/20261125T030405Z.lba",
		"usb://web01/x.lba": "/m/web01/x.lba", "usb:../etc/x.lba": "", "usb:web01": "", "usb:a/b/c.lba": "", "usb:/dev/sdb": ""} {
		if !IsUSB(in) {
			t.Errorf("%s is not taken for a stick", in)
		}
		if have, err := OnStick(in, "/m"); have != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", in, have, err)
		}
	}
	for _, in := range []string{"", "/usb:", "file:///usb", "http://usb:80/"} {
		if IsUSB(in) {
			t.Errorf("%q is taken for a stick", in)
		}
	}
}
