package fstab

import "testing"

func TestDisable(t *testing.T) {
	f := Parse([]byte("# head\nUUID=a / ext4 defaults 0 1\n\tUUID=b /data zfs ro 0 0\r\n\nUUID=c none swap sw"))
	for _, e := range f.Entries() {
		if e.Path == "/data" || e.IsSwap() {
			f.Disable(e.Line, "not recovered:\nzfs")
		}
	}
	f.Disable(1, "a comment stays")
	f.Disable(99, "no such line")
	want := "# head\nUUID=a / ext4 defaults 0 1\n# not recovered: zfs\n#\tUUID=b /data zfs ro 0 0\r\n\n# not recovered: zfs\n#UUID=c none swap sw"
	if got := string(f.Bytes()); got != want {
		t.Errorf("got:\n%q\nwant:\n%q", got, want)
	}
	if e := f.Entries(); len(e) != 1 || e[0].Path != "/" {
		t.Errorf("entries left: %+v", e)
	}
}

func TestSetSpec(t *testing.T) {
	f := Parse([]byte("# head\n  /dev/sda1\t/ ext4 defaults 0 1 # tail\n"))
	f.SetSpec(2, "LABEL=a b")
	f.SetSpec(1, "x")
	f.SetSpec(9, "x")
	if got, want := string(f.Bytes()), "# head\n  LABEL=a\\040b\t/ ext4 defaults 0 1 # tail\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
