package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"lifeboat/drill/qemu"
)

// ReportPort is the virtio port on which the reporter speaks; machines that
// boot a disk with a reporter have it in Config.Ports.
const ReportPort = "lifeboat.report"

// Report is what a booted system says of itself.
type Report struct {
	State    string // of systemd: running, degraded
	Failed   []string
	Swaps    []string
	Kernel   string
	Hostname string
	Cmdline  string
	BootID   string `json:"boot_id"`
	Mounts   struct {
		Filesystems []struct{ Target, Source, Fstype, Options, UUID string }
	}
	Addresses []struct {
		Ifname   string
		AddrInfo []struct{ Family, Local, Scope string } `json:"addr_info"`
	}
	Blocks json.RawMessage // of lsblk -J
}

// Mounted tells what is mounted at path: file system type and UUID.
func (r *Report) Mounted(path string) (fstype, uuid string) {
	for _, f := range r.Mounts.Filesystems {
		if f.Target == path {
			return f.Fstype, f.UUID
		}
	}
	return "", ""
}

// AddReporter puts a unit into the system on a raw disk which, once booted,
// says how the system is and removes itself. Compare first: the disk is not
// the same afterwards.
func (l *Lab) AddReporter(ctx context.Context, disk string) error {
	d, err := l.Inspect(ctx, disk)
	if err != nil {
		return err
	}
	return l.addReporter(ctx, disk, d[0].Volumes, d[0].extents)
}

// AddReporter does so with a copy of the source, without asking where its
// file systems lie.
func (s *Source) AddReporter(ctx context.Context, l *Lab, disk string) error {
	types := map[string]string{}
	for _, v := range s.Layout.Volumes {
		types[v.Name] = v.Type
	}
	return l.addReporter(ctx, disk, types, s.extents)
}

func (l *Lab) addReporter(ctx context.Context, disk string, types map[string]string, ext map[string]Extents) error {
	var names []string
	for n, t := range types {
		if native(t) && len(ext[n]) == 1 {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	var spec strings.Builder
	for _, n := range names {
		fmt.Fprintf(&spec, "%s\t%d\t%d\n", types[n], ext[n][0].Offset, ext[n][0].Bytes)
	}
	dir, err := os.MkdirTemp("", "lifeboat-lab-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	volumes := filepath.Join(dir, "volumes")
	if err := os.WriteFile(volumes, []byte(spec.String()), 0o600); err != nil {
		return err
	}
	if err := l.script(ctx, "reporter.sh", nil, disk, volumes); err != nil {
		return fmt.Errorf("put the reporter on %s: %w", disk, err)
	}
	return nil
}

var reportEnd = regexp.MustCompile(`(?m)^end of report$`)

// WaitReport waits until the system in vm has booted and reported.
func WaitReport(ctx context.Context, vm *qemu.VM) (*Report, error) {
	port := vm.Port(ReportPort)
	if port == nil {
		return nil, fmt.Errorf("wait for a report: the machine has no port %s", ReportPort)
	}
	if _, _, err := port.Wait(ctx, 0, reportEnd); err != nil {
		return nil, fmt.Errorf("%w; the end of the console:\n%s", err, lastText(vm.Console().Text(), 2000))
	}
	var r Report
	if err := json.NewDecoder(strings.NewReader(port.Text())).Decode(&r); err != nil {
		return nil, fmt.Errorf("the system's report: %w:\n%s", err, port.Text())
	}
	return &r, nil
}
