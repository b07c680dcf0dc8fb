package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"lifeboat/internal/disklabel"
	"lifeboat/internal/run"
	"lifeboat/internal/tools/blkid"
	"lifeboat/manifest"
)

// LostTable looks, on a disk of which the kernel shows no partition, for the
// contents of a captured table's partitions in their places. With one of them
// there and nothing else in the place of any, the captured table is the
// disk's: the kernel shows its partitions then, until disklabel.Forget.
// Nothing is written. g is the captured graph, table a table of it.
func LostTable(ctx context.Context, r run.Runner, dev string, g *manifest.Storage, table *manifest.Node) (*disklabel.Label, error) {
	want := disklabel.Of(g, table)
	if len(want.Partitions) == 0 {
		return nil, errors.New("the captured table has no partitions")
	}
	if want.Table.Type == disklabel.GPT {
		// A copy that is left knows of changes after the capture.
		switch l, err := disklabel.ReadCopy(dev); {
		case err == nil:
			if diff := l.Differs(want); diff != "" {
				return nil, fmt.Errorf("what is left of the partition table of %s is not the captured one: %s", dev, diff)
			}
		case !errors.Is(err, disklabel.ErrNone):
			return nil, err
		}
	}
	if err := written(dev, want); err != nil {
		return nil, err
	}
	nodes, err := want.Tell(ctx, dev)
	if err != nil {
		return nil, err
	}
	if err := inPlaces(ctx, r, g, table, nodes); err != nil {
		return nil, errors.Join(err, disklabel.Forget(context.WithoutCancel(ctx), dev))
	}
	return want, nil
}

var errNothing = errors.New("nothing of what was captured lies in the places of the captured partitions")

// written tells a disk that holds nothing where partitions would begin from
// one that may be somebody's: most disks without a table are new ones, and
// nothing is shown of them. Every signature lies in the first 128 KiB.
func written(dev string, l *disklabel.Label) error {
	f, err := os.Open(dev)
	if err != nil {
		return fmt.Errorf("look for what was captured: %w", err)
	}
	defer f.Close()
	b := make([]byte, 128<<10)
	for _, p := range l.Partitions {
		n, err := f.ReadAt(b[:min(p.Size, int64(len(b)))], p.Start)
		if err != nil && err != io.EOF {
			return fmt.Errorf("look for what was captured: %w", err)
		}
		if len(bytes.Trim(b[:n], "\x00")) > 0 {
			return nil
		}
	}
	return errNothing
}

// inPlaces compares what lies on partitions with what was captured on them.
func inPlaces(ctx context.Context, r run.Runner, g *manifest.Storage, table *manifest.Node, nodes map[int]string) error {
	same := 0
	for _, p := range g.OfKind(manifest.KindPartition) {
		node := nodes[p.Partition.Number]
		if len(p.On) != 1 || p.On[0].Node != table.ID || node == "" {
			continue
		}
		typ, uuid := contents(g, p.ID)
		is, err := blkid.Probe(ctx, r, node)
		switch {
		case errors.Is(err, blkid.ErrNone):
			// What is lost with the table (an EFI system partition, say) is
			// judged by itself.
		case err != nil:
			return err
		case typ == "":
			return fmt.Errorf("partition %d holds %s, and nothing known was captured on it", p.Partition.Number, is.Type)
		case is.Type != typ || !strings.EqualFold(is.UUID, uuid):
			return fmt.Errorf("partition %d holds %s %s, not %s %s", p.Partition.Number, is.Type, is.UUID, typ, uuid)
		default:
			same++
		}
	}
	if same == 0 {
		return errNothing
	}
	return nil
}

// contents are type and id, as blkid tells them, of what was captured on a
// partition.
func contents(g *manifest.Storage, part manifest.ID) (typ, uuid string) {
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if len(n.On) != 1 || n.On[0].Node != part {
			continue
		}
		switch {
		case n.FS != nil:
			return n.FS.Type, n.FS.UUID
		case n.Swap != nil:
			return "swap", n.Swap.UUID
		case n.PV != nil:
			return lvmMember, n.PV.UUID
		case n.LUKS != nil:
			return "crypto_LUKS", n.LUKS.UUID
		}
	}
	return "", ""
}

// Bare are the nodes of whole disks of n bytes of which the kernel shows no
// partition and which hold no plain contents, by kernel name.
func (r *Reading) Bare(n int64) map[string]string {
	out := map[string]string{}
	for name, c := range r.found {
		d := r.View.Device(name)
		if d == nil || d.Parent != "" || d.Bytes != n || len(d.Partitions) > 0 || c.found != nil && c.found.Table == "" {
			continue
		}
		out[name] = r.View.Node(d)
	}
	return out
}
