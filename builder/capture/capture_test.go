package capture

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lifeboat/archive"
	"lifeboat/internal/sysroot"
	"lifeboat/manifest"
	"lifeboat/report"
)

// tree makes a host of files; a value that begins with "->" is a link.
func tree(t *testing.T, files map[string]string) *host {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(text, "->"); ok {
			err = os.Symlink(target, at)
		} else {
			err = os.WriteFile(at, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := sysroot.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	h := &host{opt: Options{Root: dir}, root: root, m: &manifest.Manifest{Format: manifest.Format}}
	h.opt.System.Sys, h.opt.System.Proc = filepath.Join(dir, "sys"), filepath.Join(dir, "proc")
	return h
}

func TestWho(t *testing.T) {
	h := tree(t, map[string]string{
		"usr/lib/os-release":   "NAME=\"Debian GNU/Linux\"\nID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME='Debian \"GNU\" 12'\nID_LIKE=\"a b\"\n# ID=x\n",
		"etc/machine-id":       "0123456789abcdef0123456789abcdef\n",
		"etc/localtime":        "->/usr/share/zoneinfo/Europe/Berlin",
		"etc/default/keyboard": "XKBMODEL=\"pc105\"\nXKBLAYOUT=\"de\"\n",
		"etc/default/locale":   "LANG=\"de_DE.UTF-8\"\n",
	})
	w := h.who("alpha")
	if w.OS.ID != "debian" || w.OS.Version != "12" || w.OS.Pretty != `Debian "GNU" 12` || !slices.Equal(w.OS.IDLike, []string{"a", "b"}) {
		t.Errorf("%+v", w.OS)
	}
	if w.MachineID != "0123456789abcdef0123456789abcdef" || w.Timezone != "Europe/Berlin" || w.Keymap != "de" || w.Locale != "de_DE.UTF-8" {
		t.Errorf("%+v", w)
	}
}

func TestKeymap(t *testing.T) {
	for _, c := range []struct{ console, keyboard, want string }{
		{"", "XKBMODEL=\"pc105\"\nXKBLAYOUT=\"de\"\nXKBVARIANT=\"\"\n", "de"},
		{"", "XKBLAYOUT=\"de,us\"\nXKBVARIANT=\"nodeadkeys,\"\n", "de-nodeadkeys"},
		{"", "XKBLAYOUT=\"us,ru\"\nXKBVARIANT=\",\"\n", "us"},
		{"KEYMAP=fr-latin9\nFONT=x\n", "XKBLAYOUT=de\n", "fr-latin9"},
		{"# written by systemd\nXKBLAYOUT=fr\nXKBVARIANT=oss\n", "", "fr-oss"},
		{"KEYMAP=@kernel\n", "", ""},
		{"", "", ""},
	} {
		h := tree(t, map[string]string{"etc/vconsole.conf": c.console, "etc/default/keyboard": c.keyboard})
		if got := h.who("alpha").Keymap; got != c.want {
			t.Errorf("%q, %q: %q, want %q", c.console, c.keyboard, got, c.want)
		}
	}
}

const grubCfg = `set default="%s"
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-0a1b' {
	linux	/vmlinuz-6.1.0-18-amd64 root=/dev/mapper/x ro
	initrd	/initrd.img-6.1.0-18-amd64
}
submenu 'Advanced options' {
	menuentry 'with Linux 6.1.0-9-amd64' $menuentry_id_option 'gnulinux-6.1.0-9-amd64-advanced-0a1b' {
		linux	/vmlinuz-6.1.0-9-amd64 root=/dev/mapper/x ro
	}
}
`

func TestKernels(t *testing.T) {
	files := map[string]string{
		"boot/vmlinuz-6.1.0-9-amd64": "", "boot/initrd.img-6.1.0-9-amd64": "", "usr/lib/modules/6.1.0-9-amd64/modules.dep": "",
		"boot/vmlinuz-6.1.0-18-amd64": "", "boot/initrd.img-6.1.0-18-amd64": "", "usr/lib/modules/6.1.0-18-amd64/modules.dep": "",
		"boot/vmlinuz-0-rescue-0123": "", "usr/lib/modules/5.10.0-1-amd64/extra": "", // left behind by a removed kernel
		"usr/lib/modules/6.9.1/vmlinuz": "", "usr/lib/modules/6.9.1/modules.dep": "", "boot/initramfs-6.9.1.img": "",
		"boot/grub/grub.cfg": strings.Replace(grubCfg, "%s", "0", 1), "usr/sbin/mkinitramfs": "", "usr/bin/dracut": "",
		"bin": "->usr/bin", "usr/lib/systemd/systemd": "", "usr/sbin/init": "->../lib/systemd/systemd",
	}
	s := tree(t, files).system("6.1.0-9-amd64", "quiet")
	var got []string
	for _, k := range s.Kernels {
		l := k.Version + " " + string(k.Image) + " " + string(k.Initramfs) + " " + string(k.Modules)
		if k.Default {
			l += " default"
		}
		got = append(got, l)
	}
	want := []string{
		"6.9.1 /usr/lib/modules/6.9.1/vmlinuz /boot/initramfs-6.9.1.img /usr/lib/modules/6.9.1",
		"6.1.0-18-amd64 /boot/vmlinuz-6.1.0-18-amd64 /boot/initrd.img-6.1.0-18-amd64 /usr/lib/modules/6.1.0-18-amd64 default",
		"6.1.0-9-amd64 /boot/vmlinuz-6.1.0-9-amd64 /boot/initrd.img-6.1.0-9-amd64 /usr/lib/modules/6.1.0-9-amd64",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if s.Initramfs != manifest.InitramfsTools || !s.MergedUsr || s.Init != "/usr/lib/systemd/systemd" {
		t.Errorf("%+v", s)
	}
	files["boot/grub/grub.cfg"] = strings.Replace(grubCfg, "%s", "${saved_entry}", 1)
	files["boot/grub/grubenv"] = "# GRUB Environment Block\nsaved_entry=gnulinux-advanced-0a1b>gnulinux-6.1.0-9-amd64-advanced-0a1b\n####"
	for _, k := range tree(t, files).system("6.1.0-18-amd64", "").Kernels {
		if k.Default != (k.Version == "6.1.0-9-amd64") {
			t.Errorf("saved entry: %s default %v", k.Version, k.Default)
		}
	}
}

func TestCompareVersions(t *testing.T) {
	order := []string{"4.19.0", "5.10.0-9-amd64", "5.10.0-23-amd64", "6.1-rc1", "6.1.0", "6.1.0-1", "6.12.3"}
	for i, a := range order {
		for j, b := range order {
			if got := compareVersions(a, b); got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("%s against %s: %d", a, b, got)
			}
		}
	}
}

// TestDNS takes the real servers, not the stub that answers on the host.
func TestDNS(t *testing.T) {
	h := tree(t, map[string]string{
		"etc/resolv.conf":                 "nameserver 127.0.0.53\noptions edns0\nsearch lan example.org\n",
		"run/systemd/resolve/resolv.conf": "nameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch .\n",
	})
	d := h.dns()
	if !slices.Equal(d.Servers, []string{"10.0.0.1", "fe80::1%eth0"}) || !slices.Equal(d.Search, []string{"lan", "example.org"}) {
		t.Errorf("%+v", d)
	}
}

func TestNetworkFiles(t *testing.T) {
	h := tree(t, map[string]string{
		"etc/network/interfaces":                               "auto eth0\niface eth0 inet static\n\taddress 10.0.0.2/24\n",
		"etc/netplan/01.yaml":                                  "network: {}\n",
		"etc/netplan/note.txt":                                 "no",
		"etc/systemd/network/10-x.network.d/a.conf":            "[Network]\n",
		"etc/NetworkManager/system-connections/a.nmconnection": "[wifi-security]\npsk=topsecret\n",
	})
	files, err := h.networkFiles()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, string(f.Path))
		if strings.Contains(string(f.Text), "topsecret") {
			t.Errorf("%s holds the secret", f.Path)
		}
	}
	want := "/etc/NetworkManager/system-connections/a.nmconnection /etc/netplan/01.yaml /etc/network/interfaces /etc/systemd/network/10-x.network.d/a.conf"
	if strings.Join(names, " ") != want || h.networkSystem() != "netplan" {
		t.Errorf("%v by %s", names, h.networkSystem())
	}
}

