package netup

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// Taken says that another machine has the address.
type Taken struct {
	Address netip.Addr
	MAC     string // of the machine that answered; "" when only the kernel saw it
}

func (t *Taken) Error() string {
	by := "another machine"
	if t.MAC != "" {
		by = "the machine with the MAC " + t.MAC
	}
	return fmt.Sprintf("the address %s is not taken: %s answers on it", t.Address, by)
}

// Probing as RFC 5227 has it: three questions a second apart, and two more
// seconds to answer.
const (
	probeCount = 3
	probeEvery = time.Second
	probeEnd   = 2 * time.Second
	probeAgain = 500 * time.Millisecond // for one more question at the end
)

// arp operations.
const (
	arpRequest = 1
	arpReply   = 2
	arpLen     = 28
)

// arpMessage is an ARP message for IPv4 on Ethernet.
type arpMessage struct {
	op             uint16
	sender, target netip.Addr
	senderMAC      net.HardwareAddr
}

// probe asks who has an address, as nobody: no cache of others learns from it.
func arpProbe(from net.HardwareAddr, who netip.Addr) []byte {
	b := make([]byte, arpLen)
	binary.BigEndian.PutUint16(b, 1) // Ethernet
	binary.BigEndian.PutUint16(b[2:], unix.ETH_P_IP)
	b[4], b[5] = 6, 4
	binary.BigEndian.PutUint16(b[6:], arpRequest)
	copy(b[8:14], from)
	a := who.As4()
	copy(b[24:28], a[:])
	return b
}

// parseARP reads a message; what is not ARP for IPv4 on Ethernet is none.
func parseARP(b []byte) (m arpMessage, ok bool) {
	if len(b) < arpLen || binary.BigEndian.Uint16(b) != 1 || binary.BigEndian.Uint16(b[2:]) != unix.ETH_P_IP || b[4] != 6 || b[5] != 4 {
		return m, false
	}
	m.op = binary.BigEndian.Uint16(b[6:])
	m.senderMAC = bytes.Clone(b[8:14])
	m.sender = netip.AddrFrom4([4]byte(b[14:18]))
	m.target = netip.AddrFrom4([4]byte(b[24:28]))
	return m, m.op == arpRequest || m.op == arpReply
}

// conflicts tells whether a message shows that somebody else has the address,
// or is about to take it.
func (m arpMessage) conflicts(a netip.Addr, own net.HardwareAddr) bool {
	if bytes.Equal(m.senderMAC, own) {
		return false // our own question, or its echo
	}
	return m.sender == a || m.op == arpRequest && m.sender.IsUnspecified() && m.target == a
}

// free asks whether somebody on the link has an IPv4 address; nil: nobody.
func free(ctx context.Context, ifc *net.Interface, a netip.Addr, count int, end time.Duration) error {
	c, err := packet.Listen(ifc, packet.Datagram, unix.ETH_P_ARP, nil)
	if err != nil {
		return fmt.Errorf("ask by ARP on %s: %w", ifc.Name, err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	all := &packet.Addr{HardwareAddr: net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	for i := range count {
		if _, err := c.WriteTo(arpProbe(ifc.HardwareAddr, a), all); err != nil {
			return fmt.Errorf("ask by ARP on %s: %w", ifc.Name, err)
		}
		wait := probeEvery
		if i == count-1 {
			wait = end
		}
		if err := heard(ctx, c, ifc, a, time.Now().Add(wait)); err != nil {
			return err
		}
	}
	return nil
}

// heard listens until a time for somebody who has the address.
func heard(ctx context.Context, c *packet.Conn, ifc *net.Interface, a netip.Addr, until time.Time) error {
	if err := c.SetReadDeadline(until); err != nil {
		return err
	}
	buf := make([]byte, 1500)
	for {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n, _, err := c.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("listen for ARP on %s: %w", ifc.Name, err)
		}
		if m, ok := parseARP(buf[:n]); ok && m.conflicts(a, ifc.HardwareAddr) {
			return &Taken{Address: a, MAC: m.senderMAC.String()}
		}
	}
}

// advert listens for neighbour advertisements while the kernel looks for a
// double of an IPv6 address: it tells that there is one, not who.
func advert(ifc *net.Interface, a netip.Addr) (who func() string, err error) {
	c, err := packet.Listen(ifc, packet.Datagram, unix.ETH_P_IPV6, nil)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", ifc.Name, err)
	}
	mac := make(chan string, 1)
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				mac <- ""
				return
			}
			if p, ok := from.(*packet.Addr); ok && advertises(buf[:n], a) {
				mac <- p.HardwareAddr.String()
				return
			}
		}
	}()
	return func() string {
		_ = c.SetReadDeadline(time.Now())
		defer c.Close()
		return <-mac
	}, nil
}

// advertises tells whether an IPv6 packet is a neighbour advertisement of an
// address (RFC 4861).
func advertises(b []byte, a netip.Addr) bool {
	const head, icmp6, advertisement = 40, 58, 136
	if len(b) < head+24 || b[0]>>4 != 6 || b[6] != icmp6 || b[head] != advertisement {
		return false
	}
	return netip.AddrFrom16([16]byte(b[head+8:head+24])) == a
}
