package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/report"
)

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLoad(t *testing.T) {
	d := t.TempDir()
	p := write(t, d, "lifeboat.yaml", "output: [iso, usb]\nbackup:\n  url: http://nas/backup\n  exclude: [/var/cache]\n")
	write(t, d, "conf.d/10-site.yaml", "recover: {mode: auto}\n")
	write(t, d, "conf.d/20-site.yaml", "backup: {exclude: [/srv/tmp]}\n")
	write(t, d, "conf.d/30-empty.yaml", "# nothing\n")
	c, err := Load(p, true)
	if err != nil {
		t.Fatal(err)
	}
	if c.Recover.Mode != "auto" || c.Backup.URL != "http://nas/backup" || len(c.Backup.Exclude) != 1 || c.Backup.Exclude[0] != "/srv/tmp" || c.Modules != "universal" {
		t.Errorf("%+v", c)
	}
	if s := c.Sources["recover.mode"]; s != filepath.Join(d, "conf.d/10-site.yaml")+":1" {
		t.Errorf("source %q", s)
	}
	text := c.Text()
	for _, want := range []string{"mode: auto", "10-site.yaml:1", `output: ["iso", "usb"]`, "# default"} {
		if !strings.Contains(text, want) {
			t.Errorf("text lacks %q:\n%s", want, text)
		}
	}
}

func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		"backup:\n  ulr: x\n":                 "did you mean backup.url?",
		"outputs: [iso]\n":                    "did you mean output?",
		"modules: some\n":                     "host, universal, all",
		"backup: {exclude: [\"\"]}\n":         "absolute path below /",
		"backup: {exclude: [\"/\"]}\n":        "absolute path below /",
		"backup: x\n":                         "no list of keys",
		"output: [floppy]\n":                  "iso, usb, pxe",
		"a: [\n":                              "mend the YAML",
		"output: [iso]\n---\noutput: [usb]":   "more than one YAML document",
		"server: {send_result: perhaps}\n":    "mend the value",
		"recover: {then: nothing}\n":          "reboot, poweroff, stay",
		"output: []\n":                        "output is empty",
		"output:\n":                           "output is empty",
		"output: [iso, usb, iso]\n":           "names iso twice",
		"output_dir: /.\n":                    "absolute path below /",
		"output_dir: out\n":                   "absolute path",
		"recover: {mode: auto, mode: menu}\n": "already defined",
	} {
		p := write(t, t.TempDir(), "lifeboat.yaml", text)
		_, err := Load(p, true)
		if err == nil || !strings.Contains(err.Error(), want) || report.ExitOf(err) != report.ExitUsage {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml"), true); err == nil {
		t.Error("a named file that is missing was no error")
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml"), false); err != nil {
		t.Errorf("no file at all: %v", err)
	}
}

func FuzzMerge(f *testing.F) {
	f.Add([]byte("output: [iso]\nbackup: {url: x}\n"))
	f.Fuzz(func(t *testing.T, b []byte) { _ = Default().merge("f", b) })
}
