//go:build kernel

package netup

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"lifeboat/manifest"
)

// In these tests this process is the switch and the server behind it; the
// machine with the cards is a second one in a namespace of its own.

// cable makes cards with one end here, named n0, n1 ..., and returns what
// plugs the other ends into a process's namespace.
func cable(t *testing.T, n int) (here []netlink.Link, plug func(pid int)) {
	t.Helper()
	var there []netlink.Link
	for i := range n {
		a := netlink.NewLinkAttrs()
		a.Name = "n" + string(rune('0'+i))
		v := netlink.NewVeth(a)
		v.PeerName = "m" + string(rune('0'+i))
		must(t, netlink.LinkAdd(v))
		h, err := netlink.LinkByName(a.Name)
		must(t, err)
		o, err := netlink.LinkByName(v.PeerName)
		must(t, err)
		here, there = append(here, h), append(there, o)
		t.Cleanup(func() { netlink.LinkDel(h) })
	}
	return here, func(pid int) {
		for _, l := range there {
			must(t, netlink.LinkSetNsPid(l, pid))
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// server gives a link an address and listens on it.
func server(t *testing.T, l netlink.Link, addr string) {
	t.Helper()
	a, err := netlink.ParseAddr(addr)
	must(t, err)
	must(t, netlink.LinkSetUp(l))
	must(t, netlink.AddrAdd(l, a))
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "NETUP_ROLE=tcp")
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	b := make([]byte, 6)
	if _, err := out.Read(b); err != nil || string(b) != "ready\n" {
		t.Fatalf("server: %q %v", b, err)
	}
}

// machine brings a network up in a namespace of its own and returns what the
// client says.
func machine(t *testing.T, n manifest.Network, reach string, plug func(pid int)) string {
	t.Helper()
	doc, err := json.Marshal(n)
	must(t, err)
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "NETUP_ROLE=client", "NETUP_WAIT=1", "NETUP_REACH="+reach, "NETUP_CAPTURED="+string(doc),
		"NETUP_RESOLV="+t.TempDir()+"/resolv.conf", "NETUP_PATIENCE=90s")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, os.Stderr
	in, err := c.StdinPipe()
	must(t, err)
	must(t, c.Start())
	plug(c.Process.Pid)
	_, err = in.Write([]byte("go\n"))
	must(t, err)
	if err := c.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	return out.String()
}

func tagged(t *testing.T, parent netlink.Link, tag int, name string) netlink.Link {
	t.Helper()
	a := netlink.NewLinkAttrs()
	a.Name, a.ParentIndex = name, parent.Attrs().Index
	must(t, netlink.LinkAdd(&netlink.Vlan{LinkAttrs: a, VlanId: tag}))
	must(t, netlink.LinkSetUp(parent))
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l
}

// A tagged VLAN with a fixed address, no DHCP, and a card that nobody knows.
func TestVLAN(t *testing.T) {
	here, plug := cable(t, 1)
	server(t, tagged(t, here[0], 10, "n0.10"), "10.77.10.1/24")
	out := machine(t, manifest.Network{Links: []manifest.Link{
		nic("eth0", "02:00:00:00:00:99", manifest.Link{}),
		{Name: "eth0.10", Kind: "vlan", VLAN: 10, Parent: "eth0", Up: true, MTU: 1500, Addresses: []string{"10.77.10.30/24"}}},
		Routes: []manifest.Route{{To: "default", Via: "10.77.10.1", Dev: "eth0.10", Family: 4}}}, "10.77.10.1:8000", plug)
	if !strings.Contains(out, `"addr":"[10.77.10.30/24]","as":"eth0.10","by":"captured"`) || !strings.Contains(out, `"over":"veth vlan"`) {
		t.Error(out)
	}
}

// bridged is a bridge on VLAN 20 of a LACP bond of two cards.
var bridged = manifest.Network{Links: []manifest.Link{
	nic("eno1", "02:00:00:00:00:98", manifest.Link{Master: "bond0"}),
	nic("eno2", "02:00:00:00:00:98", manifest.Link{Master: "bond0", PermMAC: "02:00:00:00:00:99"}),
	{Name: "bond0", Kind: "bond", Bond: "802.3ad", Up: true, MTU: 1500, Addresses: []string{"10.77.30.30/24"}},
	{Name: "bond0.20", Kind: "vlan", VLAN: 20, Parent: "bond0", Up: true, MTU: 1500, Master: "br0"},
	{Name: "br0", Kind: "bridge", Up: true, MTU: 1500, Addresses: []string{"10.77.20.30/24"}},
}}

// A switch with LACP gets LACP: one port of the two has a cable here.
func TestLACP(t *testing.T) {
	here, plug := cable(t, 1)
	b := netlink.NewLinkBond(netlink.LinkAttrs{Name: "sw0", TxQLen: -1})
	b.Mode, b.Miimon = netlink.BOND_MODE_802_3AD, 100
	must(t, netlink.LinkAdd(b))
	t.Cleanup(func() { netlink.LinkDel(b) })
	must(t, netlink.LinkSetMasterByIndex(here[0], b.Attrs().Index))
	must(t, netlink.LinkSetUp(b))
	server(t, tagged(t, b, 20, "sw0.20"), "10.77.20.1/24")
	var partner string
	out := machine(t, bridged, "10.77.20.1:8000", func(pid int) { plug(pid); must(t, netlink.LinkSetUp(here[0])) })
	data, err := os.ReadFile("/proc/net/bonding/sw0")
	must(t, err)
	for l := range strings.Lines(string(data)) {
		if m, ok := strings.CutPrefix(strings.TrimSpace(l), "Partner Mac Address: "); ok {
			partner = m
		}
	}
	if partner == "" || partner == "00:00:00:00:00:00" {
		t.Errorf("the switch saw no LACP:\n%s", data)
	}
	if !strings.Contains(out, `"addr":"[10.77.20.30/24]","as":"br0","by":"captured"`) || !strings.Contains(out, `"over":"bond veth vlan"`) {
		t.Error(out)
	}
}

// The same host on a plain port of a switch that knows no LACP: the bond of
// one still serves.
func TestLACPWithoutPartner(t *testing.T) {
	here, plug := cable(t, 1)
	server(t, here[0], "10.77.30.1/24")
	out := machine(t, bridged, "10.77.30.1:8000", plug)
	if !strings.Contains(out, `"addr":"[10.77.30.30/24]","as":"bond0","by":"captured"`) {
		t.Error(out)
	}
}
