package xfs

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"lifeboat/internal/run"
	"lifeboat/manifest"
)

// Make makes the filesystem on dev, over whatever is there. Every feature
// that this mkfs.xfs knows is stated on or off, so that no newer default
// comes in; one that is on and that it does not know is ErrUnsupported. When
// it refuses the stripe options, which only place data well, it is asked
// again without them, never without anything that decides the format.
func Make(ctx context.Context, r run.Runner, dev string, fs *manifest.FS) error {
	if fs.XFS == nil {
		return fmt.Errorf("make XFS on %s: its parameters are not known", dev)
	}
	known, err := options(ctx, r)
	if err != nil {
		return fmt.Errorf("make XFS on %s: %w", dev, err)
	}
	m := maker{fs: fs, XFS: fs.XFS, known: known, stripes: true}
	if err := m.supported(); err != nil {
		return fmt.Errorf("make XFS on %s: %w", dev, err)
	}
	try := func() error {
		_, err := r.Run(ctx, run.Cmd{Path: "mkfs.xfs", Args: m.args(dev)})
		return reason(err)
	}
	err = try()
	if err != nil && tiny(err) {
		// Newer programs make no filesystem below 300 MiB; this one was made
		// by an older one and is needed as it was.
		m.small = true
		err = try()
	}
	if err != nil && refused(err) && (m.SUnit > 0 || m.LogSUnit > 0) {
		m.stripes = false
		err = try()
	}
	if err != nil {
		return fmt.Errorf("make XFS on %s: %w", dev, err)
	}
	return nil
}

// suboption finds names before "=" in the usage text, "crc=0|1" and the like.
var suboption = regexp.MustCompile(`[a-z0-9][a-z0-9-]*=`)

// options asks mkfs.xfs which options it knows: called without arguments it
// prints them and ends with status 1.
func options(ctx context.Context, r run.Runner) (map[string]bool, error) {
	res, err := r.Run(ctx, run.Cmd{Path: "mkfs.xfs", OK: []int{0, 1, 2}})
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, o := range suboption.FindAllString(string(res.Stderr)+string(res.Stdout), -1) {
		known[strings.TrimSuffix(o, "=")] = true
	}
	if !known["size"] || !known["agsize"] {
		return nil, fmt.Errorf("mkfs.xfs does not tell its options: %q", res.Stderr)
	}
	return known, nil
}

// reason cuts the usage text, which hides why an option was refused.
func reason(err error) error {
	var e *run.Error
	if errors.As(err, &e) {
		if why, _, ok := strings.Cut(e.Stderr, usage); ok {
			c := *e
			c.Stderr = why + usage
			return &c
		}
	}
	return err
}

const usage = "Usage: mkfs.xfs"

// refused tells whether mkfs.xfs ended because it did not like an option; it
// then prints its usage.
func refused(err error) bool {
	var e *run.Error
	return errors.As(err, &e) && e.Code > 0 && strings.Contains(e.Stderr, usage)
}

var tinyWords = []string{"larger than 300MB", "Log size must be at least", "at least 2 superblocks"}

func tiny(err error) bool {
	var e *run.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, w := range tinyWords {
		if strings.Contains(e.Stderr, w) {
			return true
		}
	}
	return false
}

type maker struct {
	*manifest.XFS
	fs      *manifest.FS
	known   map[string]bool
	stripes bool
	small   bool
}

// option is a feature's place on the command line. Forced ones follow from
// crc=1: some versions refuse to hear them then.
type option struct {
	flag, name string
	forced     bool
}

var featureOptions = []option{
	{"-m", "finobt", false}, {"-m", "rmapbt", false}, {"-m", "reflink", false}, {"-m", "inobtcount", false}, {"-m", "bigtime", false}, {"-m", "metadir", false},
	{"-i", "projid32bit", true}, {"-i", "sparse", false}, {"-i", "nrext64", false}, {"-i", "exchange", false},
	{"-n", "ftype", true}, {"-n", "parent", false}, {"-l", "lazy-count", true},
}

