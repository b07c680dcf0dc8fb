//go:build root

package netup

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"lifeboat/manifest"
)

func sh(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
	return string(out)
}

func lab(t *testing.T) (machine, network string) {
	machine, network = fmt.Sprintf("lbm%d", os.Getpid()), fmt.Sprintf("lbn%d", os.Getpid())
	sh(t, "ip netns add "+machine+"; ip netns add "+network)
	t.Cleanup(func() { exec.Command("sh", "-c", "ip netns del "+machine+"; ip netns del "+network).Run() })
	for i := range 3 {
		sh(t, fmt.Sprintf("ip link add m%d netns %s type veth peer name n%d netns %s", i, machine, i, network))
		if i != 2 { // the third has no carrier
			sh(t, fmt.Sprintf("ip -n %s link set n%d up", network, i))
		}
	}
	sh(t, "ip -n "+network+" link set lo up; ip -n "+network+" addr add 10.77.1.1/24 dev n1")
	return machine, network
}

func start(t *testing.T, ns string, env ...string) *bufio.Reader {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, "ip", "netns", "exec", ns, os.Args[0])
	c.Env = append(os.Environ(), env...)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); c.Wait() })
	return bufio.NewReader(out)
}

func bringUp(t *testing.T, ns, ip string, env ...string) (string, error) {
	t.Helper()
	resolv := t.TempDir() + "/resolv.conf"
	c := exec.Command("ip", "netns", "exec", ns, os.Args[0])
	c.Env = append(os.Environ(), "NETUP_ROLE=client", "NETUP_RESOLV="+resolv, "NETUP_IP="+ip, "NETUP_REACH=10.77.1.1:8000")
	c.Env = append(c.Env, env...)
	c.Stderr = os.Stderr
	out, err := c.Output()
	dns, _ := os.ReadFile(resolv)
	return string(out) + string(dns), err
}

func TestBring(t *testing.T) {
	machine, network := lab(t)
	if l, err := start(t, network, "NETUP_ROLE=server", "NETUP_CARD=n1").ReadString('\n'); err != nil || l != "ready\n" {
		t.Fatalf("DHCP server: %q %v", l, err)
	}
	out, err := bringUp(t, machine, "")
	if err != nil || !strings.Contains(out, `"addr":"[10.77.1.20/24]"`) || !strings.Contains(out, `"name":"m1"`) || !strings.Contains(out, "nameserver 10.77.1.53") {
		t.Errorf("DHCP: %v: %s", err, out)
	}
	if a := sh(t, "ip -n "+machine+" -4 -o addr; ip -n "+machine+" route"); !strings.Contains(a, "10.77.1.20/24") || !strings.Contains(a, "default via 10.77.1.1 dev m1") {
		t.Errorf("addresses and routes: %s", a)
	}
	sh(t, "ip -n "+machine+" addr flush dev m1; ip -n "+machine+" link set m1 down")
	out, err = bringUp(t, machine, "10.77.1.30::10.77.1.1:255.255.255.0::m1:none:10.77.1.54")
	if err != nil || !strings.Contains(out, `"addr":"[10.77.1.30/24]","as":"","by":"static"`) {
		t.Errorf("static: %v: %s", err, out)
	}
}

