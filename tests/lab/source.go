package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"lifeboat/drill/qemu"
	"lifeboat/internal/run"
)

// Source is a system that was made; its disk is shared and never written:
// tests take a Copy.
type Source struct {
	Layout Layout
	Disk   string // raw

	extents map[string]Extents // by Volume.Name
}

// MakeSource makes the system that layout describes, or finds it made before.
// Disk and LVM are made in the appliance, file systems and files on this
// machine through loop mounts (a tenth of the time), the loader in the
// appliance again.
func (l *Lab) MakeSource(ctx context.Context, layout Layout) (*Source, error) {
	words, err := json.Marshal(layout)
	if err != nil {
		return nil, err
	}
	id, err := l.hash("source "+l.id, string(words), "disks.sh", "fill.sh", "configure.sh", "kinds.sh", "agent.pl", "boot.sh")
	if err != nil {
		return nil, err
	}
	dir, err := l.cached(ctx, "source-"+layout.Name+"-"+id, func(out string) error {
		return l.makeSource(ctx, layout, out)
	})
	if err != nil {
		return nil, fmt.Errorf("make the source system %s: %w", layout.Name, err)
	}
	s := &Source{Layout: layout, Disk: filepath.Join(dir, "disk.raw")}
	b, err := os.ReadFile(filepath.Join(dir, "extents.json"))
	if err != nil {
		return nil, err
	}
	return s, json.Unmarshal(b, &s.extents)
}

func (l *Lab) makeSource(ctx context.Context, layout Layout, out string) error {
	disk := filepath.Join(out, "disk.raw")
	if err := qemu.CreateRaw(disk, layout.Bytes); err != nil {
		return err
	}
	l.log("source: partitions and volumes of %s", layout.Name)
	ext, err := l.makeStorage(ctx, layout, disk)
	if err != nil {
		return err
	}
	spec := filepath.Join(out, "volumes")
	if err := writeSpec(spec, layout, ext); err != nil {
		return err
	}
	l.log("source: file systems and files")
	if err := l.script(ctx, "fill.sh", nil, disk, l.base, spec); err != nil {
		return err
	}
	l.log("source: boot loader")
	if err := l.makeBoot(ctx, layout, disk, spec); err != nil {
		return err
	}
	b, err := json.Marshal(ext)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "extents.json"), b, 0o644)
}

func (l *Lab) makeStorage(ctx context.Context, layout Layout, disk string) (map[string]Extents, error) {
	m, err := l.Appliance(ctx, qemu.Drive{File: disk, Interface: qemu.Virtio})
	if err != nil {
		return nil, err
	}
	defer m.Kill()
	if err := m.readFunctions(ctx, l); err != nil {
		return nil, err
	}
	if _, err := m.Run(ctx, functions+"disk=$(disks)\n"+layout.Storage); err != nil {
		return nil, err
	}
	d, err := m.describe(ctx, 0)
	if err != nil {
		return nil, err
	}
	return d.extents, m.Off(ctx)
}

// writeSpec writes the table that fill.sh and boot.sh read.
func writeSpec(path string, layout Layout, ext map[string]Extents) error {
	var b strings.Builder
	for _, v := range layout.Volumes {
		e := ext[v.Name]
		if len(e) != 1 {
			return fmt.Errorf("volume %s of layout %s is not one piece of the disk: %v", v.Name, layout.Name, e)
		}
		fmt.Fprintln(&b, strings.Join([]string{v.Name, v.Type, fmt.Sprint(e[0].Offset), fmt.Sprint(e[0].Bytes),
			v.Path, v.Options, v.UUID, run.Quote(v.Make), run.Quote(v.Tune)}, "\t"))
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

func (l *Lab) makeBoot(ctx context.Context, layout Layout, disk, spec string) error {
	m, err := l.Appliance(ctx, qemu.Drive{File: disk, Interface: qemu.Virtio})
	if err != nil {
		return err
	}
	defer m.Kill()
	if err := m.readFunctions(ctx, l); err != nil {
		return err
	}
	if err := m.Put(ctx, spec, "/lab/volumes", 0o644); err != nil {
		return err
	}
	if err := m.Put(ctx, filepath.Join(l.tools, "boot.sh"), "/lab/boot.sh", 0o755); err != nil {
		return err
	}
	out := &lineLog{log: l.log}
	code, err := m.Stream(ctx, "bash /lab/boot.sh "+run.Quote([]string{layout.Boot}), out, out)
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("make the system bootable: exit status %d; its last lines are above", code)
	}
	return m.Off(ctx)
}

// Copy gives a test its own disk with the system on it.
func (s *Source) Copy(ctx context.Context, path string) error { return CopySparse(ctx, s.Disk, path) }
