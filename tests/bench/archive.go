package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"lifeboat/internal/run"
	"lifeboat/tests/lab"
)

const (
	rounds     = 3
	largeBytes = 300 << 20
	memoryBar  = 512 << 20
)

// keep is what makes GNU tar save and bring back as much as the archive does.
const keep = "--numeric-owner --acls --selinux --xattrs --xattrs-include='*'"

// tool is one way to pack a folder and to bring it back. The commands are bash
// with the folder as $1 and the file as $2.
type tool struct {
	name          string
	file          string
	pack, restore string
	packed        []*sample
	restored      []*sample
	size          int64
	entries       tree
}

func (b *bench) tools() []*tool {
	ours := run.Quote([]string{b.packer})
	return []*tool{
		{name: "Lifeboat archive", file: "lifeboat.lba",
			pack: "exec " + ours + ` create "$1" "$2"`, restore: "exec " + ours + ` restore "$2" "$1"`},
		{name: "tar, zstd -T0", file: "tar.zst",
			pack: "tar " + keep + ` -C "$1" -c . | zstd -q -T0 -o "$2"`, restore: `zstd -q -dc "$2" | tar ` + keep + ` -C "$1" -xp`},
		{name: "tar -z", file: "tar.gz",
			pack: "exec tar " + keep + ` -C "$1" -czf "$2" .`, restore: "exec tar " + keep + ` -C "$1" -xpzf "$2"`},
	}
}

// archives measures packing and bringing back, each tool in its turn.
func (b *bench) archives(ctx context.Context) error {
	dir := filepath.Join(b.dir, "archives")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	src := filepath.Join(dir, "source")
	b.out.Info("archives: the source is made: a Debian, and a file of %d MiB that does not compress", largeBytes>>20)
	if err := b.makeSource(ctx, src); err != nil {
		return err
	}
	source, err := readTree(ctx, src, true)
	if err != nil {
		return err
	}
	tools := b.tools()
	for round := range rounds {
		for _, t := range tools {
			if err := b.packOnce(ctx, t, src, dir, round); err != nil {
				return err
			}
		}
	}
	// Nothing is removed between the runs: ext4 without a journal searches long
	// for inodes that were not in use a moment ago, and the next run would pay.
	for round := range rounds {
		for _, t := range tools {
			if err := b.restoreOnce(ctx, t, source, dir, round); err != nil {
				return err
			}
		}
	}
	b.archiveReport(source, tools)
	return nil
}

// makeSource unpacks the laboratory's Debian and adds what servers have beside
// their programs: data that is compressed already.
func (b *bench) makeSource(ctx context.Context, dir string) error {
	l, err := lab.Open(ctx, b.out.Info)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := b.bash(ctx, "exec tar "+keep+` -C "$1" -xpf "$2"`, dir, l.Tree()); err != nil {
		return err
	}
	noise := rand.NewChaCha8([32]byte{1})
	f, err := os.Create(filepath.Join(dir, "srv", "data", "large"))
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for range largeBytes / len(buf) {
		if _, err := noise.Read(buf); err != nil {
			return err
		}
		if _, err := f.Write(buf); err != nil {
			return err
		}
	}
	return f.Close()
}

func shell(script, folder, file string) []string {
	return []string{"bash", "-c", "set -eo pipefail; " + script, "bench", folder, file}
}

func (b *bench) bash(ctx context.Context, script, folder, file string) error {
	argv := shell(script, folder, file)
	_, err := run.Exec{Log: b.out.Debugf}.Run(ctx, run.Cmd{Path: argv[0], Args: argv[1:]})
	return err
}

