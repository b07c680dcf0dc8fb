// Command pack packs a folder with package archive, or brings it back, so that
// the bench measures the format as a process of its own, as it does tar.
// Level 8.5.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime/pprof"

	"lifeboat/archive"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: pack create FOLDER FILE | pack restore FILE FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

// run does one job. BENCH_PROFILE names a file for a CPU profile of it.
func run(verb, from, to string) error {
	if name := os.Getenv("BENCH_PROFILE"); name != "" {
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	switch verb {
	case "create":
		return create(from, to)
	case "restore":
		return restore(from, to)
	}
	return fmt.Errorf("no verb %q: create or restore", verb)
}

func create(dir, file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	sum, err := archive.Create(context.Background(), f, archive.Options{HostID: "bench"}, []archive.Source{{Path: "/", At: dir}})
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return complain(sum.Problems)
}

func restore(file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	a, err := archive.Open(f, st.Size())
	if err != nil {
		return err
	}
	r, err := a.Restore(context.Background(), dir, archive.RestoreOptions{})
	if err != nil {
		return err
	}
	return complain(r.Problems)
}

// complain makes any problem a failure: the figures count for equal work only.
func complain(p *archive.Problems) error {
	if p.Count() == 0 {
		return nil
	}
	return fmt.Errorf("%d problems, the first: %s", p.Count(), p.First()[0])
}
