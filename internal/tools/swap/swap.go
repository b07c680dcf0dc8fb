// Package swap reads and makes swap areas; making is mkswap's job.
// Level 2: one external tool each: Read(dev) → manifest struct, Make(dev,
// struct); machine-readable output, typed errors; no other tool, no policy.
package swap

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"lifeboat/internal/run"
	"lifeboat/manifest"
)

// ErrNone: the device holds no swap area.
var ErrNone = errors.New("no swap area")

// pageSizes are those of Linux machines, smallest first.
var pageSizes = []int64{4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10}

// Read reads the swap header of a device or swap file, in use or not. Source:
// the header itself (union swap_header of the kernel's linux/swap.h).
func Read(_ context.Context, _ run.Runner, dev string) (*manifest.Swap, error) {
	sw, _, err := read(dev)
	return sw, err
}

// Bytes tells how many bytes of dev the swap area occupies.
func Bytes(dev string) (int64, error) {
	_, n, err := read(dev)
	return n, err
}

func read(dev string) (*manifest.Swap, int64, error) {
	f, err := os.Open(dev)
	if err != nil {
		return nil, 0, fmt.Errorf("read the swap header: %w", err)
	}
	defer f.Close()
	sw, size, err := parse(f)
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", dev, err)
	}
	return sw, size, nil
}

func parse(r io.ReaderAt) (*manifest.Swap, int64, error) {
	for _, page := range pageSizes {
		magic := make([]byte, 10)
		_, err := r.ReadAt(magic, page-10)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, 0, err
		}
		if string(magic) != "SWAPSPACE2" {
			continue
		}
		h := make([]byte, 48)
		if _, err := r.ReadAt(h, 1024); err != nil {
			return nil, 0, err
		}
		order := binary.ByteOrder(binary.LittleEndian)
		if order.Uint32(h) != 1 {
			order = binary.BigEndian
		}
		if v := order.Uint32(h); v != 1 {
			return nil, 0, fmt.Errorf("swap header of version %d, not 1: %w", v, ErrNone)
		}
		sw := &manifest.Swap{PageSize: page, UUID: formatUUID(h[12:28]), Label: string(bytes.TrimRight(h[28:44], "\x00"))}
		if i := bytes.IndexByte(h[28:44], 0); i >= 0 {
			sw.Label = string(h[28 : 28+i])
		}
		return sw, (int64(order.Uint32(h[4:])) + 1) * page, nil
	}
	return nil, 0, ErrNone
}

// formatUUID writes a UUID; all zeroes is none.
func formatUUID(b []byte) string {
	if bytes.Count(b, []byte{0}) == 16 {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// Make makes the swap area on dev, over whatever is there, as large as dev.
func Make(ctx context.Context, r run.Runner, dev string, sw *manifest.Swap) error {
	args := []string{"--force"}
	if sw.UUID != "" {
		args = append(args, "--uuid", sw.UUID)
	}
	if sw.Label != "" {
		args = append(args, "--label", sw.Label)
	}
	if sw.PageSize > 0 && sw.PageSize != int64(os.Getpagesize()) {
		args = append(args, "--pagesize", fmt.Sprint(sw.PageSize))
	}
	if _, err := r.Run(ctx, run.Cmd{Path: "mkswap", Args: append(args, dev)}); err != nil {
		return fmt.Errorf("make swap on %s: %w", dev, err)
	}
	return nil
}