func (b *bench) packOnce(ctx context.Context, t *tool, src, dir string, round int) error {
	file := filepath.Join(dir, t.file)
	s, err := quietest(ctx, func() (*sample, error) {
		if err := os.RemoveAll(file); err != nil {
			return nil, err
		}
		return measure(ctx, dir, shell(t.pack, src, file)...)
	})
	if err != nil {
		return fmt.Errorf("pack with %s: %w", t.name, err)
	}
	st, err := os.Stat(file)
	if err != nil {
		return err
	}
	t.size, t.packed = st.Size(), append(t.packed, s)
	b.out.Info("archives: round %d, packed by %s: %s", round+1, t.name, s)
	return nil
}

func (b *bench) restoreOnce(ctx context.Context, t *tool, want tree, dir string, round int) error {
	file := filepath.Join(dir, t.file)
	if err := warm(file, make([]byte, 1<<20)); err != nil {
		return err
	}
	var to string
	s, err := quietest(ctx, func() (s *sample, err error) {
		if to, err = os.MkdirTemp(dir, "restored-"); err != nil {
			return nil, err
		}
		return measure(ctx, dir, shell(t.restore, to, file)...)
	})
	if err != nil {
		return fmt.Errorf("restore with %s: %w", t.name, err)
	}
	t.restored = append(t.restored, s)
	b.out.Info("archives: round %d, brought back by %s: %s", round+1, t.name, s)
	got, err := readTree(ctx, to, false)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s brought back %d entries with %d bytes, the source has %d with %d: %w", t.name, got.files, got.bytes, want.files, want.bytes, errUnequal)
	}
	return nil
}

func (s *sample) String() string {
	return fmt.Sprintf("%.2f s, %.2f s CPU, %d MiB (others: %.1f CPUs)", s.wall.Seconds(), s.cpu.Seconds(), s.memory>>20, s.others)
}

// archiveReport writes the tables and what they say about the bars.
func (b *bench) archiveReport(source tree, tools []*tool) {
	rate := func(d time.Duration) string { return fmt.Sprintf("%.0f", float64(source.bytes)/1e6/d.Seconds()) }
	row := func(name string, s *sample, more ...string) []string {
		return append([]string{name, rate(s.wall), rate(s.synced), fmt.Sprintf("%.2f", s.wall.Seconds()), fmt.Sprintf("%.2f", s.cpu.Seconds()),
			fmt.Sprint(s.memory >> 20), fmt.Sprintf("%.1f", s.others)}, more...)
	}
	pack := table{head: []string{"backup", "MB/s", "MB/s synced", "s", "CPU s", "peak MiB", "CPUs of others", "size MB"}}
	back := table{head: []string{"restore", "MB/s", "MB/s synced", "s", "CPU s", "peak MiB", "CPUs of others"}}
	for _, t := range tools {
		pack.add(row(t.name, median(t.packed), fmt.Sprintf("%.0f", float64(t.size)/1e6))...)
		back.add(row(t.name, median(t.restored))...)
	}
	b.say("## Archive\n\nA tree of %d entries and %.0f MB on this machine's disk, page cache warm; medians of %d runs, the tools in turn;\n"+
		"they come before other work of the machine, and runs that it disturbed are repeated for a while. "+
		"\"MB/s\" is of source data until the program ended, \"synced\" until the disk had it. Memory adds the peaks of all processes.\n",
		source.files, float64(source.bytes)/1e6, rounds)
	b.say("%s\n%s", pack.String(), back.String())
	ours, zst, gz := tools[0], tools[1], tools[2]
	ratio := median(zst.packed).wall.Seconds() / median(ours.packed).wall.Seconds()
	b.bar(ratio >= 1, "backup at least as fast as tar piped to zstd -T0", "%.2f times as fast", ratio)
	ratio = median(gz.restored).wall.Seconds() / median(ours.restored).wall.Seconds()
	b.bar(ratio >= 3, "restore at least 3 times as fast as tar -xz", "%.2f times as fast", ratio)
	most := max(median(ours.packed).memory, median(ours.restored).memory)
	b.bar(most <= memoryBar, "at most 512 MiB of memory", "%d MiB", most>>20)
}
