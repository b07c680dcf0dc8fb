package adapt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"lifeboat/internal/hostconf/fstab"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// Line is a line of fstab that leads nowhere, and what must stand there.
type Line struct {
	Path string // mount point, or "none" and the like for swap
	Old  string // first field as it is
	New  string
}

// keptFstab is where the old fstab stays for a person to compare.
const keptFstab = "/etc/fstab.before-repair"

// MendFstab gives lines of fstab that lead nowhere their right devices
// (plan.VerbFstab). A file that is gone or holds no line is written anew as
// captured. The old one is kept beside it.
func (a *Adapter) MendFstab(lines []Line) func(context.Context, plan.Step) error {
	return func(context.Context, plan.Step) error {
		const name = "/etc/fstab"
		old, err := a.Root.FS.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("mend fstab: %w", err)
		}
		f := fstab.Parse(old)
		var text []byte
		n := 0
		if len(f.Entries()) == 0 {
			text, n = capturedFstab(a.Manifest, &a.Plan.Target)
		} else {
			text, n = mendLines(f, lines)
		}
		if n == 0 {
			return nil
		}
		if len(old) > 0 {
			if err := a.Root.FS.WriteFile(keptFstab, old, 0o644); err != nil {
				return fmt.Errorf("keep the old fstab: %w", err)
			}
		}
		if err := a.Root.FS.WriteFile(name, text, 0o644); err != nil {
			return fmt.Errorf("mend fstab: %w", err)
		}
		a.Sink.Emit(report.Event{Kind: report.Note, Text: fmt.Sprintf("/etc/fstab: %d lines mended; the old one is %s", n, keptFstab)})
		return nil
	}
}

// mendLines replaces the first field of lines by their exact old text.
func mendLines(f *fstab.File, lines []Line) ([]byte, int) {
	table := map[string]string{}
	for _, l := range lines {
		if l.New != "" && l.New != l.Old {
			table[l.Old] = l.New
		}
	}
	changes := f.Replace(func(v string) string {
		if n, ok := table[v]; ok {
			return n
		}
		return v
	})
	return f.Bytes(), len(changes)
}

// capturedFstab is an fstab of the captured lines, with the ids of target.
func capturedFstab(m *manifest.Manifest, target *manifest.Storage) ([]byte, int) {
	var b strings.Builder
	n := 0
	b.WriteString("# written by Lifeboat's repair as captured: the old file was gone\n")
	for _, mt := range m.Storage.Mounts {
		node := target.Node(mt.Node)
		if !mt.InFstab || node == nil {
			continue
		}
		spec := mt.Spec
		was := m.Storage.Node(mt.Node)
		switch {
		case node.FS != nil && (spec == "" || was.FS != nil && was.FS.UUID != node.FS.UUID):
			spec = "UUID=" + node.FS.UUID
		case node.Swap != nil && (spec == "" || was.Swap != nil && was.Swap.UUID != node.Swap.UUID):
			spec = "UUID=" + node.Swap.UUID
		}
		typ, opts, pass := mt.Type, strings.Join(mt.Options, ","), 2
		if typ == "" && node.FS != nil {
			typ = node.FS.Type
		}
		if opts == "" {
			opts = "defaults"
		}
		if mt.Path == "/" {
			pass = 1
		}
		path := string(mt.Path)
		if node.Swap != nil || node.SwapFile != nil {
			typ, path, pass = "swap", "none", 0
		}
		if spec == "" {
			continue
		}
		fmt.Fprintf(&b, "%s %s %s %s 0 %d\n", fstab.Escape(spec), fstab.Escape(path), typ, fstab.Escape(opts), pass)
		n++
	}
	return []byte(b.String()), n
}
