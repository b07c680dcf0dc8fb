package builder

import (
	"context"
	"fmt"

	"lifeboat/images/usb"
	"lifeboat/internal/loaders"
	"lifeboat/report"
)

// usb writes the image of a stick, or puts this host onto one.
func (b *build) usb(ctx context.Context, segs []segment) error {
	doc, err := b.o.Manifest.Encode()
	if err != nil {
		return err
	}
	spec := usb.Spec{Kernel: b.kernel.Image, Manifest: doc, Menu: b.menu(), OS: b.o.Manifest.Host.OS.ID, Loaders: loaders.Find(b.o.Root), Archives: b.o.Archives}
	for _, s := range segs {
		if s.file != "" {
			spec.Initrd = append(spec.Initrd, s.file)
		}
	}
	if b.o.Stick != nil {
		return b.toStick(ctx, spec)
	}
	path := b.target(".usb.img")
	return b.step("usb", "Writing "+path, func() (Part, error) {
		r, err := usb.Write(ctx, path, spec, b.o.Run)
		if err != nil {
			return Part{}, err
		}
		b.medium("usb", r.Path, r.Bytes, r.Modes, r.Problems)
		return Part{Files: r.Files, Stored: r.Bytes}, nil
	})
}

// toStick puts the rescue system onto a stick that is there.
func (b *build) toStick(ctx context.Context, spec usb.Spec) error {
	return b.step("usb", "Writing to the stick "+b.o.Stick.Device, func() (Part, error) {
		modes, notes, err := b.o.Stick.tree.Mark.Judge(spec.OS, spec.Kernel, spec.Loaders)
		if err != nil {
			return Part{}, err
		}
		c, err := spec.Content(ctx, b.work)
		if err != nil {
			return Part{}, err
		}
		more, err := b.o.Stick.Add(ctx, c, b.o.Sink)
		if err != nil {
			return Part{}, err
		}
		b.medium("usb", fmt.Sprintf("%s on %s", spec.Menu.Host, b.o.Stick.Device), b.o.Stick.Bytes, modes, append(notes, more...))
		return Part{Files: len(spec.Initrd) + 1}, nil
	})
}

// medium notes what was written and in which modes it starts.
func (b *build) medium(kind, path string, bytes int64, modes []loaders.Mode, notes []report.Problem) {
	b.problem(notes...)
	m := Medium{Kind: kind, Path: path, Bytes: bytes}
	for _, x := range modes {
		m.Boots = append(m.Boots, string(x))
	}
	b.res.Media = append(b.res.Media, m)
}
