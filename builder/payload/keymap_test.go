package payload

import (
	"context"
	"errors"
	"os"
	"testing"

	"lifeboat/internal/handoff"
	"lifeboat/internal/run"
	"lifeboat/report"
)

// keymapRunner is a loadkeys that can read every map but those named.
type keymapRunner struct {
	t    *testing.T
	fail bool
	file string
}

func (r *keymapRunner) Run(_ context.Context, c run.Cmd) (run.Result, error) {
	if r.fail {
		return run.Result{}, errors.New("exit status 66")
	}
	r.file = c.Args[len(c.Args)-1]
	b, err := os.ReadFile("../../internal/tools/loadkeys/testdata/de.bkeymap")
	if err != nil {
		r.t.Fatal(err)
	}
	return run.Result{Stdout: b}, nil
}

func TestAddKeymap(t *testing.T) {
	const maps, x11 = "usr/share/keymaps/i386/qwertz/", "usr/lib/kbd/keymaps/xkb/"
	for _, c := range []struct {
		what, name string
		files      []string
		want       string // the file that is read
		warn, fail bool
	}{
		{what: "the kernel's own", name: "us", files: []string{maps + "us.kmap.gz"}},
		{what: "none is set"},
		{what: "what Debian made comes first", name: "de", files: []string{maps + "de.kmap.gz", "etc/console-setup/cached_ISO-8859-15_del.kmap.gz", "etc/console-setup/cached_UTF-8_del.kmap.gz"},
			want: "etc/console-setup/cached_UTF-8_del.kmap.gz"},
		{what: "console map", name: "de", files: []string{maps + "de.kmap.gz", maps + "de-latin1.kmap.gz"}, want: maps + "de.kmap.gz"},
		{what: "a variant", name: "de-nodeadkeys", files: []string{maps + "de-latin1.kmap.gz", x11 + "de-nodeadkeys.map.gz"}, want: x11 + "de-nodeadkeys.map.gz"},
		{what: "a variant by its older name", name: "de-nodeadkeys", files: []string{maps + "de.kmap.gz", maps + "de-latin1-nodeadkeys.kmap.gz"}, want: maps + "de-latin1-nodeadkeys.kmap.gz"},
		{what: "the layout at least", name: "de-dvorak", files: []string{maps + "de-latin1.kmap.gz"}, want: maps + "de-latin1.kmap.gz"},
		{what: "no maps", name: "de", warn: true},
		{what: "no program", name: "de", files: []string{maps + "de.kmap.gz"}, fail: true, warn: true},
		{what: "no name", name: "../de", files: []string{maps + "de.kmap.gz"}, warn: true},
	} {
		t.Run(c.what, func(t *testing.T) {
			root := gnuRoot(t)
			for _, f := range c.files {
				write(t, root, f, []byte("map"))
			}
			p, r := newPacker(t, root), &keymapRunner{t: t, fail: c.fail}
			if err := p.AddKeymap(t.Context(), r, c.name); err != nil {
				t.Fatal(err)
			}
			want := ""
			if c.want != "" {
				want = root + "/" + c.want
			}
			if r.file != want || p.Tree.Has(handoff.KeymapPath) != (want != "") {
				t.Errorf("%q was read, want %q; packed: %v", r.file, want, p.Tree.Has(handoff.KeymapPath))
			}
			if warned := len(p.Problems) == 1 && p.Problems[0].Code == report.CodeKeymap && p.Problems[0].Severity == report.Warning; warned != c.warn {
				t.Errorf("warnings: %+v", p.Problems)
			}
		})
	}
}
