package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/run"
	"lifeboat/internal/tools/blkid"
	"lifeboat/manifest"
	"lifeboat/plan"
)

// disks describes the whole disks with all that lies on them.
func (r *Reading) disks(ctx context.Context) ([]manifest.MachineDisk, error) {
	protected := r.View.Protections(blockdev.Uses{Medium: r.opt.Medium, Backup: r.opt.Backup, OpenedMounts: r.opt.OpenedMounts, OpenedDevices: r.opt.OpenedDevices})
	disks := r.View.Disks()
	out := make([]manifest.MachineDisk, len(disks))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, d := range disks {
		g.Go(func() error {
			out[i] = r.disk(d)
			out[i].Protection = protected[d.Name]
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}

func (r *Reading) disk(d *blockdev.Device) manifest.MachineDisk {
	m := manifest.MachineDisk{Disk: DiskOf(d), Name: d.Name, BusPath: d.BusPath, DevNo: d.DevNo.String(), Links: r.View.Links(d)}
	unread := func(err error) {
		if err != nil && m.Unread == "" {
			m.Unread = err.Error()
		}
	}
	if c := r.found[d.Name]; c != nil {
		if c.found != nil {
			m.Table, m.TableID = c.found.Table, tableText(c.found)
		}
		// Doubt about what is there is told by the signatures.
		if c.found == nil && !errors.Is(c.err, blkid.ErrAmbivalent) {
			unread(c.err)
		}
	}
	for _, p := range r.parts(d) {
		node := r.View.Node(p)
		unread(r.sigErr[node])
		for _, g := range r.sigs[node] {
			g.Device = p.Name
			m.Signatures = append(m.Signatures, g)
		}
		// What blkid knows by other marks than a signature is contents too.
		if c := r.found[p.Name]; len(r.sigs[node]) == 0 && c != nil && c.found != nil && c.found.Type != "" {
			m.Signatures = append(m.Signatures, manifest.Signature{Device: p.Name, Type: c.found.Type, UUID: c.found.UUID, Label: c.found.Label})
		}
	}
	claim, err := readClaim(r.View.Node(d), d.Bytes)
	unread(err)
	m.Claim = claim
	return m
}

// parts are a disk and its partitions, without extended ones.
func (r *Reading) parts(d *blockdev.Device) []*blockdev.Device {
	out := []*blockdev.Device{d}
	for _, n := range d.Partitions {
		if p := r.View.Device(n); p.Bytes > 1024 {
			out = append(out, p)
		}
	}
	return out
}

// tableText is a table's id as manifest.Table has it.
func tableText(f *blkid.Found) string {
	switch {
	case f.TableID == "":
		return ""
	case f.Table == "dos":
		return "0x" + strings.TrimPrefix(strings.ToLower(f.TableID), "0x")
	}
	return strings.ToUpper(f.TableID)
}

// readClaim looks for the claim of an unfinished recovery.
func readClaim(node string, size int64) (*manifest.Claim, error) {
	f, err := os.Open(node)
	if err != nil {
		return nil, fmt.Errorf("look for a claim: %w", err)
	}
	defer f.Close()
	block := make([]byte, manifest.ClaimSize)
	for _, off := range manifest.ClaimPlaces(size) {
		if _, err := f.ReadAt(block, off); err != nil {
			return nil, fmt.Errorf("look for a claim on %s: %w", node, err)
		}
		if c := manifest.DecodeClaim(block); c != nil {
			return c, nil
		}
	}
	return nil, nil
}

// toolLimit is how long a program may take to say who it is.
const toolLimit = 10 * time.Second

// tools lists the programs of this system, and tries those that plans need.
func (r *Reading) tools(ctx context.Context) []manifest.Tool {
	probes := plan.Probes()
	var out []manifest.Tool
	seen := map[string]bool{}
	g := &errgroup.Group{}
	g.SetLimit(parallel)
	for _, dir := range filepath.SplitList(strings.TrimPrefix(run.DefaultEnv[0], "PATH=")) {
		entries, _ := os.ReadDir(r.path(dir))
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			st, err := os.Stat(r.path(path))
			if seen[e.Name()] || err != nil || st.IsDir() || st.Mode()&0o111 == 0 {
				continue
			}
			seen[e.Name()] = true
			out = append(out, manifest.Tool{Name: e.Name(), Path: path})
		}
	}
	slices.SortFunc(out, func(a, b manifest.Tool) int { return strings.Compare(a.Name, b.Name) })
	for i := range out {
		if arg := probes[out[i].Name]; arg != "" {
			t := &out[i]
			g.Go(func() error { r.try(ctx, t, arg); return nil })
		}
	}
	_ = g.Wait()
	return out
}

// try runs a program with an argument that is known to be harmless.
func (r *Reading) try(ctx context.Context, t *manifest.Tool, arg string) {
	c := run.Cmd{Path: t.Path, Args: []string{arg}, Limit: toolLimit}
	if r.opt.Root != "/" {
		c.Root = r.opt.Root
	}
	res, err := r.opt.Run.Run(ctx, c)
	if err != nil {
		t.Problem = err.Error()
		return
	}
	t.Works = true
	for _, line := range strings.Split(string(res.Stdout)+"\n"+string(res.Stderr), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			t.Version = line
			break
		}
	}
}
