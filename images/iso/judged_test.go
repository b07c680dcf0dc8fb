package iso

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"lifeboat/internal/diskimg"
)

// judge runs an independent tool and returns all that it says.
func judge(t *testing.T, pkg string, argv ...string) string {
	t.Helper()
	if _, err := exec.LookPath(argv[0]); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing: install the package %s", argv[0], pkg)
		}
		t.Skipf("not judged: install the package %s", pkg)
	}
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// TestJudgedByXorriso: names, sizes, modes, times, boot catalog and boot code.
func TestJudgedByXorriso(t *testing.T) {
	s := spec(t, loaderHost(t, allFiles...))
	p, _ := mustWrite(t, s)
	out := judge(t, "xorriso", "xorriso", "-indev", p, "-report_el_torito", "plain", "-report_system_area", "plain", "-find", "/", "-exec", "lsdl", "--")
	for _, want := range []string{
		`El Torito boot img *: *1 *BIOS *y *none *0x0000 *0x00 *4 `,
		`El Torito boot img *: *2 *UEFI *y *none *0x0000 *0x00 *10240 `,
		`El Torito img path *: *1 */boot/grub/eltorito.img`,
		`El Torito img opts *: *1 *boot-info-table grub2-boot-info`,
		`El Torito img path *: *2 */boot/efi.img`,
		`System area summary *: MBR protective-msdos-label grub2-mbr .*GPT`,
		`GPT type GUID *: *1 *28732ac11ff8d211ba4b00a0c93ec93b`,
		`-r--r--r-- *1 0 *0 *40000 Feb 29  2024 '/backup/Web01 \(old\) Ünicode-and-a-rather-long-name.lba'`,
		`dr-xr-xr-x *. 0 *0 .* Feb 29  2024 '/boot/grub'`,
		`-r--r--r-- *1 0 *0 *10 Feb 29  2024 '/lifeboat/id-b1d2-0001'`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("xorriso does not say %q", want)
		}
	}
	if strings.Contains(out, "WARNING") || strings.Contains(out, "SORRY") || strings.Contains(out, "FAILURE") {
		t.Error("xorriso complains")
	}
	if t.Failed() {
		t.Log(out)
	}
	// The list of sums is for people who have nothing but a shell.
	to := filepath.Join(t.TempDir(), "x")
	judge(t, "xorriso", "xorriso", "-osirrox", "on", "-indev", p, "-extract", "/", to)
	judge(t, "coreutils", "sh", "-c", "cd "+to+" && sha256sum -c lifeboat/sha256sums")
	judge(t, "coreutils", "chmod", "-R", "u+w", to) // folders of the medium are read-only
}

// TestJudgedTables: the stick's partition table and the EFI image.
func TestJudgedTables(t *testing.T) {
	p, _ := mustWrite(t, spec(t, loaderHost(t, allFiles...)))
	if out := judge(t, "gdisk", "sgdisk", "-v", p); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	out := judge(t, "fdisk", "sfdisk", "-d", p)
	m := regexp.MustCompile(`start= *(\d+), size= *(\d+), type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no EFI system partition: %s", out)
	}
	efi := filepath.Join(t.TempDir(), "efi")
	judge(t, "coreutils", "dd", "if="+p, "of="+efi, "bs=512", "skip="+m[1], "count="+m[2], "status=none")
	judge(t, "dosfstools", "fsck.fat", "-n", efi)
	out = judge(t, "mtools", "mdir", "-/", "-b", "-i", efi, "::")
	for _, want := range []string{"/EFI/BOOT/BOOTX64.EFI", "/EFI/BOOT/grubx64.efi", "/EFI/BOOT/mmx64.efi", "/boot/grub/grub.cfg"} {
		if !strings.Contains(strings.ToLower(out), strings.ToLower(want)) {
			t.Errorf("the EFI image lacks %s:\n%s", want, out)
		}
	}
}

// TestEFIImageStamps: times and serial of the FAT image follow from the spec.
func TestEFIImageStamps(t *testing.T) {
	files := map[string][]byte{"/EFI/BOOT/BOOTX64.EFI": []byte("loader")}
	img, err := diskimg.FAT(t.TempDir(), files, 0, 0xc0ffee42, time.Date(2024, 2, 29, 3, 4, 6, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(t.TempDir(), "efi")
	writeFile(t, p, img)
	out := judge(t, "mtools", "mdir", "-i", p, "::/EFI/BOOT")
	if !strings.Contains(out, "Serial Number is C0FF-EE42") || strings.Count(out, "2024-02-29   3:04") != 3 {
		t.Errorf("mdir: %s", out)
	}
	// Three times of the entry; mdir shows one.
	short := []byte("BOOTX64 EFI")
	at := bytes.Index(img, short)
	date := []byte{0x5d, 0x58} // 29 February, 44 years after 1980
	for _, o := range []int{16, 18, 24} {
		if at < 0 || !bytes.Equal(img[at+o:at+o+2], date) {
			t.Errorf("date at %d of the entry: %x", o, img[max(at, 0)+o:max(at, 0)+o+2])
		}
	}
}
