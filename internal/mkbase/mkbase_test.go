package main

import (
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCommands(t *testing.T) {
	pkgs, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) < 40 || !slices.IsSorted(pkgs) {
		t.Errorf("%d packages, sorted: %v", len(pkgs), slices.IsSorted(pkgs))
	}
	n := names(pkgs)
	if len(slices.Compact(slices.Clone(n))) != len(n) {
		t.Errorf("a name stands twice: %v", n)
	}
	for a, c := range aliases {
		if !slices.ContainsFunc(pkgs, func(p string) bool { return path.Base(p) == c }) {
			t.Errorf("alias %s stands for %s, which is not built", a, c)
		}
	}
	// These are init's own names.
	for _, own := range []string{"init", "modprobe", "reboot", "poweroff", "halt", "shutdown", "lifeboat"} {
		if slices.Contains(n, own) {
			t.Errorf("%s would hide ours", own)
		}
	}
}

func TestAliasSourceParses(t *testing.T) {
	src := aliasSource()
	if _, err := parser.ParseFile(token.NewFileSet(), "aliases.go", src, 0); err != nil {
		t.Error(err)
	}
	if !strings.Contains(src, `case "sh":`) {
		t.Errorf("sh is not mapped:\n%s", src)
	}
}

func TestFresh(t *testing.T) {
	dir := t.TempDir()
	stamp, product := filepath.Join(dir, "stamp"), filepath.Join(dir, "product")
	if fresh(stamp, "x", product) {
		t.Error("nothing there, and fresh")
	}
	for _, f := range []string{stamp, product} {
		if err := os.WriteFile(f, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !fresh(stamp, "x", product) || fresh(stamp, "y", product) {
		t.Error("the stamp is not compared")
	}
	os.Remove(product)
	if fresh(stamp, "x", product) {
		t.Error("the product is gone, and fresh")
	}
	if digest([]byte("ab"), []byte("c")) == digest([]byte("a"), []byte("bc")) {
		t.Error("parts run together")
	}
}
