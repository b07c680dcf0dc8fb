//go:build root

package disklabel

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"lifeboat/manifest"
)

// loop makes a loop device of bytes with logical sectors of sector bytes.
func loop(t *testing.T, bytes int64, sector int) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, bytes); err != nil {
		t.Fatal(err)
	}
	dev := strings.TrimSpace(tool(t, "losetup", "--find", "--show", "-b", strconv.Itoa(sector), file))
	t.Cleanup(func() { tool(t, "losetup", "-d", dev) })
	return dev
}

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func writeDevice(t *testing.T, l *Label, dev string, bytes, sector int64) {
	t.Helper()
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := l.Write(f, bytes, sector); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// sfdisk's dump of what was written, without the lines that name the device.
func dump(t *testing.T, dev string) string {
	var keep []string
	for line := range strings.Lines(tool(t, "sfdisk", "-d", dev)) {
		if !strings.HasPrefix(line, "device:") {
			keep = append(keep, strings.ReplaceAll(line, dev, ""))
		}
	}
	return strings.Join(keep, "")
}

// A GPT with every oddity, judged by sfdisk and sgdisk, on both sector sizes.
func TestGPTJudged(t *testing.T) {
	const bytes = 256 << 20
	for _, sector := range []int64{512, 4096} {
		dev := loop(t, bytes, int(sector))
		l := &Label{
			Table: manifest.Table{Type: GPT, UUID: "3F0B5C1D-9A3E-4C5B-8F6A-112233445566", PMBRBoot: true},
			Partitions: []manifest.Partition{
				{Number: 1, Start: 8 << 20, Size: 16 << 20, Type: manifest.TypeESP, UUID: "11111111-2222-4333-8444-555555555501",
					Name: "EFI System Partition", Attrs: 1<<63 | 1<<2 | 1},
				{Number: 3, Start: 1 << 20, Size: 4 << 20, Type: manifest.TypeLinux, UUID: "11111111-2222-4333-8444-555555555503", Name: "Größe 日本"},
				{Number: 14, Start: 100 << 20, Size: 100 << 20, Type: manifest.TypeLVM, UUID: "11111111-2222-4333-8444-555555555514"},
				{Number: 128, Start: 6 << 20, Size: 1 << 20, Type: manifest.TypeBIOSBoot, UUID: "11111111-2222-4333-8444-555555555528", Name: `a, "b"`},
			},
		}
		writeDevice(t, l, dev, bytes, sector)
		if v := tool(t, "sgdisk", "-v", dev); !strings.Contains(v, "No problems found") {
			t.Errorf("sectors of %d: sgdisk -v: %s", sector, v)
		}
		u := func(bytes int64) string { return strconv.FormatInt(bytes/sector, 10) }
		got := strings.Join(strings.Fields(dump(t, dev)), " ")
		first, last := int64(34), int64(bytes/512-34)
		if sector == 4096 {
			first, last = 6, bytes/4096-6
		}
		want := "label: gpt label-id: 3F0B5C1D-9A3E-4C5B-8F6A-112233445566 unit: sectors first-lba: " + strconv.FormatInt(first, 10) +
			" last-lba: " + strconv.FormatInt(last, 10) + " sector-size: " + strconv.FormatInt(sector, 10) +
			" p1 : start= " + u(8<<20) + ", size= " + u(16<<20) + ", type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=11111111-2222-4333-8444-555555555501, " +
			`name="EFI System Partition", attrs="RequiredPartition LegacyBIOSBootable GUID:63"` +
			" p3 : start= " + u(1<<20) + ", size= " + u(4<<20) + ", type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=11111111-2222-4333-8444-555555555503, " +
			`name="Gr\xc3\xb6\xc3\x9fe \xe6\x97\xa5\xe6\x9c\xac"` +
			" p14 : start= " + u(100<<20) + ", size= " + u(100<<20) + ", type=E6D6D379-F507-44C2-A23C-238F2A3DF928, uuid=11111111-2222-4333-8444-555555555514" +
			" p128 : start= " + u(6<<20) + ", size= " + u(1<<20) + ", type=21686148-6449-6E6F-744E-656564454649, uuid=11111111-2222-4333-8444-555555555528, " +
			`name="a, \x22b\x22"`
		if got != want {
			t.Errorf("sectors of %d:\n got %s\nwant %s", sector, got, want)
		}
	}
}

// What sfdisk makes, we make the same: its dump before and after.
func TestAgainstSfdisk(t *testing.T) {
	scripts := map[string]string{
		"dos": "label: dos\nlabel-id: 0xdeadbeef\n/dev/x1 : start=2048, size=2048, type=83, bootable\n/dev/x3 : start=4096, size=100000, type=f\n" +
			"start=6144, size=1000, type=82\nstart=40960, size=4000, type=8e\nstart=20480, size=8000, type=83\n",
		"dos without logical ones": "label: dos\nlabel-id: 0x00000001\n/dev/x4 : start=2048, size=20480, type=5\n",
		"gpt":                      "label: gpt\nlabel-id: 3F0B5C1D-9A3E-4C5B-8F6A-112233445566\ntable-length: 56\nfirst-lba: 64\n/dev/x2 : start=2048, size=4096, type=S\n/dev/x9 : start=64, size=256, name=x\n",
		"gpt of 256":               "label: gpt\ntable-length: 256\n/dev/x200 : start=4096, size=4096, attrs=LegacyBIOSBootable\n",
	}
	for name, script := range scripts {
		for _, sector := range []int64{512, 4096} {
			const bytes = 1 << 30
			made, ours := loop(t, bytes, int(sector)), loop(t, bytes, int(sector))
			cmd := exec.Command("sfdisk", "-q", "--no-reread", made)
			cmd.Stdin = strings.NewReader(script)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: sfdisk: %v\n%s", name, err, out)
			}
			l, err := ReadDevice(made)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			writeDevice(t, l, ours, bytes, sector)
			if a, b := dump(t, made), dump(t, ours); a != b {
				t.Errorf("%s, sectors of %d:\nsfdisk's\n%s\nours\n%s", name, sector, a, b)
			}
			again, err := ReadDevice(ours)
			if err != nil || !reflect.DeepEqual(again, l) {
				t.Errorf("%s: read again %+v, %v, not %+v", name, again, err, l)
			}
			if v := tool(t, "sfdisk", "--verify", ours); !strings.Contains(v, "No errors detected") {
				t.Errorf("%s: sfdisk --verify: %s", name, v)
			}
		}
	}
}
