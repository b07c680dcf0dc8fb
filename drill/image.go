package drill

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/backup"
	"lifeboat/drill/qemu"
	"lifeboat/images/iso"
	"lifeboat/images/usb"
	"lifeboat/manifest"
	"lifeboat/report"
)

// openImage reads the manifest that lies on the image and decides how the
// image is attached.
func (d *drill) openImage() error {
	data, err := d.readStick()
	if errors.Is(err, usb.ErrNotStick) {
		data, err = d.readISO()
	}
	if err == nil {
		d.m, err = manifest.Decode(data)
	}
	return err
}

func (d *drill) readISO() ([]byte, error) {
	img, err := iso.Open(d.o.Image)
	if err != nil {
		return nil, err
	}
	defer img.Close()
	data, err := img.Manifest()
	if err != nil {
		return nil, fmt.Errorf("read the manifest of %s: %w", d.o.Image, err)
	}
	d.medium, d.keys = qemu.Drive{File: d.o.Image, Interface: qemu.CDROM, Boot: 1}, "a"
	return data, nil
}

// readStick prepares the image of a stick: the machine gets a copy, since the
// rescue system keeps its journal there.
func (d *drill) readStick() ([]byte, error) {
	img, err := usb.Open(d.o.Image)
	if err != nil {
		return nil, err
	}
	defer img.Close()
	h, err := d.choose(img.Hosts())
	if err != nil {
		return nil, err
	}
	data, err := img.Manifest(h)
	if err != nil {
		return nil, err
	}
	d.onStick = len(img.Archives(h.Name)) > 0 && (d.o.Backup == "" || backup.IsUSB(d.o.Backup))
	copied := filepath.Join(d.o.Dir, "stick.img")
	if err := copySparse(copied, d.o.Image); err != nil {
		return nil, fmt.Errorf("copy the stick's image: %w", err)
	}
	d.res.Stick = copied
	d.medium = qemu.Drive{File: copied, Interface: qemu.USB, Boot: 1, Serial: "LIFEBOAT-STICK", Removable: true}
	return data, nil
}

// maxKeys is how many hosts of a boot menu have a key of their own.
const maxKeys = 9

// choose finds the host of a stick that is drilled, and the keys that lead to
// its entry: with several hosts each has a menu of its own.
func (d *drill) choose(hosts []usb.Host) (usb.Host, error) {
	var names []string
	for i, h := range hosts {
		names = append(names, h.Name)
		if d.o.Host != h.Name && (d.o.Host != "" || len(hosts) > 1) {
			continue
		}
		if len(hosts) > 1 {
			if i >= maxKeys {
				return h, report.Errorf(report.CodeUsage, "drill the image that mkrescue made", "%s is host %d of the stick, and only the first %d have a key", h.Name, i+1, maxKeys)
			}
			d.keys = fmt.Sprint(i + 1)
		}
		d.keys += "a"
		return h, nil
	}
	list := strings.Join(names, ", ")
	switch {
	case len(names) == 0:
		return usb.Host{}, report.Errorf(report.CodeUsage, "name another image", "%s holds no rescue system", d.o.Image)
	case d.o.Host == "":
		return usb.Host{}, report.Errorf(report.CodeUsage, "name one with --host", "%s holds the rescue systems of %s, and a drill is of one", d.o.Image, list)
	}
	return usb.Host{}, report.Errorf(report.CodeUsage, "name one of "+list, "%s holds no rescue system of %s", d.o.Image, d.o.Host)
}

// copySparse copies what is data; holes stay holes. A stick is mostly empty.
func copySparse(to, from string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer w.Close()
	size, err := r.Seek(0, io.SeekEnd)
	if err == nil {
		err = w.Truncate(size)
	}
	for at := int64(0); err == nil && at < size; {
		data, derr := r.Seek(at, unix.SEEK_DATA)
		if errors.Is(derr, unix.ENXIO) {
			break // only a hole is left
		}
		if derr != nil {
			data = at // a filesystem that does not tell
		}
		end, herr := r.Seek(data, unix.SEEK_HOLE)
		if herr != nil {
			end = size
		}
		_, err = io.Copy(io.NewOffsetWriter(w, data), io.NewSectionReader(r, data, end-data))
		at = end
	}
	return errors.Join(err, w.Close())
}
