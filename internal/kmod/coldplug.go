package kmod

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Modaliases are the modaliases of all devices below sys (normally /sys),
// sorted, each once. Devices that go away meanwhile are left out.
func Modaliases(sys string) ([]string, error) {
	seen := map[string]bool{}
	root := filepath.Join(sys, "devices")
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if p == root {
				return err
			}
			return nil
		}
		if d.Type().IsRegular() && d.Name() == "modalias" {
			if b, err := os.ReadFile(p); err == nil {
				if a := strings.TrimSpace(string(b)); a != "" {
					seen[a] = true
				}
			}
		}
		return nil
	})
	return keys(seen), err
}

// Autoloader loads the modules of the devices that are there and of those
// that appear.
type Autoloader struct {
	Loader *Loader
	Sys    string                         // empty means /sys
	Quiet  time.Duration                  // no device for so long means settled; zero is 300 ms
	Skip   func(module string) bool       // modules not wanted; may be nil
	Failed func(module string, err error) // a module that did not load; may be nil

	mu   sync.Mutex
	seen map[string]bool // modaliases handled
	done map[string]bool // modules tried
}

// Run listens, loads modules for all devices, and goes on with those that
// appear until ctx ends. Settled is called once, when every device has been
// looked at twice and none has appeared for a while. The end of ctx is no
// error.
func (a *Autoloader) Run(ctx context.Context, settled func()) error {
	if a.Quiet == 0 {
		a.Quiet = 300 * time.Millisecond
	}
	mon, err := Listen()
	if err != nil {
		return err
	}
	defer mon.Close()
	if err := a.Sweep(); err != nil {
		return err
	}
	for {
		wait := a.Quiet
		if settled == nil {
			wait = 0
		}
		u, err := mon.Next(ctx, wait)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, context.DeadlineExceeded):
			// The second look finds what the first one passed too early.
			if err := a.Sweep(); err != nil {
				return err
			}
			settled()
			settled = nil
		case errors.Is(err, ErrOverrun):
			if err := a.Sweep(); err != nil {
				return err
			}
		case err != nil:
			return err
		case u.Action == "add" && u.Env["MODALIAS"] != "":
			a.load([]string{u.Env["MODALIAS"]})
		}
	}
}

// Sweep loads modules for all devices that are there now and returns when all
// have been tried.
func (a *Autoloader) Sweep() error {
	sys := a.Sys
	if sys == "" {
		sys = "/sys"
	}
	list, err := Modaliases(sys)
	if err != nil {
		return err
	}
	a.load(list)
	return nil
}

// load works through modaliases on all processors. A module that failed for
// one device is not tried again for the next.
func (a *Autoloader) load(aliases []string) {
	var todo []string
	a.mu.Lock()
	if a.seen == nil {
		a.seen, a.done = map[string]bool{}, map[string]bool{}
	}
	for _, al := range aliases {
		if !a.seen[al] {
			a.seen[al] = true
			mods, _, err := a.Loader.resolve(al)
			for _, m := range mods {
				if err == nil && !a.done[m] && (a.Skip == nil || !a.Skip(m)) {
					a.done[m] = true
					todo = append(todo, m)
				}
			}
		}
	}
	a.mu.Unlock()
	var wg sync.WaitGroup
	work := make(chan string)
	for range min(len(todo), max(4, runtime.NumCPU())) {
		wg.Go(func() {
			for m := range work {
				if err := a.Loader.module(m, nil, map[string]error{}); err != nil && a.Failed != nil {
					a.Failed(m, err)
				}
			}
		})
	}
	for _, m := range todo {
		work <- m
	}
	close(work)
	wg.Wait()
}

// Wanted are the modules that the devices with these modaliases ask for, with
// built in ones apart: what an image or a restored initramfs must hold.
func (s *Set) Wanted(modaliases []string) (modules, builtin []string) {
	m, b := map[string]bool{}, map[string]bool{}
	for _, al := range modaliases {
		mods, built := s.Match(al)
		for _, x := range mods {
			m[x] = true
		}
		for _, x := range built {
			b[x] = true
		}
	}
	modules, builtin = keys(m), keys(b)
	return modules, builtin
}
