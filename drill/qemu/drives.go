package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
)

// Ports of one AHCI controller.
const ahciPorts = 6

// driveArgs attaches the drives of c and the controllers that they need.
func driveArgs(c Config) ([]string, error) {
	var a []string
	for _, ctl := range []struct {
		of  Interface
		arg string
	}{{SCSI, "virtio-scsi-pci,id=scsi"}, {USB, "qemu-xhci,id=usb"}} {
		if c.HotplugSlots > 0 || slices.ContainsFunc(c.Drives, func(d Drive) bool { return d.Interface == ctl.of }) {
			a = append(a, "-device", ctl.arg)
		}
	}
	for i := range c.HotplugSlots {
		a = append(a, "-device", props{"driver": "pcie-root-port", "id": slotName(i), "chassis": 100 + i, "slot": i}.json())
	}
	sata := 0
	for i, d := range c.Drives {
		d = d.named(i)
		if err := d.check(); err != nil {
			return nil, err
		}
		bus := ""
		if d.Interface == AHCI || d.Interface == CDROM {
			ctl := sata / ahciPorts
			if sata%ahciPorts == 0 {
				a = append(a, "-device", "ich9-ahci,id=sata"+strconv.Itoa(ctl))
			}
			bus = fmt.Sprintf("sata%d.%d", ctl, sata%ahciPorts)
			sata++
		}
		if d.Snapshot {
			// Only the older -drive knows throw-away overlays.
			a = append(a, "-drive", fmt.Sprintf("if=none,id=%s,format=%s,cache=unsafe,snapshot=on,file=%s", d.ID, d.format(), comma(d.File)))
		} else {
			a = append(a, "-blockdev", d.node().json())
		}
		a = append(a, "-device", d.device(bus).json())
	}
	return a, nil
}

func slotName(i int) string { return "slot" + strconv.Itoa(i) }

func (d Drive) named(i int) Drive {
	if d.ID == "" {
		d.ID = "drive" + strconv.Itoa(i)
	}
	if d.Interface == "" {
		d.Interface = Virtio
	}
	if d.Interface == CDROM {
		d.ReadOnly = true
	}
	return d
}

func (d Drive) format() string {
	if d.Format == "" {
		return "raw"
	}
	return d.Format
}

func (d Drive) check() error {
	switch {
	case d.format() != "raw" && d.format() != "qcow2":
		return fmt.Errorf("drive %s: format %q is neither raw nor qcow2", d.ID, d.Format)
	case driver(d.Interface) == "":
		return fmt.Errorf("drive %s: unknown interface %q", d.ID, d.Interface)
	case d.WWN != 0 && d.Interface != SCSI && d.Interface != AHCI:
		return fmt.Errorf("drive %s: QEMU gives a WWN only to scsi and ahci drives, not to %s", d.ID, d.Interface)
	case d.Removable && d.Interface != USB:
		return fmt.Errorf("drive %s: only usb drives can say that they are removable", d.ID)
	}
	if _, err := os.Stat(d.File); err != nil {
		return fmt.Errorf("drive %s: %w", d.ID, err)
	}
	return nil
}

func driver(i Interface) string {
	return map[Interface]string{Virtio: "virtio-blk-pci", SCSI: "scsi-hd", AHCI: "ide-hd", NVMe: "nvme", USB: "usb-storage", CDROM: "ide-cd"}[i]
}

// node is the block node. Nothing is flushed to the host's disk: a test
// machine that loses power loses its drives, and is much faster for it.
func (d Drive) node() props {
	cache := props{"direct": false, "no-flush": true}
	return props{"driver": d.format(), "node-name": d.ID, "read-only": d.ReadOnly, "discard": "unmap", "cache": cache,
		"file": props{"driver": "file", "filename": d.File, "read-only": d.ReadOnly, "cache": cache, "discard": "unmap"}}
}

