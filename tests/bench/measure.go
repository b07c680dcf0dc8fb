package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/internal/run"
)

// sample is what one run of a program used, all its children included.
type sample struct {
	wall   time.Duration
	synced time.Duration // wall, and until the disk had everything
	cpu    time.Duration // user and system
	memory int64         // bytes: the peaks of all its processes added
	others float64       // CPUs that others kept busy meanwhile
}

// measure runs argv and waits until what it wrote is on the disk of folder.
// internal/run hides the process, whose children are counted here.
func measure(ctx context.Context, folder string, argv ...string) (*sample, error) {
	if err := syncFolder(folder); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var errb bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &errb, &errb, run.DefaultEnv
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a process group too
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	busy, start := busyTime(), time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	first(cmd.Process.Pid)
	peak := watchMemory(cmd.Process.Pid)
	err := cmd.Wait()
	s := &sample{wall: time.Since(start), memory: peak()}
	s.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	s.others = max(0, (busyTime()-busy-s.cpu).Seconds()/s.wall.Seconds())
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", run.Quote(argv), err, strings.TrimSpace(errb.String()))
	}
	if err := syncFolder(folder); err != nil {
		return nil, err
	}
	s.synced = time.Since(start)
	return s, nil
}

// first gives a session the CPUs before others who want them: what they leave
// to it would else decide a comparison of one program with two.
func first(session int) {
	// Where the kernel shares by sessions, niceness counts inside each only. A
	// kernel without that has no such file; figures are told with what others took.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", session), []byte("-15"), 0)
	_ = unix.Setpriority(unix.PRIO_PGRP, session, -15)
}

func syncFolder(folder string) error {
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// watchMemory follows the process group until the returned function is called,
// which gives the sum of its processes' peaks. The kernel keeps each peak, so
// looking now and then misses only what grows in a process's last moment.
func watchMemory(group int) func() int64 {
	stop, done := make(chan struct{}), make(chan int64)
	go func() {
		peaks := map[string]int64{}
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			for pid, n := range groupPeaks(group) {
				peaks[pid] = max(n, peaks[pid]) // a process that execs begins anew
			}
			select {
			case <-tick.C:
				continue
			case <-stop:
			}
			var sum int64
			for _, n := range peaks {
				sum += n
			}
			done <- sum
			return
		}
	}()
	return func() int64 { close(stop); return <-done }
}

// groupPeaks reads VmHWM of each process of a group, by pid.
func groupPeaks(group int) map[string]int64 {
	peaks := map[string]int64{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // it ended
		}
		// The name, in brackets, may hold anything; state, parent and group follow.
		f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(f) < 3 || f[2] != strconv.Itoa(group) {
			continue
		}
		status, err := os.ReadFile(dir + "/status")
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(status)) {
			if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
				peaks[filepath.Base(dir)] = kib << 10
			}
		}
	}
	return peaks
}

// busyTime is how long this machine's CPUs have worked since it started: user,
// nice, system, irq and softirq of /proc/stat, in hundredths of a second.
func busyTime() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	var sum time.Duration
	for _, i := range []int{1, 2, 3, 6, 7} {
		if i < len(f) {
			n, _ := strconv.ParseInt(f[i], 10, 64)
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}

// Figures taken beside somebody else's work say little, but a machine that
// never rests must not keep the bench from ending.
const (
	quietCPUs = 0.2
	quietWait = 30 * time.Second
)

// quietest runs do, and while others disturbed it again, and gives the run that
// was disturbed least.
func quietest(ctx context.Context, do func() (*sample, error)) (*sample, error) {
	var best *sample
	for start := time.Now(); best == nil || best.others > quietCPUs && time.Since(start) < quietWait; {
		waitQuiet(ctx)
		s, err := do()
		if err != nil {
			return nil, err
		}
		if best == nil || s.others < best.others {
			best = s
		}
	}
	return best, nil
}

// waitQuiet waits until this machine has had a second of rest.
func waitQuiet(ctx context.Context) {
	end := time.After(quietWait)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	before, at := busyTime(), time.Now()
	for {
		select {
		case <-tick.C:
		case <-end:
			return
		case <-ctx.Done():
			return
		}
		now := busyTime()
		if (now-before).Seconds()/time.Since(at).Seconds() < quietCPUs {
			return
		}
		before, at = now, time.Now()
	}
}

// median of some runs, each figure by itself.
func median(runs []*sample) *sample {
	return &sample{
		wall:   middle(runs, func(s *sample) time.Duration { return s.wall }),
		synced: middle(runs, func(s *sample) time.Duration { return s.synced }),
		cpu:    middle(runs, func(s *sample) time.Duration { return s.cpu }),
		memory: middle(runs, func(s *sample) int64 { return s.memory }),
		others: middle(runs, func(s *sample) float64 { return s.others }),
	}
}

func middle[T int64 | float64 | time.Duration](runs []*sample, of func(*sample) T) T {
	var v []T
	for _, s := range runs {
		v = append(v, of(s))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

var errUnequal = errors.New("the trees are not equal, so their figures cannot be compared")

// tree counts what a folder holds.
type tree struct{ files, bytes int64 }

// readTree counts and reads everything: afterwards the page cache is warm.
func readTree(ctx context.Context, folder string, content bool) (t tree, err error) {
	buf := make([]byte, 1<<20)
	err = filepath.WalkDir(folder, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		t.files++
		if !d.Type().IsRegular() {
			return nil
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		t.bytes += st.Size()
		if content {
			return warm(p, buf)
		}
		return nil
	})
	return t, err
}

func warm(file string, buf []byte) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		if n, err := f.Read(buf); n == 0 || err != nil {
			return nil
		}
	}
}
