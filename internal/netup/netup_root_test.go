//go:build root

package netup

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
)

// The test starts itself again inside network namespaces: one is the machine
// with three cards, one the network with a DHCP server on the second cable
// only, whose first answers get lost as on a switch port that still blocks. The
// server that must be reached starts later still.
func TestMain(m *testing.M) {
	switch os.Getenv("NETUP_ROLE") {
	case "server":
		serve(os.Getenv("NETUP_CARD"))
	case "client":
		client()
	default:
		os.Exit(m.Run())
	}
}

func serve(card string) {
	start := time.Now()
	s, err := server4.NewServer(card, &net.UDPAddr{IP: net.IPv4zero, Port: 67}, func(c net.PacketConn, _ net.Addr, m *dhcpv4.DHCPv4) {
		if time.Since(start) < 6*time.Second {
			return
		}
		typ := dhcpv4.MessageTypeOffer
		if m.MessageType() == dhcpv4.MessageTypeRequest {
			typ = dhcpv4.MessageTypeAck
		}
		r, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(typ), dhcpv4.WithYourIP(net.IPv4(10, 77, 1, 20)),
			dhcpv4.WithServerIP(net.IPv4(10, 77, 1, 1)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 77, 1, 1))),
			dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(net.IPv4(10, 77, 1, 1)),
			dhcpv4.WithDNS(net.IPv4(10, 77, 1, 53)), dhcpv4.WithLeaseTime(3600))
		if err == nil {
			_, err = c.WriteTo(r.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
		}
		if err != nil {
			fmt.Println("error:", err)
		}
	})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	// What the client must reach, on the same network.
	time.AfterFunc(18*time.Second, func() {
		l, err := net.Listen("tcp", "10.77.1.1:8000")
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		for {
			if c, err := l.Accept(); err == nil {
				c.Close()
			}
		}
	})
	fmt.Println("ready")
	s.Serve()
}

func client() {
	opt := Options{Resolv: os.Getenv("NETUP_RESOLV"), Patience: 60 * time.Second,
		Log: func(f string, a ...any) { fmt.Fprintf(os.Stderr, f+"\n", a...) },
		Reach: func(ctx context.Context) error {
			c, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp", "10.77.1.1:8000")
			if err == nil {
				c.Close()
			}
			return err
		}}
	if ip := os.Getenv("NETUP_IP"); ip != "" {
		s, err := ParseIP(ip)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		opt.Static = []Static{s}
	}
	up, err := Bring(context.Background(), opt)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(map[string]string{"name": up.Name, "addr": up.Address.String(), "by": up.By})
}

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

func bring(t *testing.T, ns, ip string) (string, error) {
	t.Helper()
	resolv := t.TempDir() + "/resolv.conf"
	c := exec.Command("ip", "netns", "exec", ns, os.Args[0])
	c.Env = append(os.Environ(), "NETUP_ROLE=client", "NETUP_RESOLV="+resolv, "NETUP_IP="+ip)
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
	out, err := bring(t, machine, "")
	if err != nil || !strings.Contains(out, `"addr":"10.77.1.20/24"`) || !strings.Contains(out, `"name":"m1"`) || !strings.Contains(out, "nameserver 10.77.1.53") {
		t.Errorf("DHCP: %v: %s", err, out)
	}
	if a := sh(t, "ip -n "+machine+" -4 -o addr; ip -n "+machine+" route"); !strings.Contains(a, "10.77.1.20/24") || !strings.Contains(a, "default via 10.77.1.1 dev m1") {
		t.Errorf("addresses and routes: %s", a)
	}
	sh(t, "ip -n "+machine+" addr flush dev m1; ip -n "+machine+" link set m1 down")
	out, err = bring(t, machine, "10.77.1.30::10.77.1.1:255.255.255.0::m1:none:10.77.1.54")
	if err != nil || !strings.Contains(out, `"addr":"10.77.1.30/24","by":"static"`) {
		t.Errorf("static: %v: %s", err, out)
	}
}