// TestRedact has one secret per dialect; none may stay, and what is no secret
// must.
func TestRedact(t *testing.T) {
	const in = `[wifi-security]
key-mgmt=wpa-psk
psk=S3CRET-1
psk-flags=0
wep-key0=S3CRET-2
[802-1x]
identity=joe
password = S3CRET-3
private-key-password=S3CRET-4
[vpn-secrets]
anything=S3CRET-5
[ipv4]
method=auto
auto eth0
iface eth0 inet dhcp
	wpa-ssid home
	wpa-psk  S3CRET-6
	wireless-key S3CRET-7
network:
  wifis:
    w0:
      access-points:
        "my net":
          password: "S3CRET-8"
      auth:
        key-management: psk
        password: |
          S3CRET-9
          S3CRET-10
        identity: joe
  tunnels:
    wg0:
      key: S3CRET-11
      keys:
        private: S3CRET-12
        shared: S3CRET-13
      addresses: [10.0.0.1/24]
[WireGuard]
PrivateKey=S3CRET-14
PresharedKey = S3CRET-15
ListenPort=51820
#psk="S3CRET-16"
KEY_PASSPHRASE1=S3CRET-17
WPA_PSK='S3CRET-18'
BOOTPROTO=dhcp
OPTS="mode=1 password=S3CRET-19 miimon=100"
-----BEGIN RSA PRIVATE KEY-----
S3CRET-20
-----END RSA PRIVATE KEY-----
address 10.0.0.2/24
`
	got := Redact(in)
	if strings.Contains(got, "S3CRET") {
		t.Errorf("secrets stay in\n%s", got)
	}
	for _, keep := range []string{"key-mgmt=wpa-psk", "identity=joe", "method=auto", "wpa-ssid home", "ListenPort=51820", "BOOTPROTO=dhcp", "miimon=100",
		"address 10.0.0.2/24", "identity: joe", "key-management: psk", "addresses: [10.0.0.1/24]", "[vpn-secrets]", "psk-flags=0"} {
		if !strings.Contains(got, keep) {
			t.Errorf("%q is gone from\n%s", keep, got)
		}
	}
	const plain = "auto lo\niface lo inet loopback\n\niface eth0 inet static\n\taddress 10.0.0.2\n\tgateway 10.0.0.1\r\n"
	if Redact(plain) != plain {
		t.Errorf("%q", Redact(plain))
	}
}

