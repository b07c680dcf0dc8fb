package fstab

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

const sample = "# /etc/fstab: static file system information.\r\n" +
	"\n" +
	"UUID=0a1b2c3d-0000-4000-8000-00000000000a /               ext4    errors=remount-ro 0       1\n" +
	"  \tUUID=\"1234-ABCD\"\t/boot/efi\tvfat umask=0077\t0 1 # trailing words\n" +
	"/dev/disk/by-id/dm-uuid-LVM-abc /srv/with\\040blank xfs defaults,logdev=/dev/sdb1,x-systemd.requires=/dev/sdb1\n" +
	"LABEL=sw\\040ap none swap sw,pri=5 0 0\n" +
	"broken\n" +
	"//nas/share /mnt/nas cifs credentials=/etc/cred,_netdev 0 0\n" +
	"/a /b none bind" // no line end

func TestParse(t *testing.T) {
	f := Parse([]byte(sample))
	if string(f.Bytes()) != sample {
		t.Errorf("not kept:\n%q", f.Bytes())
	}
	e := f.Entries()
	if len(e) != 6 {
		t.Fatalf("%d entries: %+v", len(e), e)
	}
	if e[0].Path != "/" || e[0].Type != "ext4" || e[0].Pass != 1 || !e[0].Has("errors") || e[0].Line != 3 {
		t.Errorf("%+v", e[0])
	}
	if tag, v := Tag(e[1].Spec); tag != "UUID" || v != "1234-ABCD" || e[1].Path != "/boot/efi" {
		t.Errorf("%q %q %+v", tag, v, e[1])
	}
	if e[2].Path != "/srv/with blank" {
		t.Errorf("%+v", e[2])
	}
	if v, ok := e[2].Option("logdev"); !ok || v != "/dev/sdb1" {
		t.Errorf("logdev %q %v", v, ok)
	}
	if tag, v := Tag(e[3].Spec); tag != "LABEL" || v != "sw ap" || !e[3].IsSwap() {
		t.Errorf("%q %q", tag, v)
	}
	if tag, v := Tag("//nas/a=b"); tag != "" || v != "//nas/a=b" {
		t.Errorf("%q %q", tag, v)
	}
}

// TestReplace edits by table and leaves every other byte (C71).
func TestReplace(t *testing.T) {
	f := Parse([]byte(sample))
	table := map[string]string{
		"UUID=0a1b2c3d-0000-4000-8000-00000000000a": "UUID=ffff",
		"/dev/sdb1":   "/dev/disk/by-id/x y",
		`LABEL=sw ap`: `LABEL=a\b`,
	}
	got := f.Replace(func(v string) string {
		if n, ok := table[v]; ok {
			return n
		}
		return v
	})
	want := strings.NewReplacer(
		"UUID=0a1b2c3d-0000-4000-8000-00000000000a", "UUID=ffff",
		"=/dev/sdb1", `=/dev/disk/by-id/x\040y`,
		`LABEL=sw\040ap`, `LABEL=a\134b`).Replace(sample)
	if string(f.Bytes()) != want {
		t.Errorf("got\n%s\nwant\n%s", f.Bytes(), want)
	}
	if len(got) != 4 || got[0].Line != 3 || got[3].Line != 6 {
		t.Errorf("changes %+v", got)
	}
}

// TestFindmnt has util-linux read what we read.
func TestFindmnt(t *testing.T) {
	path := t.TempDir() + "/fstab"
	text := strings.Replace(sample, "broken\n", "", 1)
	if err := writeFile(path, text); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("findmnt", "--fstab", "-F", path, "-n", "-r", "-o", "TARGET,FSTYPE").Output()
	if err != nil {
		t.Fatal("findmnt (util-linux) is needed: ", err)
	}
	var ours []string
	for _, e := range Parse([]byte(text)).Entries() {
		ours = append(ours, strings.ReplaceAll(e.Path, " ", `\x20`)+" "+e.Type)
	}
	if g, w := strings.TrimSpace(string(out)), strings.Join(ours, "\n"); g != w {
		t.Errorf("findmnt reads\n%s\nwe read\n%s", g, w)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("a\\040 b c d\\0")
	f.Fuzz(func(t *testing.T, s string) {
		p := Parse([]byte(s))
		_ = p.Entries()
		if string(p.Bytes()) != s {
			t.Errorf("%q became %q", s, p.Bytes())
		}
		if c := p.Replace(func(v string) string { return v }); c != nil || string(p.Bytes()) != s {
			t.Errorf("%q was edited to %q", s, p.Bytes())
		}
		before := p.Entries()
		p.Replace(func(v string) string { return "# \\" + v })
		if after := p.Entries(); len(after) != len(before) {
			t.Errorf("%q: %d entries became %d", s, len(before), len(after))
		} else {
			for i := range after {
				if after[i].Spec != "# \\"+before[i].Spec || after[i].Path != before[i].Path {
					t.Errorf("%+v became %+v", before[i], after[i])
				}
			}
		}
	})
}

func writeFile(path, text string) error { return os.WriteFile(path, []byte(text), 0o644) }
