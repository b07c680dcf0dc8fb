package payload

import (
	"io/fs"
	"strings"
)

// lvmConf is the whole LVM configuration of the rescue system, never the
// host's: no daemon answers here, no udev makes links, and no filter of the
// host may hide a new disk. Names and values are valid from LVM 2.02.98 on.
const lvmConf = `# Written by lifeboat; the host's own file is not used in the rescue system.
devices {
	dir = "/dev"
	scan = [ "/dev" ]
	obtain_device_list_from_udev = 0
	external_device_info_source = "none"
}
global {
	use_lvmlockd = 0
	use_lvmpolld = 0
}
activation {
	udev_sync = 0
	udev_rules = 0
	monitoring = 0
}
backup {
	backup = 0
	archive = 0
}
`

const profile = `export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL=C.UTF-8 HOME=/root DM_DISABLE_UDEV=1
[ -n "$TERM" ] || export TERM=linux
PS1='rescue \w # '
alias ll='ls -la'
`

// etcFiles are the files of /etc that programs of the rescue system look for.
// There is no shadow file and nobody can log in by password.
var etcFiles = []struct{ path, text string }{
	{"etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"},
	{"etc/group", "root:x:0:\ntty:x:5:\ndisk:x:6:\nnogroup:x:65534:\n"},
	{"etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n"},
	{"etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"},
	{"etc/fstab", ""},
	{"etc/profile", profile},
	{"etc/bash.bashrc", profile},
	{"root/.bashrc", profile},
	{"etc/lvm/lvm.conf", lvmConf},
}

// etcFromHost are small public files that are taken from the host if there:
// names of services for programs that ask, certificates of authorities for
// backups over HTTPS, the list of PCI names, and the clock's zone.
var etcFromHost = []string{
	"/etc/services", "/etc/protocols", "/etc/localtime", "/etc/inputrc",
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
	"/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids",
}

// AddEtc adds what every rescue system has besides programs: standard
// folders, the first device nodes, and a minimal /etc. Host is its name.
func (p *Packer) AddEtc(host string) error {
	t := p.Tree
	for _, d := range []struct {
		path string
		perm fs.FileMode
	}{
		{"dev", 0o755}, {"proc", 0o555}, {"sys", 0o555}, {"run", 0o755}, {"tmp", 0o777 | fs.ModeSticky}, {"root", 0o700}, {"mnt", 0o755},
		{"etc", 0o755}, {"etc/lifeboat", 0o700}, {"var", 0o755}, {"var/tmp", 0o777 | fs.ModeSticky}, {"var/lib", 0o755}, {"var/log", 0o755}, {"var/cache", 0o755},
	} {
		if err := t.Dir(d.path, d.perm, "layout"); err != nil {
			return err
		}
	}
	for _, f := range etcFromHost {
		if p.Host.isFile(f) {
			if err := p.Add(f, "rescue system"); err != nil {
				return err
			}
		}
	}
	for _, f := range etcFiles {
		if err := t.Add(Entry{Path: f.path, Mode: 0o644, Data: []byte(f.text), Why: "rescue system"}); err != nil {
			return err
		}
	}
	own := []Entry{
		{Path: "etc/hostname", Mode: 0o644, Data: []byte("rescue-" + host + "\n")},
		{Path: "etc/ld.so.conf", Mode: 0o644, Data: []byte(strings.Join(p.Loader.conf, "\n") + "\n")},
		{Path: "etc/mtab", Mode: fs.ModeSymlink | 0o777, Target: "/proc/self/mounts"},
		{Path: "var/run", Mode: fs.ModeSymlink | 0o777, Target: "/run"},
		{Path: "var/lock", Mode: fs.ModeSymlink | 0o777, Target: "/run/lock"},
		// The kernel opens the console for PID 1 before anything is mounted.
		{Path: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1},
		{Path: "dev/null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3},
	}
	for _, e := range own {
		e.Why = "rescue system"
		if err := t.Add(e); err != nil {
			return err
		}
	}
	return nil
}
