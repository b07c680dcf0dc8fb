package builder

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"lifeboat/images/iso"
	"lifeboat/images/usb"
	"lifeboat/internal/loaders"
	"lifeboat/report"
)

// container recognises a medium and returns its initramfs; nil when f is none.
func (i *Image) container(f *os.File, host string) (*io.SectionReader, error) {
	var err error
	if i.bytes, err = f.Seek(0, io.SeekEnd); err != nil {
		return nil, err
	}
	mark := make([]byte, 6)
	if _, err := f.ReadAt(mark, 16*2048); err == nil && bytes.Equal(mark[1:], []byte("CD001")) {
		img, err := iso.Read(f)
		if err != nil {
			return nil, err
		}
		i.medium = isoMedium{img}
		r, err := img.File(loaders.InitrdPath)
		if err != nil {
			return nil, report.Errorf(report.CodeUsage, "name an image that lifeboat made", "it is no rescue medium: %w", err)
		}
		return r, nil
	}
	img, err := usb.Open(f.Name())
	if errors.Is(err, usb.ErrNotStick) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	file := i.close
	i.close = func() error { return errors.Join(img.Close(), file()) }
	h, err := hostOf(img, host)
	if err != nil {
		return nil, err
	}
	i.medium = usbMedium{img, *h}
	return img.File(h.FilePath(loaders.InitrdPath))
}

// hostOf finds a host on a stick; "" is the only one.
func hostOf(img *usb.Image, host string) (*usb.Host, error) {
	var names []string
	for _, h := range img.Hosts() {
		if h.Name == host || host == "" && len(img.Hosts()) == 1 {
			return &h, nil
		}
		names = append(names, h.Name)
	}
	switch {
	case len(names) == 0:
		return nil, report.Errorf(report.CodeUsage, "put one there with `lifeboat usb write`", "the stick holds no rescue system")
	case host == "":
		return nil, report.Errorf(report.CodeUsage, "name one with --host", "the stick holds the rescue systems of %s", strings.Join(names, ", "))
	}
	return nil, report.Errorf(report.CodeUsage, "name one of "+strings.Join(names, ", "), "the stick holds no rescue system of %s", host)
}

type isoMedium struct{ *iso.Image }

func (isoMedium) Kind() string { return "iso" }

func (m isoMedium) Files() (out []File, err error) {
	for _, e := range m.List() {
		out = append(out, File{Path: mediumPrefix + e.Path, Mode: e.Mode.String(), Size: e.Size})
	}
	return out, nil
}

func (m isoMedium) Read(name string, limit int64) ([]byte, error) { return m.ReadFile(name, limit) }

func (m isoMedium) Kernel() (*io.SectionReader, error) { return m.File(loaders.KernelPath) }

type usbMedium struct {
	*usb.Image
	host usb.Host
}

func (usbMedium) Kind() string { return "usb" }

func (m usbMedium) Files() (out []File, err error) {
	list, err := m.List()
	for _, e := range list {
		out = append(out, File{Path: mediumPrefix + e.Path, Mode: e.Mode.String(), Size: e.Size})
	}
	return out, err
}

func (m usbMedium) Read(name string, limit int64) ([]byte, error) { return m.ReadFile(name, limit) }

func (m usbMedium) Kernel() (*io.SectionReader, error) {
	return m.File(m.host.FilePath(loaders.KernelPath))
}

// BuildID is the one of this host's menu: the boot loader looks for it.
func (m usbMedium) BuildID() (string, error) { return m.host.Menu.BuildID, nil }

// StickHost is what a stick has of one host.
type StickHost struct {
	Host     string   `json:"host"`
	BuildID  string   `json:"build_id"`
	Made     string   `json:"made"`
	Kernel   string   `json:"kernel"`
	Bytes    int64    `json:"bytes"`
	Archives []string `json:"archives"` // oldest first
	Size     int64    `json:"archive_bytes"`
}

// StickContent is what a stick holds.
type StickContent struct {
	Device string      `json:"device"`
	ID     string      `json:"id"`
	Bytes  int64       `json:"bytes"`
	Free   int64       `json:"free"`
	Boots  []string    `json:"boots,omitempty"` // modes that it has boot loaders for; none when it does not say
	Hosts  []StickHost `json:"hosts"`
}

// ListStick tells what the stick or its image at path holds.
func ListStick(path string) (*StickContent, error) {
	img, err := usb.Open(path)
	if errors.Is(err, usb.ErrNotStick) {
		return nil, report.Errorf(report.CodeUsage, "prepare it with `lifeboat usb write`", "%w", err)
	}
	if err != nil {
		return nil, err
	}
	defer img.Close()
	c := &StickContent{Device: path, ID: img.Mark.ID, Bytes: img.Bytes, Free: img.Free()}
	for _, x := range img.Mark.Boots {
		c.Boots = append(c.Boots, string(x))
	}
	for _, h := range img.Hosts() {
		s := StickHost{Host: h.Name, BuildID: h.Menu.BuildID, Made: h.Menu.Built.UTC().Format("2006-01-02 15:04 UTC"), Kernel: h.Menu.Kernel}
		for _, n := range []string{loaders.KernelPath, loaders.InitrdPath} {
			e, err := img.Stat(h.FilePath(n))
			if err != nil {
				return nil, fmt.Errorf("%s of %s: %w", n, h.Name, err)
			}
			s.Bytes += e.Size
		}
		for _, a := range img.Archives(h.Name) {
			s.Archives = append(s.Archives, strings.TrimPrefix(a.Path, "/"))
			s.Size += a.Size
		}
		c.Hosts = append(c.Hosts, s)
	}
	return c, nil
}