func TestRedactCmdline(t *testing.T) {
	got := redactCmdline("quiet root=UUID=1 netroot=iscsi:joe:S3CRET@10.0.0.1::::iqn lifeboat.ticket=S3CRET console=ttyS0")
	if strings.Contains(got, "S3CRET") || !strings.Contains(got, "root=UUID=1") || !strings.Contains(got, "console=ttyS0") {
		t.Error(got)
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("psk=a\n  key: |\n   b\n")
	f.Add("-----BEGIN X PRIVATE KEY-----\nx")
	f.Fuzz(func(t *testing.T, s string) {
		if n := strings.Count(Redact(s), "\n"); n > strings.Count(s, "\n") {
			t.Errorf("%q grew lines", s)
		}
	})
}

// TestExclude (C15, C51): names that match everything are refused.
func TestExclude(t *testing.T) {
	for _, bad := range []string{"", "/", "/**", "var", "/*", "/*/", "/?*", "/[a-z]*", "/srv/[", "/**/"} {
		if err := checkNames(Options{Exclude: []string{bad}}); report.ExitOf(err) != report.ExitUsage {
			t.Errorf("%q: %v", bad, err)
		}
	}
	h := tree(t, nil)
	for _, p := range []string{"/", "/srv", "/srv/data", "/srvx", "/var/cache"} {
		h.m.Storage.Mounts = append(h.m.Storage.Mounts, manifest.Mount{Path: manifest.Bytes(p), Backup: manifest.ScopeFull})
	}
	h.opt.Exclude = []string{"/srv", "/var/cache/**"}
	if err := h.exclude(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range h.m.Storage.Mounts {
		got = append(got, string(m.Path)+"="+string(m.Backup))
	}
	if s := strings.Join(got, " "); s != "/=full /srv=exclude /srv/data=exclude /srvx=full /var/cache=none" {
		t.Error(s)
	}
}

// TestExcludeAsArchive: a mount that an archive would hold nothing of is never
// formatted (full), whatever pattern names it.
func TestExcludeAsArchive(t *testing.T) {
	for pattern, want := range map[string]string{
		"/srv/data*": "exclude exclude full", "/srv/data?": "full exclude full", "/srv/[d]ata2": "full exclude full", "/srv/*/": "exclude exclude full",
		"/srv/*": "exclude exclude full", "/srv/data/*": "none full full", "/srv/data*/**": "none none full", "/s?v": "exclude exclude full",
		"/srv/data": "exclude full full", "/srv/data/x*": "full full full", "/opt/*": "full full exclude", "/srv/dat": "full full full",
	} {
		h := tree(t, nil)
		for _, p := range []string{"/srv/data", "/srv/data2", "/opt/x"} {
			h.m.Storage.Mounts = append(h.m.Storage.Mounts, manifest.Mount{Path: manifest.Bytes(p), Backup: manifest.ScopeFull})
		}
		h.opt.Exclude = []string{pattern}
		if err := h.exclude(); err != nil {
			t.Errorf("%s: %v", pattern, err)
			continue
		}
		x, err := archive.NewExcludes(h.opt.Exclude)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range h.m.Storage.Mounts {
			got = append(got, string(m.Backup))
			if m.Backup == manifest.ScopeFull && x.Match(string(m.Path)) {
				t.Errorf("%s: an archive holds nothing of %s", pattern, m.Path)
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %s, not %s", pattern, s, want)
		}
	}
	// Of two that name a mount, the one that loses less counts.
	h := tree(t, nil)
	h.m.Storage.Mounts = []manifest.Mount{{Path: "/srv", Backup: manifest.ScopeFull}}
	h.opt.Exclude = []string{"/srv", "/srv/**"}
	if err := h.exclude(); err != nil || h.m.Storage.Mounts[0].Backup != manifest.ScopeExclude {
		t.Errorf("%v %s", err, h.m.Storage.Mounts[0].Backup)
	}
}
