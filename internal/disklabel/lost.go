package disklabel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/manifest"
)

// Of is the table of a table node with the partitions that stand on it.
func Of(g *manifest.Storage, table *manifest.Node) *Label {
	l := &Label{Table: *table.Table}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if n.Partition != nil && len(n.On) == 1 && n.On[0].Node == table.ID {
			l.Partitions = append(l.Partitions, *n.Partition)
		}
	}
	return l
}

// ReadCopy reads the GPT of a disk whose first sector does not lead to it: the
// kernel and the firmware see no table there. ErrNone when neither copy of it
// is whole.
func ReadCopy(path string) (*Label, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the partition table: %w", err)
	}
	defer f.Close()
	size, sector, err := geometry(f)
	if err != nil {
		return nil, err
	}
	if err := checkGeometry(size, sector); err != nil {
		return nil, err
	}
	d := &disk{r: f, sector: sector, sectors: size / sector}
	mbr := make([]byte, sector)
	mbr[entryOffset+4] = typeGPT
	l, err := d.readGPT(mbr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	return l, nil
}

// Differs says in a few words where two tables differ in identity or in the
// places of their partitions, "" for nowhere.
func (l *Label) Differs(m *Label) string {
	if l.Table.Type != m.Table.Type || !strings.EqualFold(l.Table.UUID, m.Table.UUID) {
		return fmt.Sprintf("it is %s %s, not %s %s", l.Table.Type, l.Table.UUID, m.Table.Type, m.Table.UUID)
	}
	have := map[int]manifest.Partition{}
	for _, p := range l.Partitions {
		have[p.Number] = p
	}
	for _, p := range m.Partitions {
		if q, ok := have[p.Number]; !ok || q.Start != p.Start || q.Size != p.Size {
			return fmt.Sprintf("partition %d is another one", p.Number)
		}
	}
	if len(l.Partitions) != len(m.Partitions) {
		return fmt.Sprintf("it has %d partitions, not %d", len(l.Partitions), len(m.Partitions))
	}
	return ""
}

// Tell has the kernel show the partitions of l on dev, of which it shows none,
// and returns their nodes by number. Nothing is written; Forget takes them
// back. A disk in use is unix.EBUSY.
func (l *Label) Tell(ctx context.Context, dev string) (map[int]string, error) {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	f, err := os.OpenFile(dev, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s exclusively: %w", dev, err)
	}
	defer f.Close()
	parts, err := kernelParts(f)
	if err != nil {
		return nil, err
	}
	if len(parts) > 0 {
		return nil, fmt.Errorf("the kernel shows partitions of %s already", dev)
	}
	for _, p := range l.Partitions {
		size := p.Size
		if l.Table.Type == DOS && p.Number <= 4 && isExtended(p.Type) {
			size = min(size, 1024) // logical ones lie inside it
		}
		if err = blkpg(f, unix.BLKPG_ADD_PARTITION, p.Number, p.Start, size); err != nil {
			err = fmt.Errorf("show partition %d of %s: %w", p.Number, dev, err)
			break
		}
	}
	var nodes map[int]string
	if err == nil {
		err = poll(ctx, func() (bool, error) {
			parts, err := kernelParts(f)
			if err == nil {
				err = l.match(parts)
			}
			if err == nil {
				nodes, err = l.nodes(parts)
			}
			return err == nil, err
		})
	}
	if err != nil {
		return nil, errors.Join(err, dropPartitions(context.WithoutCancel(ctx), f))
	}
	return nodes, nil
}