// hostNet is the network of a host with one card and fixed addresses.
func hostNet(t *testing.T, mac, bus string) string {
	t.Helper()
	b, err := json.Marshal(manifest.Network{
		Links: []manifest.Link{{Name: "enp9s0", Kind: "ether", MAC: mac, BusPath: bus, Up: true, Carrier: true, MTU: 1400,
			Addresses: []string{"10.77.1.30/24", "fd77::30/64"}}},
		Routes: []manifest.Route{{To: "default", Via: "10.77.1.1", Dev: "enp9s0", Family: 4}, {To: "172.30.0.0/16", Via: "10.77.1.9", Dev: "enp9s0", Family: 4},
			{To: "fd99::/64", Via: "fd77::1", Dev: "enp9s0", Family: 6}},
		DNS: manifest.DNS{Servers: []string{"127.0.0.53", "10.77.1.54"}, Search: []string{"site.example"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return "NETUP_CAPTURED=" + string(b)
}

// Without DHCP the host's own addresses, routes and resolvers serve, on the
// card that has the host's MAC; an address that another machine has is left
// alone, and the machine is named.
func TestBringCaptured(t *testing.T) {
	machine, network := lab(t)
	sh(t, "ip -n "+network+" addr add fd77::1/64 dev n1 nodad")
	if l, err := start(t, network, "NETUP_ROLE=tcp").ReadString('\n'); err != nil || l != "ready\n" {
		t.Fatalf("server: %q %v", l, err)
	}
	mac := strings.TrimSpace(sh(t, "ip netns exec "+machine+" cat /sys/class/net/m1/address"))
	out, err := bringUp(t, machine, "", hostNet(t, mac, "pci/0"))
	if err != nil || !strings.Contains(out, `"addr":"[10.77.1.30/24 fd77::30/64]","as":"enp9s0","by":"captured","name":"m1"`) ||
		!strings.Contains(out, "search site.example\nnameserver 10.77.1.54\n") || strings.Contains(out, "127.0.0.53") {
		t.Errorf("%v: %s", err, out)
	}
	have := sh(t, "ip -n "+machine+" -o addr; ip -n "+machine+" route; ip -n "+machine+" -6 route; ip -n "+machine+" -br link")
	for _, want := range []string{"10.77.1.30/24", "fd77::30/64", "default via 10.77.1.1 dev m1", "172.30.0.0/16 via 10.77.1.9", "fd99::/64 via fd77::1", "m1@"} {
		if !strings.Contains(have, want) {
			t.Errorf("%s is missing:\n%s", want, have)
		}
	}
	if mtu := sh(t, "ip netns exec "+machine+" cat /sys/class/net/m1/mtu"); mtu != "1400\n" {
		t.Errorf("MTU %s", mtu)
	}
	// The other cards are down again.
	if up := sh(t, "ip -n "+machine+" -br link show up"); strings.Contains(up, "m0@") || strings.Contains(up, "m2@") {
		t.Errorf("left up:\n%s", up)
	}

	// Another machine has taken both addresses meanwhile.
	sh(t, "ip -n "+network+" addr add 10.77.1.30/24 dev n1; ip -n "+network+" addr add fd77::30/64 dev n1 nodad")
	other := strings.TrimSpace(sh(t, "ip netns exec "+network+" cat /sys/class/net/n1/address"))
	out, err = bringUp(t, machine, "", hostNet(t, mac, "pci/0"), "NETUP_PATIENCE=15s")
	if err == nil || !strings.Contains(out, "say: the address 10.77.1.30 is not taken: the machine with the MAC "+other+" answers on it") {
		t.Errorf("%v: %s", err, out)
	}
	if a := sh(t, "ip -n "+machine+" -o addr show scope global"); strings.TrimSpace(a) != "" {
		t.Errorf("addresses are left: %s", a)
	}
	// IPv6 alone is another machine's.
	sh(t, "ip -n "+network+" addr del 10.77.1.30/24 dev n1")
	out, err = bringUp(t, machine, "", hostNet(t, mac, "pci/0"))
	if err != nil || !strings.Contains(out, `"addr":"[10.77.1.30/24]"`) || !strings.Contains(out, "say: the address fd77::30 is not taken: the machine with the MAC "+other) {
		t.Errorf("IPv6 taken: %v: %s", err, out)
	}
	// Nothing reaches the backup: one address is kept for people.
	out, err = bringUp(t, machine, "", hostNet(t, mac, "pci/0"), "NETUP_PATIENCE=12s", "NETUP_KEEP=1", "NETUP_REACH=10.77.1.99:1")
	if err == nil || !strings.Contains(out, `"addr":"[10.77.1.30/24]"`) || !strings.Contains(sh(t, "ip -n "+machine+" -o addr"), "10.77.1.30/24") {
		t.Errorf("kept: %v: %s", err, out)
	}
	// ip= wins over what the host had.
	out, err = bringUp(t, machine, "10.77.1.40::10.77.1.1:24::m1:none", hostNet(t, mac, "pci/0"))
	if err != nil || !strings.Contains(out, `"addr":"[10.77.1.40/24]","as":"","by":"static"`) || strings.Contains(sh(t, "ip -n "+machine+" -o addr"), "10.77.1.30") {
		t.Errorf("ip=: %v: %s", err, out)
	}
}

// All MACs are new and nothing else tells: the only card with a cable it is.
func TestBringOnlyCable(t *testing.T) {
	machine, network := lab(t)
	sh(t, "ip -n "+network+" link set n0 down")
	if l, err := start(t, network, "NETUP_ROLE=tcp").ReadString('\n'); err != nil || l != "ready\n" {
		t.Fatalf("server: %q %v", l, err)
	}
	out, err := bringUp(t, machine, "", hostNet(t, "02:00:00:00:00:99", "pci/7"))
	if err != nil || !strings.Contains(out, `"by":"captured","name":"m1"`) {
		t.Errorf("%v: %s", err, out)
	}
}
