package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/backup"
	"lifeboat/builder"
	"lifeboat/builder/capture"
	"lifeboat/internal/cli"
	"lifeboat/internal/config"
	"lifeboat/internal/probe"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// excludes are what no backup holds: capture and archive are given the same,
// or a mount could be formatted that nothing was packed of.
func excludes(conf *config.Config) []string {
	return append(builder.OutputExcludes(conf.OutputDir), conf.Backup.Exclude...)
}

// captured captures this host with the settings.
func (a *app) captured(ctx context.Context, conf *config.Config) (*manifest.Manifest, error) {
	if err := needRoot("capturing this host"); err != nil {
		return nil, err
	}
	return capture.Capture(ctx, capture.Options{Run: a.runner(), Version: Version, Exclude: excludes(conf), Accept: conf.Uncovered, Method: conf.Backup.Method})
}

// uncovered is the error of exit code 3, each mount named.
func uncovered(m *manifest.Manifest) error {
	var details []string
	first := ""
	for _, u := range m.Uncovered {
		if u.Accepted {
			continue
		}
		l := fmt.Sprintf("%s: %s", u.Path, u.Reason)
		if first == "" {
			first = l
		}
		details = append(details, l)
	}
	if first == "" {
		return nil
	}
	next := "accept the loss by name with uncovered: in the settings, or change the storage"
	if slices.ContainsFunc(m.Uncovered, func(u manifest.Uncovered) bool { return !u.Accepted && u.Path == "/" }) {
		next = "change the storage of /: without it no system starts, so its loss cannot be accepted"
	}
	f := report.Errorf(report.CodeUncovered, next,
		"this system cannot be recovered as captured: %s", first)
	f.Details = details
	return f
}

func (a *app) capture() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "capture", Aliases: []string{"savelayout"}, Short: "Capture this host as data and say what could not be rebuilt",
		Example: "  lifeboat capture --output /root/manifest.json",
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := a.settings()
			if err != nil {
				return err
			}
			start := time.Now()
			m, err := a.captured(c.Context(), conf)
			if err != nil {
				return err
			}
			doc, err := m.Encode()
			if err != nil {
				return err
			}
			switch {
			case out != "":
				if err := os.WriteFile(out, doc, 0o600); err != nil {
					return report.Errorf(report.CodeUsage, "name a file in a folder that is there with --output", "write the manifest: %w", err)
				}
				a.out.Info("Captured %s in %.1f s: %s", m.Host.Name, time.Since(start).Seconds(), out)
			default:
				if err := a.out.Document(doc); err != nil {
					return err
				}
			}
			return uncovered(m)
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "write the manifest to this file instead of standard output")
	return c
}

// rescueFlags are what mkrescue and mkbackup share.
type rescueFlags struct {
	kernel, modules, dir string
	to                   string // a rescue stick
	ifChanged            bool   // the image is left as it is when it would become the same
}

func (r *rescueFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&r.kernel, "kernel", "", "kernel version to pack (default the running one)")
	f.StringVar(&r.modules, "modules", "", "host, universal or all (default modules: of the settings)")
	f.StringVarP(&r.dir, "output-dir", "o", "", "where images go (default output_dir of the settings)")
	f.BoolVar(&r.ifChanged, "if-changed", false, "make the image only when host or settings changed since the last one; for timers")
	r.addTo(c)
}

func (r *rescueFlags) addTo(c *cobra.Command) {
	c.Flags().StringVar(&r.to, "to", "", "rescue stick, such as /dev/sdX, that is brought up to date; usb write prepares one")
}

func (r *rescueFlags) apply(conf *config.Config) error {
	if r.modules != "" {
		conf.Modules = r.modules
		conf.Set("modules", "modules")
	}
	if r.dir != "" {
		conf.OutputDir = r.dir
		conf.Set("output_dir", "output-dir")
	}
	return conf.Validate()
}

func (a *app) mkrescue() *cobra.Command {
	var r rescueFlags
	c := &cobra.Command{
		Use: "mkrescue", Short: "Make the rescue image of this host",
		Example: "  lifeboat mkrescue --modules host --output-dir /srv/images",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.make(c.Context(), r, true, false)
		},
	}
	r.add(c)
	return c
}