// device is the front end that the guest sees.
func (d Drive) device(bus string) props {
	p := props{"driver": driver(d.Interface), "drive": d.ID, "id": "dev-" + d.ID}
	switch {
	case bus != "":
		p["bus"] = bus
	case d.Interface == SCSI:
		p["bus"] = "scsi.0"
	case d.Interface == USB:
		p["bus"], p["removable"] = "usb.0", d.Removable
	}
	if d.Serial != "" {
		p["serial"] = d.Serial
	} else if d.Interface == NVMe {
		p["serial"] = "nvme-" + d.ID
	}
	if d.WWN != 0 {
		p["wwn"] = d.WWN
	}
	if d.Boot > 0 {
		p["bootindex"] = d.Boot
	}
	if d.SectorBytes > 0 {
		p["logical_block_size"], p["physical_block_size"] = d.SectorBytes, max(d.SectorBytes, d.PhysicalBytes)
	} else if d.PhysicalBytes > 0 {
		p["physical_block_size"] = d.PhysicalBytes
	}
	return p
}

// CreateRaw makes a sparse file of size bytes for a blank drive. An existing
// file is an error, so that no test runs on what another one left.
func CreateRaw(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make a blank drive: %w", err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("make a blank drive of %d bytes: %w", size, err)
	}
	return f.Close()
}

// AddDrive plugs d in while the machine runs. d.ID must be set. Virtio and
// NVMe drives take one of Config.HotplugSlots.
func (v *VM) AddDrive(ctx context.Context, d Drive) error {
	if d.ID == "" {
		return errors.New("a hot-plugged drive needs an ID")
	}
	d = d.named(0)
	if d.Snapshot {
		return fmt.Errorf("drive %s: a hot-plugged drive cannot be a snapshot", d.ID)
	}
	if err := d.check(); err != nil {
		return err
	}
	bus, err := v.hotBus(d)
	if err != nil {
		return err
	}
	if _, err := v.qmp.Execute(ctx, "blockdev-add", d.node()); err != nil {
		return fmt.Errorf("plug in drive %s: %w", d.ID, err)
	}
	if _, err := v.qmp.Execute(ctx, "device_add", d.device(bus)); err != nil {
		_, _ = v.qmp.Execute(ctx, "blockdev-del", props{"node-name": d.ID})
		return fmt.Errorf("plug in drive %s: %w", d.ID, err)
	}
	return nil
}

// hotBus reserves a free slot for PCI drives; others use their controller.
func (v *VM) hotBus(d Drive) (string, error) {
	switch d.Interface {
	case SCSI, USB:
		if v.cfg.HotplugSlots == 0 {
			break
		}
		return "", nil
	case Virtio, NVMe:
	default:
		return "", fmt.Errorf("drive %s: QEMU cannot plug in %s drives while the machine runs", d.ID, d.Interface)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.slots >= v.cfg.HotplugSlots {
		return "", fmt.Errorf("drive %s: no free slot; raise Config.HotplugSlots (%d)", d.ID, v.cfg.HotplugSlots)
	}
	v.slots++
	return slotName(v.slots - 1), nil
}

// RemoveDrive pulls a drive and waits until the guest has let go of it.
func (v *VM) RemoveDrive(ctx context.Context, id string) error {
	mark := v.qmp.Mark()
	if _, err := v.qmp.Execute(ctx, "device_del", props{"id": "dev-" + id}); err != nil {
		return fmt.Errorf("pull drive %s: %w", id, err)
	}
	_, err := v.qmp.WaitEvent(ctx, mark, func(e Event) bool {
		return e.Name == "DEVICE_DELETED" && e.Data["device"] == "dev-"+id
	})
	if err != nil {
		return fmt.Errorf("pull drive %s: the guest does not let go of it: %w", id, err)
	}
	// Nodes given by -blockdev or blockdev-add stay until they are dropped.
	if _, err := v.qmp.Execute(ctx, "blockdev-del", props{"node-name": id}); err != nil {
		return fmt.Errorf("drop the node of drive %s: %w", id, err)
	}
	return nil
}
