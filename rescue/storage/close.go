package storage

import (
	"context"
	"slices"

	"lifeboat/internal/blockdev"
	"lifeboat/plan"
	"lifeboat/report"
)

// Close takes down what a worker before this one left open in the same boot,
// before anything is planned: the tree below root, then every layer of device
// mapper, md and loop that neither a mount nor swap uses and that carries
// none of keep (mount points, files or device nodes of the medium and the
// backup). In the rescue system nothing becomes active by itself, so whatever
// is so was opened by Lifeboat. It writes to no disk.
func Close(ctx context.Context, root string, keep []string, sink report.Sink) error {
	s, err := New(Options{Plan: &plan.Plan{}, Root: root, Sink: sink})
	if err != nil {
		return err
	}
	return s.closeAll(ctx, keep)
}

func (s *Storage) closeAll(ctx context.Context, keep []string) error {
	if err := s.underInit(); err != nil {
		return err
	}
	if err := s.Unmount(ctx); err != nil {
		return err
	}
	for {
		v, err := s.system.Scan()
		if err != nil {
			return err
		}
		used := inUse(v, keep)
		top := topmost(v, slices.DeleteFunc(slices.Clone(v.Devices), func(d *blockdev.Device) bool { return used[d.Name] }))
		if top == nil {
			return nil
		}
		if err := s.takeDown(ctx, v, top); err != nil {
			return err
		}
	}
}

// inUse names the devices that mounts, swaps and what is kept stand on, and
// those that Lifeboat knows no way to take down.
func inUse(v *blockdev.View, keep []string) map[string]bool {
	out := map[string]bool{}
	var down func(*blockdev.Device)
	down = func(d *blockdev.Device) {
		if d == nil || out[d.Name] {
			return
		}
		out[d.Name] = true
		down(v.Device(d.Parent))
		for _, n := range d.Slaves {
			down(v.Device(n))
		}
		for _, o := range v.FileDevices(d) {
			down(o)
		}
	}
	for _, m := range v.Mounts {
		for _, d := range v.MountDevices(m) {
			down(d)
		}
	}
	for _, w := range v.Swaps {
		down(v.ByNode(w.Path))
	}
	for _, k := range keep {
		for _, d := range v.Carriers(k) {
			down(d)
		}
	}
	for _, d := range v.Devices {
		if d.Kind == blockdev.Virtual {
			down(d)
		}
	}
	return out
}
