// Command bench measures Lifeboat beside what people use now, in one run on one
// machine: its archive beside GNU tar, its mkrescue beside ReaR's. `make bench`
// runs it. It judges the bars of the design in words and fails on none.
// Level 8.5.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"lifeboat/internal/cli"
	"lifeboat/report"
)

type bench struct {
	out    *cli.Out
	binary string // lifeboat
	packer string // tests/bench/pack
	dir    string
	text   strings.Builder
}

const usage = "usage: bench LIFEBOAT PACK FOLDER [archive|rescue]..."

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{out: cli.New()}
	if len(os.Args) < 4 {
		os.Exit(b.out.Fail(report.Errorf(report.CodeUsage, "run make bench", "%s", usage)))
	}
	parts := os.Args[4:]
	if len(parts) == 0 {
		parts = []string{"archive", "rescue"}
	}
	os.Exit(b.out.Fail(b.run(ctx, os.Args[1:4], parts)))
}

func (b *bench) run(ctx context.Context, paths, parts []string) (err error) {
	for i, to := range []*string{&b.binary, &b.packer, &b.dir} {
		if *to, err = filepath.Abs(paths[i]); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return err
	}
	b.say("# Measured\n\n%s, %d CPUs, %s.\n", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), memory())
	for _, part := range parts {
		do := map[string]func(context.Context) error{"archive": b.archives, "rescue": b.rescues}[part]
		if do == nil {
			return report.Errorf(report.CodeUsage, "archive or rescue", "no part %q; %s", part, usage)
		}
		if err = do(ctx); err != nil {
			err = fmt.Errorf("%s: %w", part, err)
			break // what was measured before is kept
		}
	}
	file := filepath.Join(b.dir, "bench.md")
	if err := errors.Join(err, os.WriteFile(file, []byte(b.text.String()), 0o644)); err != nil {
		return err
	}
	b.out.Print("\n%s\nThe same as a file: %s", b.text.String(), file)
	return nil
}

// memory is this machine's, in words.
func memory() string {
	var si syscall.Sysinfo_t
	if err := syscall.Sysinfo(&si); err != nil {
		return "memory not known"
	}
	return cli.Size(int64(si.Totalram)*int64(si.Unit)) + " of memory"
}

// say adds a paragraph to the result.
func (b *bench) say(format string, args ...any) { fmt.Fprintf(&b.text, format+"\n", args...) }

// bar judges one figure of the design.
func (b *bench) bar(met bool, what, format string, args ...any) {
	word := "missed"
	if met {
		word = "met"
	}
	b.say("- **%s**: %s: %s", word, what, fmt.Sprintf(format, args...))
}

// table is a Markdown table that is also read well as it stands.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) String() string {
	width := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	line := func(row []string) {
		for i, c := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if i == 0 { // names to the left, figures to the right
				fmt.Fprintf(&b, "| %s%s ", c, pad)
			} else {
				fmt.Fprintf(&b, "| %s%s ", pad, c)
			}
		}
		b.WriteString("|\n")
	}
	line(t.head)
	for i, w := range width {
		if i == 0 {
			b.WriteString("|:" + strings.Repeat("-", w+1))
		} else {
			b.WriteString("|" + strings.Repeat("-", w+1) + ":")
		}
	}
	b.WriteString("|\n")
	for _, row := range t.rows {
		line(row)
	}
	return b.String()
}