func (a *app) mkbackup() *cobra.Command {
	var r rescueFlags
	c := &cobra.Command{
		Use: "mkbackup", Short: "Make the rescue image and back this host up",
		Example: "  lifeboat mkbackup",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.make(c.Context(), r, true, true)
		},
	}
	r.add(c)
	return c
}

func (a *app) mkbackuponly() *cobra.Command {
	var r rescueFlags
	c := &cobra.Command{
		Use: "mkbackuponly", Short: "Back this host up",
		Example: "  lifeboat mkbackuponly",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.make(c.Context(), r, false, true)
		},
	}
	r.addTo(c)
	return c
}

// made is the one JSON document of mkrescue and mkbackup.
type made struct {
	Host    string                `json:"host"`
	Capture int64                 `json:"capture_millis"`
	Kept    []builder.Medium      `json:"kept,omitempty"` // --if-changed: the image is still right
	Rescue  *builder.Result       `json:"rescue,omitempty"`
	Backup  *builder.BackupResult `json:"backup,omitempty"`

	imageNoted bool
	noteErr    error // the image is made, and could not be noted
}

func (a *app) make(ctx context.Context, r rescueFlags, rescue, files bool) (err error) {
	conf, err := a.settings()
	if err != nil {
		return err
	}
	if err := r.apply(conf); err != nil {
		return err
	}
	way, err := a.wayOut(conf, r, rescue, files)
	if err != nil {
		return err
	}
	var doc made
	var m *manifest.Manifest
	defer func() { err = a.close(err, way, doc, conf, m, r) }()
	start := time.Now()
	if m, err = a.captured(ctx, conf); err != nil {
		return err
	}
	if err := way.open(); err != nil {
		return err
	}
	doc = made{Host: m.Host.Name, Capture: time.Since(start).Milliseconds()}
	a.out.Info("Captured %s in %.1f s", m.Host.Name, time.Since(start).Seconds())
	if rescue && r.ifChanged {
		if doc.Kept, err = a.unchanged(conf, m, r, way); err != nil {
			return err
		}
		rescue = doc.Kept == nil
	}
	makeFiles := func() error {
		if files && conf.Backup.Method == "archive" {
			doc.Backup, err = a.makeBackup(ctx, conf, m, way)
		}
		return err
	}
	if way.first { // what lies on a stick goes there together
		if err := makeFiles(); err != nil {
			return err
		}
	}
	if rescue {
		if doc.Rescue, err = a.makeRescue(ctx, conf, m, r, way); err != nil {
			return err
		}
		if way.disk == nil { // a stick must be unmounted first
			doc.noteErr = a.noteImage(&doc, conf, m, r)
		}
	}
	if !way.first {
		if err := makeFiles(); err != nil {
			return err
		}
	}
	if a.out.JSON {
		if err := a.out.Value(doc); err != nil {
			return err
		}
	}
	return a.ended(doc, uncovered(m), time.Since(start))
}

// ended is how a run ends whose products are all written: it may still have
// to say that something is missing from them. A host that cannot be recovered
// at all weighs more than files.
func (a *app) ended(doc made, uncovered error, took time.Duration) error {
	if doc.Backup != nil {
		if err := doc.Backup.Err(); err != nil {
			switch {
			case uncovered != nil:
				a.out.Warn(report.ProblemOf(err))
				return uncovered
			case a.out.JSON: // the document names the files
				return &cli.Exit{Code: int(report.ExitOf(err))}
			}
			return err
		}
	}
	a.out.Print("done in %.1f s", took.Seconds())
	return uncovered
}

func (a *app) makeRescue(ctx context.Context, conf *config.Config, m *manifest.Manifest, r rescueFlags, way *wayOut) (*builder.Result, error) {
	res, err := builder.Rescue(ctx, builder.Options{Manifest: m, Config: conf, Kernel: r.kernel, Run: a.runner(), Sink: a.out, Version: Version,
		Stick: way.stick, Archives: way.archives})
	if err != nil {
		return nil, err
	}
	for _, p := range res.Problems {
		a.out.Warn(p)
	}
	for _, l := range res.Lines() {
		a.out.Print("%s", l)
	}
	return res, nil
}

