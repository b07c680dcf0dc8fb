package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat/builder"
	"lifeboat/images/usb"
	"lifeboat/internal/cli"
	"lifeboat/report"
)

func (a *app) usb() *cobra.Command {
	c := &cobra.Command{
		Use: "usb", Short: "Write rescue sticks and look at them",
		Long: "A stick holds the rescue systems of one or more hosts, their backups and the\n" +
			"journals of recoveries. Only removable disks that nothing uses are written.",
		Example: "  lifeboat usb write /dev/sdX\n  lifeboat usb list /dev/sdX",
	}
	c.AddCommand(a.usbWrite(), a.usbList())
	return group(c)
}

// stickFlags are those of usb write.
type stickFlags struct {
	images, dirs []string
	confirm      string
	fresh        bool
}

func (a *app) usbWrite() *cobra.Command {
	var w stickFlags
	c := &cobra.Command{
		Use: "write DEVICE", Short: "Make a rescue stick, or add and renew hosts on one", Args: cobra.ExactArgs(1),
		Long: "The whole stick is used. One that is a rescue stick already keeps its other hosts\n" +
			"and all backups; of each host the newest rescue system stays. Without --image and\n" +
			"--host the image that mkrescue made of this host is taken.",
		Example: "  lifeboat usb write /dev/sdX\n  lifeboat usb write /dev/sdX --image web1.usb.img --image db1.usb.img\n  lifeboat usb write /dev/sdX --host /srv/images --confirm 4C530001",
		RunE: func(c *cobra.Command, args []string) error {
			return a.writeStick(c.Context(), args[0], w)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&w.images, "image", nil, "image HOSTNAME.usb.img, or another stick; once for each")
	f.StringArrayVar(&w.dirs, "host", nil, "folder with images HOSTNAME.usb.img; once for each")
	f.StringVar(&w.confirm, "confirm", "", "serial of the stick (its size in bytes if it has none), instead of the question")
	f.BoolVar(&w.fresh, "fresh", false, "erase the stick also when it is a rescue stick")
	return c
}

// sources opens the images that are to go onto a stick.
func (a *app) stickSources(w stickFlags) (imgs []*usb.Image, done func(), err error) {
	done = func() {
		for _, i := range imgs {
			i.Close()
		}
	}
	names := w.images
	for _, d := range w.dirs {
		found, err := filepath.Glob(filepath.Join(d, "*.usb.img"))
		if err != nil || len(found) == 0 {
			return nil, done, report.Errorf(report.CodeUsage, "make one with output: [usb] and mkrescue", "%s holds no image HOSTNAME.usb.img", d)
		}
		names = append(names, found...)
	}
	if len(names) == 0 {
		conf, err := a.settings()
		if err != nil {
			return nil, done, err
		}
		host, err := os.Hostname()
		if err != nil {
			return nil, done, err
		}
		names = []string{filepath.Join(conf.OutputDir, host+".usb.img")}
		if _, err := os.Stat(names[0]); err != nil {
			return nil, done, report.Errorf(report.CodeUsage, "run `lifeboat mkrescue` with output: [usb], or name an image with --image", "there is no image of this host: %w", err)
		}
	}
	for _, n := range names {
		i, err := usb.Open(n)
		if err != nil {
			return imgs, done, report.Errorf(report.CodeUsage, "name an image that mkrescue made with output: [usb]", "%w", err)
		}
		imgs = append(imgs, i)
		if len(i.Hosts()) == 0 {
			return imgs, done, report.Errorf(report.CodeUsage, "make it again", "%s holds no rescue system", n)
		}
	}
	return imgs, done, nil
}

func (a *app) writeStick(ctx context.Context, dev string, w stickFlags) error {
	if err := needRoot("writing a stick"); err != nil {
		return err
	}
	imgs, done, err := a.stickSources(w)
	defer done()
	if err != nil {
		return err
	}
	// What is copied is whole: a stick is needed when nothing else is there.
	for _, i := range imgs {
		if err := i.Verify(ctx); err != nil {
			return report.Errorf(report.CodeFailed, "make the image again", "an image is damaged: %w", err)
		}
	}
	d, err := builder.FindStick(dev)
	if err != nil {
		return err
	}
	defer d.Close()
	for _, i := range imgs {
		if i.On(d.Path) {
			return report.Errorf(report.CodeUsage, "name another image or another stick", "%s is the stick that is to be written", i.Name())
		}
	}
	if w.fresh {
		d.Close()
		d.Found = nil
	}
	if err := a.confirmStick(d, imgs, w.confirm); err != nil {
		return err
	}
	var t *builder.Stick
	if d.Found == nil {
		t, err = d.Format(ctx, a.runner(), imgs[0])
	} else {
		t, err = d.Open()
	}
	if err != nil {
		return err
	}
	err = a.addHosts(ctx, t, imgs)
	if cerr := t.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return a.listStick(d.Path)
}

func (a *app) addHosts(ctx context.Context, t *builder.Stick, imgs []*usb.Image) error {
	for _, i := range imgs {
		for _, h := range i.Hosts() {
			c, err := i.Content(h)
			if err != nil {
				return err
			}
			notes, err := t.Add(ctx, c, a.out)
			for _, p := range notes {
				a.out.Warn(p)
			}
			if err != nil {
				return err
			}
			a.out.Info("%s is on the stick", h.Name)
		}
	}
	return nil
}

// confirmStick shows what will be written and has a person type the serial.
func (a *app) confirmStick(d *builder.StickDisk, imgs []*usb.Image, confirm string) error {
	var hosts []string
	for _, i := range imgs {
		for _, h := range i.Hosts() {
			hosts = append(hosts, h.Name)
		}
	}
	serial := d.Serial
	if serial == "" {
		serial = "none"
	}
	lines := []string{fmt.Sprintf("%s: %s, serial %s, %s (%d bytes)", d.Path, d.Model, serial, cli.Size(d.Bytes), d.Bytes)}
	if d.Found == nil {
		lines = append(lines, "EVERYTHING ON IT WILL BE ERASED. It becomes the rescue stick of "+strings.Join(hosts, ", ")+".")
	} else {
		var have []string
		for _, h := range d.Found.Hosts() {
			have = append(have, h.Name)
		}
		lines = append(lines, "It is the rescue stick of "+strings.Join(have, ", ")+". Added or renewed: "+strings.Join(hosts, ", ")+". All else stays.")
	}
	for _, l := range lines {
		a.out.Info("%s", l)
	}
	answer := confirm
	if answer == "" {
		what := "the serial of the stick"
		if d.Serial == "" {
			what = "the size of the stick in bytes"
		}
		var err error
		if answer, err = a.out.Ask("Type " + what + " to go on: "); err != nil {
			return report.Errorf(report.CodeUsage, "give --confirm "+d.Word(), "nobody can be asked: %w", err)
		}
	}
	if answer != d.Word() {
		return report.Errorf(report.CodeDeclined, "type it exactly as shown", "%q is not the serial of %s; nothing was written", answer, d.Path)
	}
	return nil
}

func (a *app) usbList() *cobra.Command {
	return &cobra.Command{
		Use: "list DEVICE|IMAGE", Short: "Tell which hosts and backups a stick holds", Args: cobra.ExactArgs(1),
		Example: "  lifeboat usb list /dev/sdX",
		RunE:    func(_ *cobra.Command, args []string) error { return a.listStick(args[0]) },
	}
}

func (a *app) listStick(name string) error {
	c, err := builder.ListStick(name)
	if err != nil {
		return err
	}
	if a.out.JSON {
		return a.out.Value(c)
	}
	a.out.Print("%s: rescue stick, %s, %s free", c.Device, cli.Size(c.Bytes), cli.Size(c.Free))
	if len(c.Boots) > 0 {
		a.out.Print("boot loaders for %s", strings.Join(c.Boots, ", "))
	}
	for _, h := range c.Hosts {
		a.out.Print("%-24s made %s, Linux %s, %s; %d backups, %s", h.Host, h.Made, h.Kernel, cli.Size(h.Bytes), len(h.Archives), cli.Size(h.Size))
	}
	return nil
}
