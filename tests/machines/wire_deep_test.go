//go:build machines && deep

package machines

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lifeboat/backup"
)

// wire is a switch port with one tagged VLAN and no DHCP. Behind it, in a
// network namespace of its own, lies the store; nothing leads further.
type wire struct {
	t        *testing.T
	tag      uint16
	tap      *os.File
	addr     string // where a guest's card is plugged in: QEMU's socket netdev
	do       chan func()
	untagged atomic.Int64 // frames that the switch dropped

	mu    sync.Mutex
	guest net.Conn
}

// newWire serves the folder store at address (with its prefix), port 8080.
func newWire(t *testing.T, tag uint16, address, store string) *wire {
	t.Helper()
	w := &wire{t: t, tag: tag, do: make(chan func())}
	ready := make(chan error)
	go func() {
		// The thread is never given back: it ends with its namespace.
		runtime.LockOSThread()
		err := w.inside(address, store)
		ready <- err
		for f := range w.do {
			f()
		}
	}()
	t.Cleanup(func() { close(w.do) })
	if err := <-ready; err != nil {
		t.Fatalf("make a network of the test's own: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	t.Cleanup(func() { l.Close(); w.tap.Close() })
	go w.fromNetwork()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.mu.Lock()
			w.guest = c
			w.mu.Unlock()
			w.fromGuest(c)
		}
	}()
	return w
}

// inside makes the namespace: a tap device with the address, and the store.
func (w *wire) inside(address, store string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "wire"}, Mode: netlink.TUNTAP_MODE_TAP, Queues: 1, Flags: netlink.TUNTAP_NO_PI}
	if err := netlink.LinkAdd(tap); err != nil {
		return err
	}
	// The runtime waits for a file that does not block.
	if err := unix.SetNonblock(int(tap.Fds[0].Fd()), true); err != nil {
		return err
	}
	fd, err := unix.FcntlInt(tap.Fds[0].Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	tap.Fds[0].Close()
	w.tap = os.NewFile(uintptr(fd), "wire")
	if lo, err := netlink.LinkByName("lo"); err != nil || netlink.LinkSetUp(lo) != nil {
		return fmt.Errorf("the namespace's loopback: %v", err)
	}
	a, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.AddrAdd(tap, a), netlink.LinkSetUp(tap)); err != nil {
		return err
	}
	h, err := backup.NewServer(store, "", nil)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(a.IP.String(), "8080"))
	if err != nil {
		return err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go s.Serve(l) // the socket stays in its namespace, whoever uses it
	w.t.Cleanup(func() { s.Close() })
	return nil
}

// card are the arguments that plug a virtio card with this address into the
// wire, in that slot.
func (w *wire) card(mac, slot string) []string {
	return []string{"-netdev", "socket,id=wire,connect=" + w.addr,
		"-device", fmt.Sprintf(`{"driver":"virtio-net-pci","netdev":"wire","id":"wirecard","mac":%q,"addr":%q}`, mac, slot)}
}

const frameMax = 64 << 10

// fromGuest takes the tag off; what has none, or another, goes nowhere.
func (w *wire) fromGuest(c net.Conn) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 1<<20)
	for {
		var n uint32
		if binary.Read(r, binary.BigEndian, &n) != nil || n > frameMax {
			return
		}
		f := make([]byte, n)
		if _, err := io.ReadFull(r, f); err != nil {
			return
		}
		if n < 18 || binary.BigEndian.Uint16(f[12:]) != 0x8100 || binary.BigEndian.Uint16(f[14:])&0xfff != w.tag {
			w.untagged.Add(1)
			continue
		}
		if _, err := w.tap.Write(append(f[:12:12], f[16:]...)); err != nil {
			return
		}
	}
}

// fromNetwork puts the tag on.
func (w *wire) fromNetwork() {
	f := make([]byte, frameMax)
	for {
		n, err := w.tap.Read(f)
		if err != nil {
			return
		}
		if n < 14 {
			continue
		}
		out := binary.BigEndian.AppendUint32(nil, uint32(n+4))
		out = append(out, f[:12]...)
		out = binary.BigEndian.AppendUint16(out, 0x8100)
		out = binary.BigEndian.AppendUint16(out, w.tag)
		out = append(out, f[12:n]...)
		w.mu.Lock()
		if w.guest != nil {
			w.guest.Write(out) // a guest that is off hears nothing
		}
		w.mu.Unlock()
	}
}

// banner waits until something answers at an address of the wire, and returns
// its first line.
func (w *wire) banner(ctx context.Context, address string) (string, error) {
	for {
		line, err := "", error(nil)
		done := make(chan struct{})
		w.do <- func() {
			defer close(done)
			// Made in this thread, so in its namespace.
			var c net.Conn
			if c, err = net.DialTimeout("tcp", address, 2*time.Second); err != nil {
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			line, err = bufio.NewReader(c).ReadString('\n')
		}
		<-done
		if err == nil {
			return line, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%w; at last: %v", context.Cause(ctx), err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}
