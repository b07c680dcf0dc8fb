//go:build root || kernel

package netup

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lifeboat/manifest"
)

// The test starts itself again inside network namespaces: one is the machine
// with three cards, one the network with a DHCP server on the second cable
// only, whose first answers get lost as on a switch port that still blocks. The
// server that must be reached starts later still.
func TestMain(m *testing.M) {
	switch os.Getenv("NETUP_ROLE") {
	case "server":
		serve(os.Getenv("NETUP_CARD"))
	case "tcp":
		listen("[::]:8000")
	case "client":
		if os.Getenv("NETUP_WAIT") != "" {
			ownSys()
		}
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
	// What the client must reach, on the same network, starts later.
	time.AfterFunc(18*time.Second, func() { listen("10.77.1.1:8000") })
	fmt.Println("ready")
	s.Serve()
}

// listen is the server that the client must reach.
func listen(at string) {
	l, err := net.Listen("tcp", at)
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println("ready")
	for {
		if c, err := l.Accept(); err == nil {
			c.Close()
		}
	}
}

// ownSys waits until the cards are in this namespace, and shows them in /sys.
func ownSys() {
	_, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err == nil {
		err = unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err == nil {
		err = unix.Mount("sysfs", "/sys", "sysfs", 0, "")
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// kinds are the links that a network stands on.
func kinds(up *Up) string {
	var out []string
	for i := range chain(up.index) {
		if l, err := netlink.LinkByIndex(i); err == nil {
			out = append(out, l.Type())
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func client() {
	opt := Options{Resolv: os.Getenv("NETUP_RESOLV"), Patience: 60 * time.Second,
		Log: func(f string, a ...any) { fmt.Fprintf(os.Stderr, f+"\n", a...) },
		Reach: func(ctx context.Context) error {
			c, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp", os.Getenv("NETUP_REACH"))
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
	if doc := os.Getenv("NETUP_CAPTURED"); doc != "" {
		opt.Captured = new(manifest.Network)
		if err := json.Unmarshal([]byte(doc), opt.Captured); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	opt.Say = func(f string, a ...any) { fmt.Printf("say: "+f+"\n", a...) }
	if d, err := time.ParseDuration(os.Getenv("NETUP_PATIENCE")); err == nil {
		opt.Patience = d
	}
	opt.Keep = os.Getenv("NETUP_KEEP") != ""
	up, err := Bring(context.Background(), opt)
	if err != nil {
		fmt.Println(err)
	}
	if up != nil {
		json.NewEncoder(os.Stdout).Encode(map[string]string{"name": up.Name, "addr": fmt.Sprint(up.Addresses), "by": up.By, "as": up.As, "over": kinds(up)})
	}
	if err != nil {
		os.Exit(1)
	}
}
