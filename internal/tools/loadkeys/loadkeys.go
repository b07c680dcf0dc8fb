// Package loadkeys makes keyboard maps of the Linux console binary, and gives
// them to a kernel.
// Level 2: one external tool each: Read(dev) → manifest struct, Make(dev,
// struct); machine-readable output, typed errors; no other tool, no policy.
package loadkeys

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"lifeboat/internal/run"
)

// Keys is how many keys a table has in the binary form.
const Keys = 128

// Keymap is a keyboard map as loadkeys --bkeymap writes it: the symbol of each
// key by the number of the table, which stands for the modifiers held.
type Keymap map[uint8][Keys]uint16

// magic begins the binary form; a byte for each possible table follows, then
// the tables that are there.
const (
	magic  = "bkeymap"
	tables = 256
)

// limit is for a program that reads some small files.
const limit = 10 * time.Second

// Binary has loadkeys read a map with all that it includes. The console of
// this machine is not touched.
func Binary(ctx context.Context, r run.Runner, file string) ([]byte, error) {
	// Unicode: consoles have been in that mode for long, and only there every
	// letter has a symbol.
	res, err := r.Run(ctx, run.Cmd{Path: "loadkeys", Args: []string{"--quiet", "--unicode", "--bkeymap", file}, Env: run.HostEnv, Limit: limit})
	if err != nil {
		return nil, fmt.Errorf("read the keyboard map %s: %w", file, err)
	}
	if _, err := Decode(res.Stdout); err != nil {
		return nil, fmt.Errorf("read the keyboard map %s: %w", file, err)
	}
	return res.Stdout, nil
}

// Decode reads the binary form. A map without the table of plain keys is none.
func Decode(b []byte) (Keymap, error) {
	rest, ok := bytes.CutPrefix(b, []byte(magic))
	if !ok || len(rest) < tables {
		return nil, errors.New("it is no binary keyboard map")
	}
	flags, rest := rest[:tables], rest[tables:]
	m := Keymap{}
	for i, f := range flags {
		if f == 0 {
			continue
		}
		if f != 1 || len(rest) < 2*Keys {
			return nil, fmt.Errorf("the binary keyboard map is damaged at table %d", i)
		}
		var t [Keys]uint16
		for k := range t {
			t[k] = binary.LittleEndian.Uint16(rest[2*k:])
		}
		m[uint8(i)], rest = t, rest[2*Keys:]
	}
	if _, ok := m[0]; !ok || len(rest) > 0 {
		return nil, fmt.Errorf("the binary keyboard map has %d tables and %d bytes more", len(m), len(rest))
	}
	return m, nil
}

// kdskbent sets the symbol of one key (linux/kd.h).
const kdskbent = 0x4b47

// entry is struct kbentry.
type entry struct {
	table, index uint8
	value        uint16
}

// Apply gives the map to the kernel by any of its virtual terminals; it counts
// for all of them, and for keyboards that come later. Symbols that this kernel
// does not know are left as they were and counted.
func (m Keymap) Apply(tty *os.File) (left int, err error) {
	var order []uint8
	for t := range m {
		order = append(order, t)
	}
	slices.Sort(order)
	for _, t := range order {
		for k, v := range m[t] {
			if k == 0 {
				continue // no key has this number; there the kernel makes and drops tables
			}
			e := entry{t, uint8(k), v}
			_, _, no := unix.Syscall(unix.SYS_IOCTL, tty.Fd(), kdskbent, uintptr(unsafe.Pointer(&e)))
			runtime.KeepAlive(&e)
			switch {
			case no == unix.EINVAL:
				left++
			case no != 0:
				return left, fmt.Errorf("set key %d of the keyboard: %w", k, no)
			}
		}
	}
	return left, nil
}
