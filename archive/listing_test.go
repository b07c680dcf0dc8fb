package archive

import (
	"encoding/json"
	"testing"
)

func TestListing(t *testing.T) {
	for _, c := range []struct {
		e    Entry
		text string
	}{
		{Entry{Path: "/etc/fstab", Type: '0', Mode: 0o644, Size: 48, Sec: 1795609763}, "-rw-r--r--     0     0           48 2026-11-25 12:29:23 /etc/fstab"},
		{Entry{Path: "/usr/bin/su", Type: '0', Mode: 0o4755, Size: 7}, "-rwsr-xr-x     0     0            7 1970-01-01 00:00:00 /usr/bin/su"},
		{Entry{Path: "/tmp", Type: '5', Mode: 0o1777}, "drwxrwxrwt     0     0            0 1970-01-01 00:00:00 /tmp"},
		{Entry{Path: "/x", Type: '5', Mode: 0o3770, UID: 5, GID: 6}, "drwxrws--T     5     6            0 1970-01-01 00:00:00 /x"},
		{Entry{Path: "/bin", Type: '2', Mode: 0o777, Link: "usr/bin"}, "lrwxrwxrwx     0     0            0 1970-01-01 00:00:00 /bin -> usr/bin"},
		{Entry{Path: "/b", Type: '1', Link: "/a"}, "h---------     0     0            0 1970-01-01 00:00:00 /b link to /a"},
		{Entry{Path: "/dev/sda1", Type: '4', Mode: 0o660, GID: 6, Major: 8, Minor: 1}, "brw-rw----     0     6         8, 1 1970-01-01 00:00:00 /dev/sda1"},
		{Entry{Path: "/a\x1b[2Jb", Type: '0'}, `----------     0     0            0 1970-01-01 00:00:00 "/a\x1b[2Jb"`},
		{Entry{Path: "/grün", Type: '9'}, "?---------     0     0            0 1970-01-01 00:00:00 /grün"},
	} {
		if got := c.e.String(); got != c.text {
			t.Errorf("\n%s, want\n%s", got, c.text)
		}
	}
	got, err := json.Marshal(&Entry{Path: "/usr/bin/su", Type: '0', Mode: 0o4755, Size: 7, Xattrs: []Xattr{{}}})
	want := `{"path":"/usr/bin/su","type":"file","mode":"4755","uid":0,"gid":0,"size":7,"mtime":"1970-01-01T00:00:00Z","xattrs":1}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
}
