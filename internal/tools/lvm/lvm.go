// Package lvm reads and makes LVM physical volumes, volume groups and logical
// volumes by the lvm program.
// Level 2: one external tool each: Read(dev) → manifest struct, Make(dev,
// struct); machine-readable output, typed errors; no other tool, no policy.
package lvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"lifeboat/internal/run"
	"lifeboat/manifest"
)

// ErrUnsupported: the volume group has something that is not made again.
var ErrUnsupported = errors.New("cannot be made again")

// Tool is the lvm program with the configuration that it is given.
type Tool struct {
	Run run.Runner
	// Host has lvm use the host's own configuration, which decides what the
	// host calls a physical volume. Otherwise lvm sees nothing but Devices.
	Host bool
	// Devices are the nodes that may hold physical volumes.
	Devices []string
	// SystemID is the one of a volume group that belongs to a host.
	SystemID string
	// Frozen are names of volume groups whose volumes become devices that
	// cannot be written.
	Frozen []string
	// NoActivation keeps lvm from talking to device mapper: for metadata only.
	NoActivation bool
}

// config is our whole lvm.conf. Nothing of a host's may come in: no lock
// daemon, no devices file, no names by udev, nothing that activates by
// itself. Keys that a version of lvm does not know must not make noise.
func (t Tool) config() string {
	var filter strings.Builder
	for _, d := range t.Devices {
		fmt.Fprintf(&filter, "%s,", quote("a|^"+regexpQuote(d)+"$|"))
	}
	filter.WriteString(`"r|.*|"`)
	id := "none"
	local := ""
	if t.SystemID != "" {
		id, local = "lvmlocal", "local{system_id="+quote(t.SystemID)+"}"
	}
	frozen := ""
	for i, vg := range t.Frozen {
		if i > 0 {
			frozen += ","
		}
		frozen += quote(vg)
	}
	if frozen != "" {
		frozen = " read_only_volume_list=[" + frozen + "]"
	}
	activation := 1
	if t.NoActivation {
		activation = 0
	}
	return fmt.Sprintf("config{checks=0} devices{filter=[%s] global_filter=[%s] use_devicesfile=0 hints=\"none\" scan_lvs=1 "+
		"obtain_device_list_from_udev=0 external_device_info_source=\"none\"} "+
		"global{activation=%d use_lvmlockd=0 use_lvmetad=0 use_lvmpolld=0 event_activation=0 notify_dbus=0 system_id_source=%s} %s"+
		"activation{udev_sync=0 udev_rules=0 monitoring=0 auto_activation_volume_list=[]%s} backup{backup=0 archive=0}",
		filter.String(), filter.String(), activation, quote(id), local, frozen)
}

// regexpQuote quotes what lvm's filters take as an expression.
func regexpQuote(s string) string { return strings.ReplaceAll(regexp.QuoteMeta(s), "|", "[|]") }

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func (t Tool) run(ctx context.Context, verb string, args ...string) (run.Result, error) {
	c := run.Cmd{Path: "lvm", Args: append([]string{verb}, args...)}
	if t.Host {
		c.Env = run.HostEnv
	} else {
		// An empty LVM_SYSTEM_DIR: no configuration file is read at all.
		c.Env = append(append([]string(nil), run.DefaultEnv...), "LVM_SYSTEM_DIR=")
		c.Args = append([]string{verb, "--config", t.config()}, args...)
	}
	return t.Run.Run(ctx, c)
}

// uuidForm is how LVM writes its ids.
var uuidForm = regexp.MustCompile(`^[0-9A-Za-z]{6}(-[0-9A-Za-z]{4}){5}-[0-9A-Za-z]{6}$`)

// CreatePV makes a physical volume with the id and layout of pv. text is the
// metadata of the volume group that it will belong to (Text), from which lvm
// takes where extents begin; "" for a volume without a group.
func (t Tool) CreatePV(ctx context.Context, dev string, pv manifest.PV, text string) error {
	if !uuidForm.MatchString(pv.UUID) {
		return fmt.Errorf("make a physical volume on %s: %q is no id of LVM", dev, pv.UUID)
	}
	args := []string{"--yes", "--zero", "y", "--uuid", pv.UUID}
	if pv.MDACopies != 1 {
		args = append(args, "--pvmetadatacopies", fmt.Sprint(pv.MDACopies))
	}
	if pv.MDACopies == 2 && pv.MDASize > 0 {
		// The first area goes up to the extents; the second, at the end of the
		// device, has whatever size is said.
		args = append(args, "--metadatasize", fmt.Sprintf("%db", pv.MDASize))
	}
	if text == "" {
		args = append(args, "--norestorefile")
		if pv.PEStart > 0 {
			args = append(args, "--dataalignment", fmt.Sprintf("%db", pv.PEStart))
		}
		_, err := t.run(ctx, "pvcreate", append(args, dev)...)
		return wrap(err, "make the physical volume %s on %s", pv.UUID, dev)
	}
	file, err := tempFile(text)
	if err != nil {
		return err
	}
	defer os.Remove(file)
	_, err = t.run(ctx, "pvcreate", append(args, "--restorefile", file, dev)...)
	return wrap(err, "make the physical volume %s on %s", pv.UUID, dev)
}

// RestoreVG writes the metadata of a volume group onto its physical volumes,
// which must all be there.
func (t Tool) RestoreVG(ctx context.Context, name, text string) error {
	file, err := tempFile(text)
	if err != nil {
		return err
	}
	defer os.Remove(file)
	_, err = t.run(ctx, "vgcfgrestore", "--file", file, name)
	return wrap(err, "write the metadata of volume group %s", name)
}

// Activate makes the device of a logical volume, whatever flags keep the host
// from doing so by itself.
func (t Tool) Activate(ctx context.Context, vg, lv string) error {
	_, err := t.run(ctx, "lvchange", "--activate", "y", "--ignoreactivationskip", "--yes", vg+"/"+lv)
	return wrap(err, "activate %s/%s", vg, lv)
}

// ReadOnly forbids writing to a logical volume from its next activation on.
func (t Tool) ReadOnly(ctx context.Context, vg, lv string) error {
	_, err := t.run(ctx, "lvchange", "--permission", "r", "--yes", vg+"/"+lv)
	return wrap(err, "make %s/%s read-only", vg, lv)
}

// Deactivate removes the devices of a volume group.
func (t Tool) Deactivate(ctx context.Context, vg string) error {
	_, err := t.run(ctx, "vgchange", "--activate", "n", vg)
	return wrap(err, "deactivate volume group %s", vg)
}

// Backup is the text of vgcfgbackup for a volume group.
func (t Tool) Backup(ctx context.Context, vg string) (string, error) {
	file, err := tempFile("")
	if err != nil {
		return "", err
	}
	defer os.Remove(file)
	if _, err := t.run(ctx, "vgcfgbackup", "--file", file, vg); err != nil {
		return "", wrap(err, "back up the metadata of volume group %s", vg)
	}
	b, err := os.ReadFile(file)
	return string(b), err
}

func tempFile(text string) (string, error) {
	f, err := os.CreateTemp("", "lifeboat-vg-")
	if err != nil {
		return "", fmt.Errorf("keep volume group metadata: %w", err)
	}
	_, err = f.WriteString(text)
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err != nil {
		os.Remove(f.Name())
		return "", fmt.Errorf("keep volume group metadata: %w", err)
	}
	return f.Name(), nil
}

func wrap(err error, f string, a ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(f+": %w", append(a, err)...)
}