func (m *maker) supported() error {
	if m.Realtime || m.LogExternal || m.Features["zoned"] {
		return fmt.Errorf("a realtime section, zones or a log on another device: %w", ErrUnsupported)
	}
	if m.DirVersion == 1 || m.LogVersion == 1 && m.Features["crc"] {
		return fmt.Errorf("directories of version %d with a log of version %d: %w", m.DirVersion, m.LogVersion, ErrUnsupported)
	}
	can := map[string]bool{"crc": true, "ci": true, "attr2": true}
	for _, o := range featureOptions {
		can[o.name] = m.known[o.name] || o.forced && m.Features["crc"]
	}
	for f, on := range m.Features {
		if on && !can[f] {
			return fmt.Errorf("feature %s, which this mkfs.xfs does not know: %w", f, ErrUnsupported)
		}
	}
	return nil
}

func (m *maker) args(dev string) []string {
	args := []string{"-q", "-f", "-K"}
	if m.small {
		args = append(args, "--unsupported")
	}
	args = append(args, "-b", fmt.Sprintf("size=%d", m.BlockSize), "-s", fmt.Sprintf("size=%d", m.SectorSize))
	opts := map[string][]string{
		"-m": {fmt.Sprintf("crc=%d", bit01(m.Features["crc"]))},
		"-i": {fmt.Sprintf("size=%d", m.InodeSize), fmt.Sprintf("maxpct=%d", m.MaxPct)},
		"-n": {fmt.Sprintf("size=%d", m.DirBlock), "version=2"},
		"-l": {fmt.Sprintf("version=%d", m.LogVersion)},
		"-d": m.data(),
	}
	if m.Features["ci"] {
		opts["-n"][1] = "version=ci"
	}
	if !m.Features["crc"] {
		opts["-i"] = append(opts["-i"], fmt.Sprintf("attr=%d", 1+bit01(m.Features["attr2"])))
	}
	for _, o := range featureOptions {
		if m.known[o.name] && !(o.forced && m.Features["crc"]) {
			opts[o.flag] = append(opts[o.flag], fmt.Sprintf("%s=%d", o.name, bit01(m.Features[o.name])))
		}
	}
	if m.fs.UUID != "" {
		opts["-m"] = append(opts["-m"], "uuid="+m.fs.UUID)
	}
	opts["-l"] = append(opts["-l"], m.log()...)
	for _, flag := range []string{"-m", "-d", "-i", "-n", "-l"} {
		args = append(args, flag, strings.Join(opts[flag], ","))
	}
	if m.fs.Label != "" {
		args = append(args, "-L", m.fs.Label)
	}
	return append(args, dev)
}

// data gives the size of an allocation group, not their number: a filesystem
// that was grown has a last group of another size.
func (m *maker) data() []string {
	var o []string
	if m.Blocks > 0 {
		o = append(o, fmt.Sprintf("size=%d", m.Blocks*m.BlockSize))
	}
	if m.AGBlocks > 0 {
		o = append(o, fmt.Sprintf("agsize=%d", m.AGBlocks*m.BlockSize))
	}
	if m.SUnit > 0 && m.stripes {
		return append(o, fmt.Sprintf("su=%d", m.SUnit), fmt.Sprintf("sw=%d", m.SWidth/m.SUnit))
	}
	// Without it the geometry of the new device would come in.
	return append(o, "noalign")
}

func (m *maker) log() []string {
	var o []string
	if m.LogBlocks > 0 {
		o = append(o, fmt.Sprintf("size=%d", m.LogBlocks*m.BlockSize))
	}
	if m.LogVersion > 1 && m.LogSector > 0 {
		o = append(o, fmt.Sprintf("sectsize=%d", m.LogSector))
	}
	// A unit of one sector is what mkfs.xfs takes by itself.
	if m.LogVersion > 1 && m.LogSUnit > m.LogSector && m.stripes {
		o = append(o, fmt.Sprintf("su=%d", m.LogSUnit))
	}
	return o
}

func bit01(on bool) int {
	if on {
		return 1
	}
	return 0
}
