package devname

import (
	"bytes"
	"strings"
	"testing"
)

var table = Table{"/dev/sda1": "UUID=aaaa", "/dev/sda5": "UUID=bbbb", "/dev/nvme0n1p2": "PARTUUID=cccc"}

func TestIs(t *testing.T) {
	for _, n := range []string{"/dev/sda", "/dev/sda1", "/dev/sdaa12", "/dev/nvme0n1", "/dev/nvme0n1p2", "/dev/vdb3", "/dev/mmcblk0p1", "/dev/md0", "/dev/dm-3", "/dev/xvda"} {
		if !Is(n) {
			t.Errorf("%s is not known", n)
		}
	}
	for _, n := range []string{"/dev/sr0", "/dev/mapper/vg-lv", "/dev/md/root", "/dev/sda1x", "UUID=x", "/dev/disk/by-id/x", "sda1", "/dev/shm", "/dev/fd0"} {
		if Is(n) {
			t.Errorf("%s is taken for the kernel's", n)
		}
	}
}

func TestWords(t *testing.T) {
	for in, want := range map[string]string{
		// GRUB's settings, as Debian and Red Hat write them
		"GRUB_CMDLINE_LINUX=\"root=/dev/sda1 resume=/dev/sda5 quiet\"\n": "GRUB_CMDLINE_LINUX=\"root=UUID=aaaa resume=UUID=bbbb quiet\"\n",
		"GRUB_CMDLINE_LINUX_DEFAULT='resume=/dev/nvme0n1p2'":             "GRUB_CMDLINE_LINUX_DEFAULT='resume=PARTUUID=cccc'",
		// grub.cfg, entries of systemd-boot and BLS, grubenv
		"\tlinux\t/vmlinuz root=/dev/sda1 ro\r\n": "\tlinux\t/vmlinuz root=UUID=aaaa ro\r\n",
		"options root=/dev/sda1":                  "options root=UUID=aaaa",
		// grubenv of Red Hat keeps the whole line as a value
		"kernelopts=root=/dev/sda1 resume=/dev/sda5\n": "kernelopts=root=UUID=aaaa resume=UUID=bbbb\n",
		// initramfs-tools
		"RESUME=/dev/sda5\n":               "RESUME=UUID=bbbb\n",
		"RESUME=\"/dev/sda5\"\n":           "RESUME=\"UUID=bbbb\"\n",
		"cryptdevice=/dev/sda5:root x":     "cryptdevice=UUID=bbbb:root x",
		"root=/dev/sda10 root=/dev/sda1p1": "root=/dev/sda10 root=/dev/sda1p1",
		"# root=/dev/sda1":                 "# root=/dev/sda1",
		"nfsroot=/dev/sda1 swap=/dev/sda1": "nfsroot=/dev/sda1 swap=/dev/sda1",
		"root=/dev/sdb1 root=/dev/sda1":    "root=/dev/sdb1 root=UUID=aaaa",
	} {
		out, n := Words([]byte(in), table)
		if string(out) != want || (n > 0) != (in != want) {
			t.Errorf("%q became %q (%d changes), not %q", in, out, n, want)
		}
	}
}

func TestCrypttab(t *testing.T) {
	in := "# <target> <source>\n#x /dev/sda1 none\nswap  /dev/sda5\t/dev/urandom swap,cipher=aes\nroot UUID=1 none luks\nd /dev/sda10 none\nonly\n"
	want := strings.Replace(in, "swap  /dev/sda5", "swap  UUID=bbbb", 1)
	if out, n := Crypttab([]byte(in), table); string(out) != want || n != 1 {
		t.Errorf("%d changes:\n%s", n, out)
	}
}

func TestNamed(t *testing.T) {
	got := Named([]byte("# was on /dev/sda9\n/dev/sda1 /dev/sda1,/dev/sdb;\"/dev/nvme0n1p3\"\n  # /dev/sdc\nx=/dev/sdd1x /dev/mapper/sda1 /dev/sde-old /dev/vda"))
	if strings.Join(got, " ") != "/dev/sda1 /dev/sdb /dev/nvme0n1p3 /dev/vda" {
		t.Errorf("%v", got)
	}
}

func FuzzWords(f *testing.F) {
	f.Add([]byte("a root=/dev/sda1\n#\n\tresume=/dev/sda5"))
	f.Add([]byte("x /dev/sda1 y"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, edit := range []func([]byte, Table) ([]byte, int){Words, Crypttab} {
			out, n := edit(text, table)
			if n == 0 && !bytes.Equal(out, text) {
				t.Errorf("%q became %q without a change", text, out)
			}
			if _, again := edit(out, table); again != 0 {
				t.Errorf("%q was edited twice", text)
			}
		}
		Named(text)
	})
}
