package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat/builder"
	"lifeboat/builder/payload"
	"lifeboat/internal/cli"
	"lifeboat/report"
)

func (a *app) inspect() *cobra.Command {
	var host string
	c := &cobra.Command{
		Use: "inspect IMAGE|DEVICE [ls|cat FILE ...|verify|secrets]", Short: "Look into an image", Args: cobra.MinimumNArgs(1),
		Long: "Without more words it says what the image is. ls lists its files, cat prints some,\n" +
			"verify reads everything and compares digests, secrets lists what must not come\ninto other hands. Files of the medium itself have the prefix medium:.",
		Example: "  lifeboat inspect /var/lib/lifeboat/output/web1.iso\n  lifeboat inspect web1.iso cat /etc/lifeboat/order.json\n  lifeboat inspect /dev/sdX --host web1 verify",
		RunE: func(c *cobra.Command, args []string) error {
			img, err := builder.OpenHost(args[0], host)
			if err != nil {
				return err
			}
			defer img.Close()
			what := "summary"
			if len(args) > 1 {
				what = args[1]
			}
			switch {
			case what == "cat" && len(args) > 2:
				return a.cat(img, args[2:])
			case len(args) > 2 || what == "cat":
				return usage(c, fmt.Errorf("%s takes no more words, and cat needs a file", what))
			case what == "ls":
				return a.ls(img)
			case what == "verify":
				if err := img.Verify(c.Context()); err != nil {
					return err
				}
				a.out.Print("%s is whole", img.Path)
				return nil
			case what == "secrets":
				return a.secrets(img)
			case what == "summary":
				return a.imageSummary(img)
			}
			return usage(c, fmt.Errorf("%q is not one of ls, cat, verify, secrets", what))
		},
	}
	c.Flags().StringVar(&host, "host", "", "which host of a stick with several")
	return c
}

func (a *app) cat(img *builder.Image, files []string) error {
	for _, f := range files {
		b, err := img.Cat(f)
		if err != nil {
			return err
		}
		if _, err := a.out.Stdout.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) ls(img *builder.Image) error {
	files := img.Files()
	if a.out.JSON {
		return a.out.Value(files)
	}
	for _, f := range files {
		link := ""
		if f.Link != "" {
			link = " -> " + f.Link
		}
		a.out.Print("%s %10d %s%s", f.Mode, f.Size, f.Path, link)
	}
	return nil
}

func (a *app) secrets(img *builder.Image) error {
	list, err := img.Secrets()
	if err != nil {
		return err
	}
	if a.out.JSON {
		return a.out.Value(append([]payload.Secret{}, list...)) // none is [], not null
	}
	if len(list) == 0 {
		a.out.Print("%s holds no secret", img.Path)
	}
	for _, s := range list {
		a.out.Print("%s: %s", s.Path, s.Why)
	}
	return nil
}

func (a *app) imageSummary(img *builder.Image) error {
	s, err := img.Summary()
	if err != nil {
		return err
	}
	if a.out.JSON {
		return a.out.Value(s)
	}
	a.out.Print("%s: %s of %s, %s, %d files", img.Path, s.Kind, s.Host, cli.Size(s.Bytes), s.Files)
	a.out.Print("build %s, made %s, kernel %s", s.BuildID, s.Made, s.Kernel)
	a.out.Print("recover %s, then %s, backup %s (%s)", s.Order.Recover, s.Order.Then, s.Order.Backup.URL, s.Order.Backup.Method)
	for _, g := range s.Segments {
		a.out.Print("segment at %d: %s, %s unpacked, %d files", g.Offset, g.Codec, cli.Size(g.Unpacked), g.Entries)
	}
	if s.Order.Reason != "" {
		a.out.Warn(report.Problem{Code: report.CodeUncovered, Severity: report.Warning, Text: strings.TrimSpace(s.Order.Reason)})
	}
	return nil
}
