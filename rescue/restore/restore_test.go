package restore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"lifeboat/archive"
	"lifeboat/internal/handoff"
)

// put makes files below dir.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

// TestJournalStays: the journal of an earlier recovery in the backup comes
// neither over the one that is being written nor beside it; a name of the same
// file elsewhere comes back, and so does what is only called alike.
func TestJournalStays(t *testing.T) {
	journal := filepath.Join(handoff.JournalDir, "journal.jsonl")
	src, dst := t.TempDir(), t.TempDir()
	put(t, src, map[string]string{journal: "old\n", handoff.JournalDir + "/more": "old\n", handoff.JournalDir + "-not/a": "a\n", "etc/hostname": "alpha\n"})
	if err := os.Link(filepath.Join(src, journal), filepath.Join(src, "etc/kept")); err != nil {
		t.Fatal(err)
	}
	put(t, dst, map[string]string{journal: "new\n"})
	live, err := os.OpenFile(filepath.Join(dst, journal), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	var b bytes.Buffer
	if _, err := archive.Create(t.Context(), &b, archive.Options{HostID: "m"}, []archive.Source{{Path: "/", At: src, Bare: true}}); err != nil {
		t.Fatal(err)
	}
	x, err := archive.Open(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Archive(t.Context(), x, dst, Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := live.WriteString("more\n"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{journal: "new\nmore\n", handoff.JournalDir + "-not/a": "a\n", "etc/hostname": "alpha\n", "etc/kept": "old\n"} {
		if got, err := os.ReadFile(filepath.Join(dst, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := os.Lstat(filepath.Join(dst, handoff.JournalDir, "more")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an earlier journal's file came back (%v)", err)
	}
}
