package main

import (
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat/drill"
	"lifeboat/drill/qemu"
	"lifeboat/report"
)

func (a *app) drill() *cobra.Command {
	var o drill.Options
	var disks []string
	var firmware, bus string
	c := &cobra.Command{
		Use: "drill IMAGE", Short: "Boot an image in a virtual machine and prove that it restores", Args: cobra.ExactArgs(1),
		Example: "  lifeboat drill --backup /srv/backup --keep /tmp/drill /var/lib/lifeboat/output/web1.iso",
		RunE: func(c *cobra.Command, args []string) error {
			o.Image, o.Firmware, o.Sink, o.Run = args[0], qemu.Firmware(firmware), a.out, a.out.Debugf
			switch o.Bus = qemu.Interface(bus); o.Bus {
			case "", qemu.Virtio, qemu.SCSI, qemu.AHCI, qemu.NVMe:
			default:
				return report.Errorf(report.CodeUsage, "choose virtio, scsi, ahci or nvme", "--bus %s is not known", bus)
			}
			for _, d := range disks {
				n, err := parseSize(d)
				if err != nil {
					return report.Errorf(report.CodeUsage, "write it like 8G", "--disk %s: %w", d, err)
				}
				o.Disks = append(o.Disks, n)
			}
			conf, err := a.settings()
			if err != nil {
				return err
			}
			o.Token = conf.Backup.TokenFile
			if o.Backup == "" {
				o.Backup = conf.Backup.URL
			}
			if o.Dir == "" {
				if o.Dir, err = os.MkdirTemp("", "lifeboat-drill-"); err != nil {
					return err
				}
				defer os.RemoveAll(o.Dir)
			} else if err := os.MkdirAll(o.Dir, 0o700); err != nil {
				return err
			}
			res, err := drill.Run(c.Context(), o)
			if err != nil {
				return err
			}
			return a.drilled(res)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Backup, "backup", "", "store, directory or archive (default backup.url)")
	f.StringVar(&o.Host, "host", "", "which host of a stick with several")
	f.StringArrayVar(&disks, "disk", nil, "size of a blank disk, once for each (default as captured)")
	f.StringVar(&firmware, "firmware", "", "bios or uefi (default as captured)")
	f.StringVar(&bus, "bus", "", "how the disks are attached: virtio, scsi, ahci or nvme (default virtio)")
	f.StringVar(&o.Dir, "keep", "", "keep disks, logs and screenshots in this folder")
	return c
}

// drilled prints the result; a drill that did not pass is exit code 1.
func (a *app) drilled(res *drill.Result) error {
	if a.out.JSON {
		if err := a.out.Value(res); err != nil {
			return err
		}
	} else {
		for _, p := range res.Phases {
			a.out.Print("%-14s %6.1f s", p.Name, float64(p.Millis)/1000)
		}
		if res.Recovery != nil {
			for _, p := range res.Recovery.Phases {
				a.out.Print("  %-12s %6.1f s", p.Name, float64(p.Millis)/1000)
			}
		}
		for _, s := range res.Shots {
			a.out.Print("screenshot     %s", s)
		}
	}
	if !res.Passed {
		return report.Errorf(report.CodeFailed, "look at the log with --keep", "the drill of %s did not pass: %s", res.Host, res.Why)
	}
	if len(res.FailUnits) > 0 {
		// The machine of a drill has no network: what waits for one cannot work.
		a.out.Warn(report.Problem{Code: report.CodeFailed, Severity: report.Warning, Next: "see whether they only lack the network, which a drill keeps away",
			Text: "units of the restored system failed: " + strings.Join(res.FailUnits, ", ")})
	}
	a.out.Print("The drill of %s passed: the restored system is %s (%s, %s)", res.Host, res.System.State, res.System.Kernel, res.Accel)
	return nil
}

// parseSize reads 8G, 512M or bytes.
func parseSize(s string) (int64, error) {
	mul := int64(1)
	t := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(s), "B"), "I")
	if i := strings.IndexAny(t, "KMGT"); i >= 0 && i == len(t)-1 {
		mul = 1 << (10 * (strings.IndexByte("KMGT", t[i]) + 1))
		t = t[:i]
	}
	n, err := strconv.ParseInt(t, 10, 64)
	if err == nil && (n <= 0 || n > 1<<50/mul) {
		err = strconv.ErrRange
	}
	return n * mul, err
}
