package main

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/archive"
)

// packed is an archive of a folder with a text and 8 MiB that nothing makes
// smaller.
func packed(t *testing.T) (path string) {
	t.Helper()
	src := t.TempDir()
	big := make([]byte, 8<<20)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(big)
	for name, data := range map[string][]byte{"thesis.odt": []byte("text"), "big": big} {
		if err := os.WriteFile(filepath.Join(src, name), data, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := archive.Create(context.Background(), &b, archive.Options{HostID: "m"}, []archive.Source{{Path: "/", At: src, Bare: true}}); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "a.lba")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// damage flips a byte in the middle, where the big file lies.
func damage(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestArchiveList(t *testing.T) {
	path := packed(t)
	code, out, stderr := runApp(t, "archive", "list", path)
	if code != 0 || !strings.Contains(out, " /thesis.odt\n") || !strings.Contains(out, "-rw-r-----") || strings.Contains(out, "%!") {
		t.Errorf("exit %d, %q, %q", code, out, stderr)
	}
	code, out, _ = runApp(t, "archive", "list", "--json", path)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) != 3 {
		t.Fatalf("exit %d, %d lines: %s", code, len(lines), out)
	}
	for _, l := range lines {
		var e struct{ Path, Type, Mode string }
		if err := json.Unmarshal([]byte(l), &e); err != nil || e.Path == "" || e.Type == "" || len(e.Mode) != 4 {
			t.Errorf("%s: %v", l, err)
		}
	}
}

func TestArchiveExtract(t *testing.T) {
	path, into := packed(t), t.TempDir()
	if code, _, stderr := runApp(t, "archive", "extract", "--into", into, path, "/thesis.odt"); code != 0 {
		t.Fatalf("exit %d, %q", code, stderr)
	}
	kept := filepath.Join(into, "thesis.odt")
	if err := os.WriteFile(kept, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := runApp(t, "archive", "extract", "--into", into, path)
	if b, _ := os.ReadFile(kept); code != 2 || string(b) != "precious" || !strings.Contains(stderr, "--overwrite") {
		t.Errorf("a folder that is not empty: exit %d, %q, the file is %q", code, stderr, b)
	}
	code, _, _ = runApp(t, "archive", "extract", "--overwrite", "--into", into, path)
	if b, _ := os.ReadFile(kept); code != 0 || string(b) != "text" {
		t.Errorf("--overwrite: exit %d, the file is %q", code, b)
	}
}

func TestArchiveExtractDamaged(t *testing.T) {
	path := packed(t)
	damage(t, path)
	code, _, stderr := runApp(t, "archive", "extract", "--into", filepath.Join(t.TempDir(), "x"), path)
	if code != 5 || !strings.Contains(stderr, "--salvage") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	code, _, stderr = runApp(t, "archive", "extract", "--salvage", "--into", filepath.Join(t.TempDir(), "x"), path)
	if code != 5 || !strings.Contains(stderr, "lost: ") || !strings.Contains(stderr, "another backup") {
		t.Errorf("salvage: exit %d, %q", code, stderr)
	}
	code, out, _ := runApp(t, "archive", "extract", "--json", "--salvage", "--into", filepath.Join(t.TempDir(), "x"), path)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	found := false
	for _, l := range lines {
		var doc extraction
		if json.Unmarshal([]byte(l), &doc) == nil && len(doc.Losses) > 0 && doc.Entries > 0 {
			found = true
		}
		if !json.Valid([]byte(l)) {
			t.Errorf("no line of JSON: %q", l)
		}
	}
	if code != 5 || !found {
		t.Errorf("JSON: exit %d, %s", code, out)
	}
}
