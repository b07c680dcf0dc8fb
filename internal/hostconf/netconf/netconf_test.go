package netconf

import (
	"strings"
	"testing"
)

var table = Table{"52:54:00:aa:bb:01": "02:00:00:00:00:0d", "52:54:00:aa:bb:02": "02:00:00:00:00:0e"}

// Files as the systems themselves and their administrators write them. Each
// line with (new) in want stands for one with the new address, in the
// spelling of the old one.
func TestRewrite(t *testing.T) {
	for _, c := range []struct {
		path, text string
		n          int
		want       []string // lines that are there then
	}{
		{"/etc/sysconfig/network-scripts/ifcfg-eno1", `# Intel Corporation 52:54:00:AA:BB:01
TYPE="Ethernet"
DEVICE=eno1
HWADDR=52:54:00:AA:BB:01
ONBOOT=yes
BOOTPROTO=none
IPADDR=192.0.2.10
PREFIX=24
MACADDR=52:54:00:AA:BB:01
`, 1, []string{"# Intel Corporation 52:54:00:AA:BB:01", "HWADDR=02:00:00:00:00:0D", "MACADDR=52:54:00:AA:BB:01"}},
		{"/etc/sysconfig/network-scripts/ifcfg-eth1", "DEVICE=eth1\r\nHWADDR=\"52:54:00:aa:bb:02\"\r\n", 1, []string{"HWADDR=\"02:00:00:00:00:0e\"\r"}},
		{"/etc/sysconfig/network/ifcfg-eth0", "BOOTPROTO='static'\nIPADDR='192.0.2.5/24'\nLLADDR='52:54:00:aa:bb:01'\n", 0, []string{"LLADDR='52:54:00:aa:bb:01'"}},
		{"/etc/NetworkManager/system-connections/Wired connection 1.nmconnection", `[connection]
id=Wired connection 1
uuid=6d2b7e1a-37a4-3b1f-a8c3-e2a1d3ee7a10
type=ethernet
interface-name=enp1s0

[ethernet]
cloned-mac-address=52:54:00:AA:BB:01
mac-address=52:54:00:AA:BB:01

[ipv4]
address1=192.0.2.10/24,192.0.2.1
method=manual
`, 1, []string{"cloned-mac-address=52:54:00:AA:BB:01", "mac-address=02:00:00:00:00:0D"}},
		{"/etc/NetworkManager/NetworkManager.conf", `[main]
plugins=ifupdown,keyfile
no-auto-default=52:54:00:aa:bb:01,52:54:00:aa:bb:02,

[keyfile]
unmanaged-devices=mac:52:54:00:aa:bb:02;interface-name:docker0

[device-x]
match-device=mac:52:54:00:aa:bb:01
`, 4, []string{"no-auto-default=02:00:00:00:00:0d,02:00:00:00:00:0e,", "unmanaged-devices=mac:02:00:00:00:00:0e;interface-name:docker0", "match-device=mac:02:00:00:00:00:0d"}},
		{"/etc/systemd/network/10-lan0.link", "[Match]\nMACAddress=52:54:00:aa:bb:01 52-54-00-AA-BB-02\n\n[Link]\nName=lan0\nMACAddress=52:54:00:aa:bb:01\n", 2,
			[]string{"MACAddress=02:00:00:00:00:0d 02-00-00-00-00-0E", "MACAddress=52:54:00:aa:bb:01"}},
		{"/etc/systemd/network/lan.network", "[Match]\nPermanentMACAddress = 52:54:00:aa:bb:01\n[Network]\nAddress=192.0.2.9/24\n", 1, []string{"PermanentMACAddress = 02:00:00:00:00:0d"}},
		{"/etc/systemd/network/bond0.netdev", "[NetDev]\nName=bond0\nKind=bond\nMACAddress=52:54:00:aa:bb:01\n", 0, []string{"MACAddress=52:54:00:aa:bb:01"}},
		{"/etc/netplan/50-cloud-init.yaml", `# generated; 52:54:00:aa:bb:01
network:
    version: 2
    ethernets:
        ens3:
            dhcp4: true
            macaddress: 52:54:00:aa:bb:01   # set
            match:
                macaddress: "52:54:00:aa:bb:01" # was 52:54:00:aa:bb:01
            set-name: ens3
        "é": {match: {macaddress: 52:54:00:AA:BB:02}, addresses: [192.0.2.3/24]}
`, 2, []string{"            macaddress: 52:54:00:aa:bb:01   # set", `                macaddress: "02:00:00:00:00:0d" # was 52:54:00:aa:bb:01`,
			`        "é": {match: {macaddress: 02:00:00:00:00:0E}, addresses: [192.0.2.3/24]}`, "# generated; 52:54:00:aa:bb:01"}},
		{"/etc/netplan/bad.yaml", "match:\n\t- [macaddress: 52:54:00:aa:bb:01\n", 0, nil},
		{"/etc/udev/rules.d/70-persistent-net.rules", `# PCI device 0x8086:0x100e (e1000)
SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{address}=="52:54:00:aa:bb:01", ATTR{dev_id}=="0x0", ATTR{type}=="1", KERNEL=="eth*", NAME="eth0"
SUBSYSTEM=="net", ACTION=="add", ATTR{address}=="52:54:00:aa:bb:0f", NAME="eth9"
ACTION=="add", KERNEL=="eth7", ATTR{address}="52:54:00:aa:bb:01"
`, 1, []string{`SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{address}=="02:00:00:00:00:0d", ATTR{dev_id}=="0x0", ATTR{type}=="1", KERNEL=="eth*", NAME="eth0"`,
			`ACTION=="add", KERNEL=="eth7", ATTR{address}="52:54:00:aa:bb:01"`}},
		{"/etc/network/interfaces", "auto lan0\nrename /mac/52:54:00:aa:bb:01=lan0\niface lan0 inet static\n\taddress 192.0.2.7/24\n\thwaddress ether 52:54:00:aa:bb:01\n", 1,
			[]string{"rename /mac/02:00:00:00:00:0d=lan0", "\thwaddress ether 52:54:00:aa:bb:01"}},
		{"/etc/default/grub", `GRUB_CMDLINE_LINUX="ifname=net0:52:54:00:aa:bb:01 ip=net0:dhcp x=52:54:00:aa:bb:01"` + "\n", 1,
			[]string{`GRUB_CMDLINE_LINUX="ifname=net0:02:00:00:00:00:0d ip=net0:dhcp x=52:54:00:aa:bb:01"`}},
	} {
		out, n := Rewrite(c.path, []byte(c.text), table)
		if n != c.n {
			t.Errorf("%s: %d changes, want %d:\n%s", c.path, n, c.n, out)
		}
		for _, w := range c.want {
			if !strings.Contains("\n"+string(out), "\n"+w+"\n") {
				t.Errorf("%s: no line %q in\n%s", c.path, w, out)
			}
		}
		if a, b := strings.Count(string(out), "\n"), strings.Count(c.text, "\n"); a != b || n == 0 && string(out) != c.text {
			t.Errorf("%s: %d lines became %d:\n%s", c.path, b, a, out)
		}
	}
}

