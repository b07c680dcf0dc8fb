package loaders

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/internal/handoff"
)

func menu() Menu {
	return Menu{
		BuildID: "0123-abcd", Host: "web01.example.com", Kernel: "6.1.0-56-amd64",
		Built:    time.Date(2026, 11, 25, 3, 4, 5, 0, time.UTC),
		Consoles: []string{"tty1", "ttyS1,57600n8"}, Timeout: 10 * time.Second,
		Cmdline: `net.ifnames=0 quirk="a b" it's $root ;reboot`,
	}
}

func TestMenuConfig(t *testing.T) {
	c := menu().Config()
	for _, want := range []string{
		"serial --unit=1 --speed=57600", "terminal_output console serial",
		"set default=local", "set timeout=10", "--file --set=root /lifeboat/id-0123-abcd",
		"'Recover web01 automatically (2026-11-25, Linux 6.1.0-56-amd64)' --id auto",
		`linux /boot/vmlinuz rootfstype=ramfs console=tty0 console=tty1 console=ttyS1,57600n8 net.ifnames=0 'quirk="a b"' 'it'\''s' '$root' ';reboot' lifeboat.recover=auto` + "\n",
		"lifeboat.recover=menu", "initrd /boot/initrd.img",
	} {
		if !strings.Contains(c, want) {
			t.Errorf("grub.cfg lacks %q", want)
		}
	}
	if strings.Contains(c, "insmod") {
		t.Error("modules cannot be loaded under Secure Boot")
	}
	own := menu()
	own.LocalLoaders = []string{"/EFI/My Own/load.efi", "/EFI/ubuntu/shimx64.efi"}
	if c := own.Config(); !strings.Contains(c, "in '/EFI/My Own/load.efi' /EFI/ubuntu/shimx64.efi /EFI/debian/shimx64.efi") {
		t.Errorf("the host's own loaders do not come first:\n%s", c)
	}
	only := menu()
	only.MenuOnly = true
	if c := only.Config(); strings.Contains(c, "lifeboat.recover=auto") || strings.Contains(c, "automatically") {
		t.Error("a menu-only medium offers the automatic recovery")
	}
	plain := menu()
	plain.Consoles, plain.Timeout, plain.Default = []string{"hvc0"}, -1, Steps
	if c := plain.Config(); strings.Contains(c, "serial") || !strings.Contains(c, "set timeout=-1") || !strings.Contains(c, "set default=steps") {
		t.Errorf("grub.cfg:\n%s", c)
	}
	if t.Failed() {
		t.Log(c)
	}
}

// TestMenuDone: only a medium that would recover by itself looks whether its
// order is done, by the id that its automatic entry would carry.
func TestMenuDone(t *testing.T) {
	auto := menu()
	auto.Default = Auto
	if c := auto.Config(); !strings.Contains(c, "set default=auto\n") || !strings.Contains(c, "if search --no-floppy --file --set=done /.lifeboat-done-0123-abcd; then\n  set default=local\n") {
		t.Errorf("grub.cfg:\n%s", c)
	}
	auto.Cmdline = "quiet lifeboat.order=again-7"
	if c := auto.Config(); !strings.Contains(c, " /.lifeboat-done-again-7;") || strings.Contains(c, "done-0123") {
		t.Errorf("the order of the command line is not looked for:\n%s", c)
	}
	auto.Cmdline = "lifeboat.order='a;b'"
	for _, c := range []string{menu().Config(), auto.Config()} {
		if strings.Contains(c, ".lifeboat-done") {
			t.Errorf("grub.cfg looks for a mark:\n%s", c)
		}
	}
}

// TestMenuWords: what the kernel gets is what handoff understands.
func TestMenuWords(t *testing.T) {
	for _, e := range []string{handoff.Auto, handoff.Menu} {
		o := handoff.Order{}
		line := "lifeboat.recover=" + e
		if !strings.Contains(menu().Config(), " "+line+"\n") {
			t.Errorf("no entry for %s", line)
		}
		if f := o.Apply(line); len(f) > 0 || o.Recover != e {
			t.Errorf("%s: %+v, %v", line, o, f)
		}
	}
}

func TestMenuTitles(t *testing.T) {
	for _, host := range []string{"a", "web01.example.com", "a-rather-long-name.of.a.department.example.com"} {
		m := menu()
		m.Host = host
		for _, l := range strings.Split(m.Config(), "\n") {
			if title, ok := strings.CutPrefix(l, "menuentry '"); ok {
				if title, _, _ = strings.Cut(title, "' --id"); len(title) > width+4 {
					t.Errorf("too wide for a text screen: %s", title)
				}
			}
		}
		short, _, _ := strings.Cut(host, ".")
		if title := m.title("Recover %s automatically"); !strings.Contains(title, short) || !strings.Contains(title, "2026-11-25") || !strings.Contains(title, "6.1.0") {
			t.Errorf("title lacks host, date or kernel: %s", title)
		}
	}
}

func TestMenuCheck(t *testing.T) {
	if err := menu().Check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Menu){
		"build id":         func(m *Menu) { m.BuildID = "../x" },
		"empty id":         func(m *Menu) { m.BuildID = "" },
		"line end in host": func(m *Menu) { m.Host = "a\nreboot" },
		"default":          func(m *Menu) { m.Default = "windows" },
		"auto, menu only":  func(m *Menu) { m.Default, m.MenuOnly = Auto, true },
	} {
		m := menu()
		change(&m)
		if m.Check() == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// TestMenuSyntax asks GRUB's own parser, where it is installed.
func TestMenuSyntax(t *testing.T) {
	tool, err := exec.LookPath("grub-script-check")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("grub-script-check is missing: install the package grub-common")
		}
		t.Log("not judged by GRUB: install the package grub-common")
		return
	}
	auto := menu()
	auto.Default = Auto
	for name, text := range map[string]string{"grub.cfg": menu().Config(), "auto.cfg": auto.Config(), "stub.cfg": menu().Stub(), "early.cfg": menu().Early()} {
		p := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(tool, p).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}
