package builder

import (
	"context"
	"fmt"
	"strings"
	"time"

	"lifeboat/images/iso"
	"lifeboat/internal/handoff"
	"lifeboat/internal/loaders"
	"lifeboat/report"
)

// How long the boot menu waits. A medium that recovers by itself need not wait
// long: the rescue system shows what it will erase, and waits again.
const (
	menuWait = 30 * time.Second
	autoWait = 5 * time.Second
)

// media writes every kind of output that the configuration names.
func (b *build) media(ctx context.Context, segs []segment) error {
	host := b.o.Manifest.Host.Name
	if host == "" || strings.ContainsAny(host, "/\x00") || host[0] == '.' {
		return report.Errorf(report.CodeManifest, "give the host a name", "host name %q cannot be a file name", host)
	}
	for _, kind := range b.o.Config.Output {
		switch kind {
		case "iso":
			if err := b.iso(ctx, segs); err != nil {
				return err
			}
		case "usb":
			if err := b.usb(ctx, segs); err != nil {
				return err
			}
		default:
			return report.Errorf(report.CodeConfig, "set output: [iso] or [usb]", "output: %q cannot be made by this version", kind)
		}
	}
	return nil
}

// menu is the boot menu of the medium. It starts the local disk by default,
// so that a medium left in the drive does no harm, unless the configuration
// wants a recovery without a question.
func (b *build) menu() loaders.Menu {
	m := loaders.Menu{
		BuildID: b.order.BuildID, Host: b.o.Manifest.Host.Name, Built: b.o.Manifest.Made, Kernel: b.kernel.Release,
		Cmdline: b.o.Config.Cmdline, Consoles: b.o.Manifest.Boot.Consoles,
		Default: loaders.Local, Timeout: menuWait, MenuOnly: b.order.Reason != "",
	}
	if b.order.Recover == handoff.Auto {
		m.Default, m.Timeout = loaders.Auto, autoWait
	}
	return m
}

func (b *build) iso(ctx context.Context, segs []segment) error {
	path := b.target(".iso")
	return b.step("iso", "Writing "+path, func() (Part, error) {
		doc, err := b.o.Manifest.Encode()
		if err != nil {
			return Part{}, err
		}
		spec := iso.Spec{Kernel: b.kernel.Image, Manifest: doc, Menu: b.menu(), Loaders: loaders.Find(b.o.Root), Runner: b.o.Run}
		for _, s := range segs {
			if s.file != "" {
				spec.Initrd = append(spec.Initrd, iso.Source{Path: s.file})
			}
		}
		r, err := iso.Write(ctx, path, spec)
		if err != nil {
			return Part{}, err
		}
		b.medium("iso", r.Path, r.Bytes, r.Modes, r.Problems)
		return Part{Files: len(r.Sizes), Stored: r.Bytes}, nil
	})
}

// Lines tell a person what was made, with sizes and times.
func (r *Result) Lines() []string {
	out := []string{fmt.Sprintf("kernel    %s with %d modules", r.Kernel, r.Modules)}
	for _, p := range r.Parts {
		switch p.Name {
		case "base", "modules", "host":
			out = append(out, fmt.Sprintf("%-9s %d files, %.1f MiB in %.1f MiB %s, %.1f s", p.Name, p.Files, mib(p.Bytes), mib(p.Stored), r.Codec, float64(p.Millis)/1000))
		}
	}
	out = append(out,
		fmt.Sprintf("checked   %d programs and libraries find what they need, %d programs answer", r.Resolved, len(r.Tools)),
		fmt.Sprintf("initramfs %.1f MiB; a machine needs %.0f MiB of memory", mib(r.Initramfs), mib(r.Memory)))
	for _, s := range r.Secrets {
		out = append(out, fmt.Sprintf("secret    %s: %s", s.Path, s.Why))
	}
	for _, m := range r.Media {
		out = append(out, fmt.Sprintf("%-9s %s, %.1f MiB, starts by %s", m.Kind, m.Path, mib(m.Bytes), strings.Join(m.Boots, ", ")))
	}
	return out
}