// Two cards that changed places: each address is looked up once.
func TestRewriteSwap(t *testing.T) {
	swap := Table{"52:54:00:aa:bb:01": "52:54:00:aa:bb:02", "52:54:00:aa:bb:02": "52:54:00:aa:bb:01"}
	out, n := Rewrite("etc/systemd/network/a.link", []byte("[Match]\nMACAddress=52:54:00:aa:bb:01 52:54:00:aa:bb:02\n"), swap)
	if string(out) != "[Match]\nMACAddress=52:54:00:aa:bb:02 52:54:00:aa:bb:01\n" || n != 2 {
		t.Errorf("%d: %s", n, out)
	}
}

func TestKeeps(t *testing.T) {
	c := Card{Name: "lan0", MAC: "02:00:00:00:00:0d"}
	for _, x := range []struct {
		path, text string
		want       bool
	}{
		{"etc/systemd/network/10-a.link", "[Match]\nMACAddress=02:00:00:00:00:0D\n[Link]\nName=lan0\n", true},
		{"etc/systemd/network/10-a.link", "[Match]\nPermanentMACAddress=02:00:00:00:00:0d\n[Link]\nMTUBytes=9000\nName=lan0\n", true},
		{"etc/systemd/network/10-a.link", "[Match]\nMACAddress=02:00:00:00:00:0d\n[Link]\nMTUBytes=9000\n", false},
		{"etc/systemd/network/10-a.network", "[Match]\nMACAddress=02:00:00:00:00:0d\nName=lan0\n", false},
		{"etc/udev/rules.d/70-persistent-net.rules", `SUBSYSTEM=="net", ATTR{address}=="02:00:00:00:00:0d", NAME="lan0"`, true},
		{"etc/udev/rules.d/70-persistent-net.rules", `#SUBSYSTEM=="net", ATTR{address}=="02:00:00:00:00:0d", NAME="lan0"`, false},
		{"etc/udev/rules.d/70-persistent-net.rules", `SUBSYSTEM=="net", ATTR{address}=="02:00:00:00:00:0d", KERNEL=="lan0", NAME="lan1"`, false},
	} {
		if got := Keeps(x.path, []byte(x.text), c); got != x.want {
			t.Errorf("%s %q: %v", x.path, x.text, got)
		}
	}
}

func TestLink(t *testing.T) {
	c := Card{Name: "enp1s0", MAC: "02:00:00:00:00:0d", Driver: "igb"}
	if s := string(Link(c, 252)); !strings.Contains(s, "[Match]\nPermanentMACAddress=02:00:00:00:00:0d\n\n[Link]\nName=enp1s0\n") {
		t.Error(s)
	}
	// An older one knows no permanent address; the driver keeps VLANs out.
	if s := string(Link(c, 239)); !strings.Contains(s, "[Match]\nMACAddress=02:00:00:00:00:0d\nDriver=igb\n") {
		t.Error(s)
	}
	if v := Systemd([]string{"system", "libsystemd-core-252.so", "libsystemd-shared-252.so"}); v != 252 {
		t.Error(v)
	}
	if !KernelName("eth0") || KernelName("enp1s0") || KernelName("eth0lan") {
		t.Error("kernel names")
	}
}

func FuzzRewrite(f *testing.F) {
	for _, p := range []string{"etc/netplan/a.yaml", "etc/systemd/network/a.link", "etc/NetworkManager/x", "etc/udev/rules.d/x", "etc/default/grub", "etc/sysconfig/network/ifcfg-x"} {
		f.Add(p, []byte("network: {ethernets: {a: {match: {macaddress: 52:54:00:aa:bb:01}}}}\n"))
		f.Add(p, []byte("[Match]\nMACAddress=52:54:00:aa:bb:01\nHWADDR=52-54-00-AA-BB-02\n"))
		f.Add(p, []byte("ifname=a:52:54:00:aa:bb:01 ATTR{address}==\"52:54:00:aa:bb:01\" mac:52:54:00:aa:bb:02"))
	}
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		out, n := Rewrite(name, text, table)
		if len(out) != len(text) {
			t.Errorf("%d bytes became %d", len(text), len(out))
		}
		if n == 0 && string(out) != string(text) {
			t.Error("changed without a change")
		}
		if again, m := Rewrite(name, out, Table{}); m != 0 || string(again) != string(out) {
			t.Error("an empty table changes something")
		}
	})
}
