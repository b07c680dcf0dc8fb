//go:build root

package vfat

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"lifeboat/internal/run"
)

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

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

// facts are what minfo says of a filesystem, without the command line that it
// prints for itself and what depends on the rounding of the size.
func facts(t *testing.T, dev string) string {
	out := tool(t, "minfo", "-i", dev, "::")
	keep := regexp.MustCompile(`(?m)^(device information|sector size|cluster size|reserved|fats|max available|media descriptor|hidden sectors|serial number|disk label|disk type).*$`)
	return strings.Join(keep.FindAllString(out, -1), "\n")
}

// geometry is what fsck.vfat says of it, and the byte of the drive number,
// which no tool prints.
func geometry(t *testing.T, dev string) string {
	t.Helper()
	lines := regexp.MustCompile(`(?m)^.*(heads|hidden sectors).*$`).FindAllString(tool(t, "fsck.vfat", "-v", "-n", dev), -1)
	b := make([]byte, 512)
	f, err := os.Open(dev)
	if err == nil {
		_, err = f.ReadAt(b, 0)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	drive := b[0x24]
	if b[0x16] == 0 && b[0x17] == 0 { // FAT32 has it further back
		drive = b[0x40]
	}
	return strings.Join(append(lines, strconv.Itoa(int(drive))), "; ")
}

// FAT filesystems with odd parameters are made again: mtools and blkid say the
// same of both, fsck.vfat finds nothing, and a file goes in and comes out.
func TestMadeAgainTheSame(t *testing.T) {
	for name, c := range map[string]struct {
		mkfs   string
		mib    int64
		sector int
	}{
		"ESP":              {"-F 32 -n EFI -i 12AB34CD", 512, 512},
		"small ESP":        {"-F 32 -s 1", 40, 512},
		"FAT16":            {"-n BOOT", 64, 512},
		"FAT12":            {"-F 12 -r 224", 4, 512},
		"4096":             {"-F 32 -S 4096 -s 1", 300, 4096},
		"FAT16, 4096":      {"-F 16 -S 4096", 300, 4096},
		"like Windows":     {"-a -F 32 -R 6190 -s 8 -h 2048 -n SYSTEM -g 255/63", 300, 512},
		"second disk":      {"-F 16 -g 16/63 -D 0x81", 64, 512},
		"floppy of a BIOS": {"-F 12 -g 2/18 -D 0x00 -M 0xf0", 4, 512},
		"one table":        {"-F 32 -f 1 -s 4", 300, 512},
		"no label":         {"-F 32", 100, 512},
		"label with blank": {"-F 32 -n", 100, 512},
		"many root files":  {"-F 16 -r 2048 -M 0xf0", 64, 512},
		"smaller than it":  {"-F 32 -s 1 @ 100000", 300, 512},
	} {
		t.Run(name, func(t *testing.T) {
			made, again := loop(t, c.mib<<20, c.sector), loop(t, c.mib<<20, c.sector)
			args := append([]string{"-I"}, strings.Fields(strings.Replace(c.mkfs, "@", made, 1))...)
			if name == "label with blank" {
				args = append(args, "EFI SYS")
			}
			if !strings.Contains(c.mkfs, "@") {
				args = append(args, made)
			}
			tool(t, "mkfs.vfat", args...)
			ctx := context.Background()
			fs, err := Read(ctx, run.Exec{}, made)
			if err != nil {
				t.Fatal(err)
			}
			size, err := Bytes(made)
			if err != nil {
				t.Fatal(err)
			}
			tool(t, "mke2fs", "-q", "-F", again)
			if err := Make(ctx, run.Exec{Log: t.Logf}, again, fs, size); err != nil {
				t.Fatal(err)
			}
			if a, b := facts(t, made), facts(t, again); a != b {
				t.Errorf("minfo:\n%s\n\n%s", a, b)
			}
			blkid := func(dev string) string {
				return strings.Replace(tool(t, "blkid", "-p", "-o", "export", dev), dev, "", 1)
			}
			// BLOCK_SIZE is what blkid derives; all else is on the disk.
			if a, b := blkid(made), blkid(again); a != b {
				t.Errorf("blkid:\n%s\n%s", a, b)
			}
			if n, err := Bytes(again); err != nil || n != size {
				t.Errorf("%d bytes, not %d: %v", n, size, err)
			}
			if a, b := geometry(t, made), geometry(t, again); a != b {
				t.Errorf("geometry: %s, not %s", b, a)
			}
			tool(t, "fsck.vfat", "-n", again)
			file := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
				t.Fatal(err)
			}
			tool(t, "mcopy", "-i", again, file, "::/A.TXT")
			if got, err := exec.Command("mtype", "-i", again, "::/A.TXT").Output(); err != nil || string(got) != "content" {
				t.Errorf("the file holds %q, %v", got, err)
			}
		})
	}
}
