package blkid

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"lifeboat/internal/run"
)

// Output of blkid -p for a BIOS boot partition of a running server.
const partitionOnly = `DEVNAME=/dev/vda2
PART_ENTRY_SCHEME=gpt
PART_ENTRY_NAME=grub\ core
PART_ENTRY_UUID=1b6a2c10-5d3e-4f71-9a80-c1d2e3f40516
PART_ENTRY_TYPE=21686148-6449-6e6f-744e-656564454649
PART_ENTRY_NUMBER=2
PART_ENTRY_OFFSET=40
PART_ENTRY_SIZE=2008
PART_ENTRY_DISK=254:0
`

// TestProbePartitionEntryOnly: an entry in a table is no content.
func TestProbePartitionEntryOnly(t *testing.T) {
	dev := filepath.Join(t.TempDir(), "dev")
	if err := os.WriteFile(dev, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Probe(t.Context(), &run.Fake{Answer: func(run.Cmd) (run.Result, error) {
		return run.Result{Stdout: []byte(partitionOnly)}, nil
	}}, dev)
	if !errors.Is(err, ErrNone) {
		t.Errorf("found %+v, %v", f, err)
	}
}
