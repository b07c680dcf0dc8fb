// Command lifeboat is the command on hosts and servers.
// Level 7: composition.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"lifeboat/internal/cli"
	"lifeboat/internal/config"
	"lifeboat/internal/run"
	"lifeboat/report"
)

// Version is set by the build.
var Version = "0.1-dev"

// app is what every verb works with.
type app struct {
	out    *cli.Out
	config string // --config
	state  string // folder of what was made last; "" is the host's
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{out: cli.New()}
	root := a.root()
	err := root.ExecuteContext(ctx)
	if errors.Is(err, context.Canceled) {
		err = report.Errorf(report.CodeInterrupted, "", "interrupted")
	}
	os.Exit(a.out.Fail(err))
}

// usage marks cobra's own errors, so that they end with exit code 2.
func usage(c *cobra.Command, err error) error {
	return report.Errorf(report.CodeUsage, "see `"+c.CommandPath()+" --help`", "%w", err)
}

// rescueVerbs write to disks and are known in the rescue system only.
var rescueVerbs = []string{"recover", "repair", "undo", "diagnose", "enter"}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "lifeboat",
		Short: "Brings dead Linux servers back",
		Long: `Lifeboat captures this host as data, packs its own kernel, modules and tools
into a rescue system, and writes it as a bootable image. On the dead machine
that image rebuilds the storage, restores the backup and installs the boot
loader, with nobody typing.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 this system
cannot be recovered as captured, 4 refused for safety, 5 the backup is missing
or damaged.`,
		SilenceErrors: true, SilenceUsage: true, Version: Version,
	}
	f := root.PersistentFlags()
	f.StringVar(&a.config, "config", "", "settings file (default "+config.Path+")")
	f.BoolVar(&a.out.JSON, "json", false, "print one JSON document, or JSON lines")
	f.BoolVarP(&a.out.Verbose, "verbose", "v", false, "say which programs are run")
	f.BoolVarP(&a.out.Quiet, "quiet", "q", false, "print results and errors only")
	root.SetFlagErrorFunc(usage)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(a.capture(), a.mkrescue(), a.mkbackup(), a.mkbackuponly(), a.plan(), a.inspect(), a.usb(), a.drill(), a.archive(), a.configure(), a.check(), a.checklayout())
	for _, c := range root.Commands() {
		c.Args = usageArgs(c.Args)
		for _, sub := range c.Commands() {
			sub.Args = usageArgs(sub.Args)
		}
	}
	root.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 && slices.Contains(rescueVerbs, args[0]) {
			return report.Errorf(report.CodeNotPID1, "start the machine from its rescue image; `lifeboat plan` shows here what it would do",
				"`lifeboat %s` works in the rescue system only", args[0])
		}
		if len(args) > 0 {
			return usage(c, fmt.Errorf("the verb %q is not known; verbs are %s", args[0], verbs(c)))
		}
		return c.Help()
	}
	root.Args = cobra.ArbitraryArgs
	return root
}

// group is a verb that only holds others.
func group(c *cobra.Command) *cobra.Command {
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usage(c, fmt.Errorf("%q is none of %s", args[0], verbs(c)))
		}
		return usage(c, fmt.Errorf("one of %s is missing", verbs(c)))
	}
	return c
}

func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	if check == nil {
		check = cobra.NoArgs
	}
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usage(c, err)
		}
		return nil
	}
}

func verbs(c *cobra.Command) string {
	var s []string
	for _, x := range c.Commands() {
		if x.IsAvailableCommand() {
			s = append(s, x.Name())
		}
	}
	return strings.Join(s, " ")
}

// settings loads the configuration.
func (a *app) settings() (*config.Config, error) {
	if a.config != "" {
		return config.Load(a.config, true)
	}
	return config.Load(config.Path, false)
}

// runner starts programs on this host, whose udev owns the device nodes.
func (a *app) runner() run.Exec { return run.Exec{Log: a.out.Debugf} }

// root is needed by whatever reads devices.
func needRoot(what string) error {
	if os.Geteuid() != 0 {
		return report.Errorf(report.CodeUsage, "run it as root", "%s reads block devices", what)
	}
	return nil
}

func (a *app) configure() *cobra.Command {
	return &cobra.Command{
		Use: "config", Aliases: []string{"validate"}, Short: "Print the settings with their sources and check them",
		Example: "  lifeboat config --config /etc/lifeboat/lifeboat.yaml",
		RunE: func(*cobra.Command, []string) error {
			c, err := a.settings()
			if err != nil {
				return err
			}
			if a.out.JSON {
				return a.out.Value(map[string]any{"config": c, "sources": c.Sources})
			}
			a.out.Print("%s", strings.TrimRight(c.Text(), "\n"))
			return nil
		},
	}
}
