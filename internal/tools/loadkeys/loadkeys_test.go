package loadkeys

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"lifeboat/internal/run"
)

// recorded is what loadkeys 2.5.1 wrote of a map of Debian's console-data.
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".bkeymap")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecode(t *testing.T) {
	m, err := Decode(recorded(t, "de"))
	if err != nil {
		t.Fatal(err)
	}
	// Letters carry the mark that the caps lock counts for them.
	const letter = 0x0b00
	for _, c := range []struct {
		table uint8
		key   int
		want  uint16
	}{{0, 21, letter + 'z'}, {0, 44, letter + 'y'}, {1, 44, letter + 'Y'}, {1, 8, '/'}, {0, 53, '-'}, {0, 1, 0x1b}} {
		if got := m[c.table][c.key]; got != c.want {
			t.Errorf("table %d, key %d: %#x, want %#x", c.table, c.key, got, c.want)
		}
	}
	b := recorded(t, "de")
	for name, bad := range map[string][]byte{"empty": nil, "text": []byte("keymaps 0-127\n"), "cut": b[:len(b)-1], "more": append(slices.Clone(b), 0), "no table": append([]byte(magic), make([]byte, tables)...)} {
		if _, err := Decode(bad); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
}

// fake writes what a loadkeys would.
type fake struct {
	out  []byte
	args []string
}

func (f *fake) Run(_ context.Context, c run.Cmd) (run.Result, error) {
	f.args = append([]string{c.Path}, c.Args...)
	return run.Result{Stdout: f.out}, nil
}

func TestBinary(t *testing.T) {
	f := &fake{out: recorded(t, "de")}
	if b, err := Binary(t.Context(), f, "/x/de.kmap.gz"); err != nil || len(b) != len(f.out) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if got := strings.Join(f.args, " "); got != "loadkeys --quiet --unicode --bkeymap /x/de.kmap.gz" {
		t.Error(got)
	}
	f.out = []byte("Loading /x/de.kmap.gz\n")
	if _, err := Binary(t.Context(), f, "/x/de.kmap.gz"); err == nil {
		t.Error("text was taken for a map")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(recorded(f, "de"))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := Decode(b); err == nil && len(b) != len(magic)+tables+len(m)*2*Keys {
			t.Errorf("%d tables in %d bytes", len(m), len(b))
		}
	})
}
