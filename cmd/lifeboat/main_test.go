package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/internal/cli"
)

// runApp calls the command as a person would.
func runApp(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var o, e bytes.Buffer
	a := &app{out: &cli.Out{Stdout: &o, Stderr: &e}}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(&o)
	root.SetErr(&e)
	code = a.out.Fail(root.ExecuteContext(context.Background()))
	return code, o.String(), e.String()
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"mkrescu"}, 2, `the verb "mkrescu" is not known; verbs are`},
		{[]string{"plan", "--mapp", "x"}, 2, "unknown flag: --mapp"},
		{[]string{"drill"}, 2, "lifeboat drill --help"},
		{[]string{"inspect", "/nonexistent.iso"}, 2, "no such file"},
		{[]string{"archive", "verify", "/nonexistent.lba"}, 5, "no such file"},
		{[]string{"archive", "serve", "/tmp"}, 2, "--insecure-lan"},
		{[]string{"archive", "serve", "--insecure-lan", "/tmp"}, 2, "--no-token"},
		{[]string{"archive", "serve", "--token-file", "/x", "--cert", "/nonexistent.crt", "--key", "k", "/tmp"}, 2, "certificate"},
		{[]string{"archive", "extract", "x.lba"}, 2, "--into"},
		{[]string{"archive", "extract", "--into", "/", "x.lba"}, 2, "root of this running system"},
		{[]string{"archive", "frob"}, 2, `"frob" is none of`},
		{[]string{"usb", "wrte", "/dev/sdX"}, 2, `"wrte" is none of list write`},
		{[]string{"usb"}, 2, "is missing"},
		{[]string{"recover"}, 4, "in the rescue system only"},
		{[]string{"config", "--config", "/nonexistent.yaml"}, 2, "no such file"},
		{[]string{"plan", "--manifest", "/nonexistent.json"}, 2, "no such file"},
		{[]string{"drill", "--disk", "8X", "x.iso"}, 2, "write it like 8G"},
	} {
		code, _, stderr := runApp(t, c.args...)
		if code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: exit %d, %q", c.args, code, stderr)
		}
		if strings.Contains(stderr, "goroutine") {
			t.Errorf("%v: a stack trace: %q", c.args, stderr)
		}
	}
}

// TestHelp: every verb has a line of help and an example.
func TestHelp(t *testing.T) {
	a := &app{out: cli.New()}
	for _, c := range a.root().Commands() {
		if c.Short == "" {
			t.Errorf("%s has no help", c.Name())
		}
		if c.Example == "" && !c.HasSubCommands() {
			t.Errorf("%s has no example", c.Name())
		}
		for _, sub := range c.Commands() {
			if sub.Example == "" {
				t.Errorf("%s %s has no example", c.Name(), sub.Name())
			}
		}
	}
}

func TestConfigPrints(t *testing.T) {
	p := filepath.Join(t.TempDir(), "lifeboat.yaml")
	if err := os.WriteFile(p, []byte("backup: {url: http://nas}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := runApp(t, "config", "--config", p)
	if code != 0 || !strings.Contains(stdout, "url: http://nas") || !strings.Contains(stdout, p+":1") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	code, stdout, _ = runApp(t, "config", "--json", "--config", p)
	if code != 0 || !strings.Contains(stdout, `"sources"`) {
		t.Errorf("exit %d, %q", code, stdout)
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{"8G": 8 << 30, "8GiB": 8 << 30, "512m": 512 << 20, "1000": 1000, "1T": 1 << 40} {
		if n, err := parseSize(s); err != nil || n != want {
			t.Errorf("%s: %d, %v", s, n, err)
		}
	}
	for _, s := range []string{"", "G", "-1G", "0", "8X", "9999999T", "1.5G"} {
		if n, err := parseSize(s); err == nil {
			t.Errorf("%s: %d", s, n)
		}
	}
}
