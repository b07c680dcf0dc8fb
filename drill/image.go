package drill

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

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
	d.medium = qemu.Drive{File: d.o.Image, Interface: qemu.CDROM, Boot: 1}
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
	if n := len(img.Hosts()); n != 1 {
		return nil, report.Errorf(report.CodeUsage, "name the image that mkrescue made", "%s holds %d hosts, and a drill is of one", d.o.Image, n)
	}
	h := img.Hosts()[0]
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