func (a *app) makeBackup(ctx context.Context, conf *config.Config, m *manifest.Manifest, way *wayOut) (*builder.BackupResult, error) {
	res, err := builder.Backup(ctx, builder.BackupOptions{Manifest: m, URL: way.url, Passing: way.passing != "",
		Store:   backup.Options{TokenFile: conf.Backup.TokenFile, CAFile: conf.Backup.CAFile},
		Shown:   way.shown(),
		Exclude: excludes(conf), Output: conf.OutputDir, Sink: a.out})
	if err != nil {
		return nil, err
	}
	way.packed(res.Name)
	if way.usb {
		res.Name = nameOnStick(res.Name)
	}
	for _, p := range res.Problems {
		if p.Severity != report.Error { // errors end the command
			a.out.Warn(p)
		}
	}
	secs := float64(res.Millis) / 1000
	a.out.Print("backup    %s: %s of %s in %d files, %.1f s (%s/s)", res.Name, cli.Size(res.Bytes), cli.Size(res.TarBytes), res.Files, secs,
		cli.Size(int64(float64(res.TarBytes)/max(secs, 0.001))))
	return res, nil
}

func (a *app) plan() *cobra.Command {
	var mf, machine, mapping string
	c := &cobra.Command{
		Use: "plan", Short: "Show what a recovery would do; changes nothing, on any machine",
		Example: "  lifeboat plan --manifest web1.json --machine new-hardware.json --mapping web1.map.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			in, err := a.planInput(c.Context(), mf, machine, mapping)
			if err != nil {
				return err
			}
			p := plan.Make(*in)
			if a.out.JSON {
				if err := a.out.Value(p); err != nil {
					return err
				}
				if p.Refused() {
					return &cli.Exit{Code: int(p.Exit())}
				}
				return nil
			}
			a.out.Print("%s", p.Text())
			if p.Refused() {
				return &cli.Exit{Code: int(p.Exit())}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&mf, "manifest", "", "manifest of the host (default: capture this host)")
	f.StringVar(&machine, "machine", "", "machine description (default: this machine)")
	f.StringVar(&mapping, "mapping", "", "mapping file: which disk takes the place of which")
	return c
}

func (a *app) planInput(ctx context.Context, mf, machine, mapping string) (*plan.Input, error) {
	conf, err := a.settings()
	if err != nil {
		return nil, err
	}
	in := &plan.Input{Policy: plan.Policy{Unattended: true, Method: conf.Backup.Method}}
	if mf != "" {
		data, err := os.ReadFile(mf)
		if err != nil {
			return nil, report.Errorf(report.CodeUsage, "name a manifest file", "%w", err)
		}
		if in.Manifest, err = manifest.Decode(data); err != nil {
			return nil, err
		}
	} else {
		if in.Manifest, err = a.captured(ctx, conf); err != nil {
			return nil, err
		}
	}
	switch {
	case machine != "":
		data, err := os.ReadFile(machine)
		if err != nil {
			return nil, report.Errorf(report.CodeUsage, "name a machine file", "%w", err)
		}
		if in.Machine, err = manifest.DecodeMachine(data); err != nil {
			return nil, err
		}
	case mf == "":
		in.Machine, in.Policy.OwnHardware = &in.Manifest.Machine, true
	default:
		if err := needRoot("reading this machine"); err != nil {
			return nil, err
		}
		if in.Machine, err = probe.Machine(ctx, probe.Options{Run: a.runner()}); err != nil {
			return nil, err
		}
	}
	if mapping != "" {
		data, err := os.ReadFile(mapping)
		if err != nil {
			return nil, report.Errorf(report.CodeUsage, "name a mapping file", "%w", err)
		}
		if in.Mapping, err = plan.DecodeMapping(data); err != nil {
			return nil, err
		}
	}
	return in, nil
}
