package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestParseModprobe(t *testing.T) {
	for line, want := range map[string]string{
		"-q -- fs-ext4":            "names=[fs-ext4] params=[] q",
		"ext4":                     "names=[ext4] params=[]",
		"-va ext4 xfs":             "names=[ext4 xfs] params=[] va",
		"nvme io_timeout=9 x":      "names=[nvme] params=[io_timeout=9 x]",
		"-S 6.1 -d /target -n ext": "names=[ext] params=[] vn S=6.1 d=/target",
		"--quiet --all -b a":       "names=[a] params=[] qa",
		"-r ext4":                  "names=[ext4] params=[] r",
		"":                         "no module named",
		"-x a":                     "option -x is not known",
		"--nonsense a":             "option --nonsense is not known",
		"-S":                       "-S needs a value",
	} {
		a, err := parseModprobe(strings.Fields(line))
		got := fmt.Sprintf("names=%v params=%v", a.names, a.params)
		flags := ""
		for _, f := range []struct {
			on bool
			c  string
		}{{a.quiet, "q"}, {a.verbose, "v"}, {a.all, "a"}, {a.dry, "n"}, {a.remove, "r"}} {
			if f.on {
				flags += f.c
			}
		}
		if flags != "" {
			got += " " + flags
		}
		if a.release != "" {
			got += " S=" + a.release + " d=" + a.root
		}
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("modprobe %s: %s, want %s", line, got, want)
		}
	}
}

func TestModprobe(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"usr/lib/modules/9.9/modules.dep":   "k/top-mod.ko: k/base.ko\nk/base.ko:\n",
		"usr/lib/modules/9.9/modules.alias": "alias fs-top* top_mod\n",
		"etc/modprobe.d/x.conf":             "options top-mod size=3\n",
	} {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	call := func(args string) (int, string, string) {
		var out, errb bytes.Buffer
		code := modprobe(strings.Fields(args), &out, &errb)
		return code, out.String(), errb.String()
	}
	if code, out, _ := call("-D -S 9.9 -d " + root + " fs-topmost more=1"); code != 0 || out != "insmod k/base.ko \ninsmod k/top-mod.ko size=3 more=1\n" {
		t.Errorf("%d: %q", code, out)
	}
	if code, _, errs := call("-S 9.9 -d " + root + " absent"); code != 1 || !strings.Contains(errs, "absent") {
		t.Errorf("absent: %d %q", code, errs)
	}
	if code, _, errs := call("-q -S 9.9 -d " + root + " -- absent"); code != 1 || errs != "" {
		t.Errorf("quiet: %d %q", code, errs)
	}
	if code, _, errs := call("-r x"); code != 1 || !strings.Contains(errs, "rmmod") {
		t.Errorf("remove: %d %q", code, errs)
	}
	if code, _, errs := call("-S 1.0 -d " + root + " x"); code != 1 || !strings.Contains(errs, "1.0") {
		t.Errorf("no such kernel: %d %q", code, errs)
	}
}

func TestEnds(t *testing.T) {
	for s, want := range map[syscall.Signal]string{
		syscall.SIGTERM: "Rebooting", syscall.SIGINT: "Rebooting", syscall.SIGUSR2: "Powering off",
		syscall.SIGPWR: "Powering off", syscall.SIGUSR1: "Halting", syscall.SIGHUP: "", syscall.SIGPIPE: "",
	} {
		if e, ok := endOf(s); e.text != want || ok != (want != "") {
			t.Errorf("%v: %q", s, e.text)
		}
	}
	for args, want := range map[string]string{"": "poweroff", "-h now": "poweroff", "-r now": "reboot", "now -H": "halt"} {
		if got := shutdown(strings.Fields(args)); got != want {
			t.Errorf("shutdown %s: %s, want %s", args, got, want)
		}
	}
	var errb bytes.Buffer
	if code := ask("poweroff", []string{"-x"}, &errb); code != 2 || !strings.Contains(errb.String(), "Example: poweroff") {
		t.Errorf("wrong flag: %d %q", code, errb.String())
	}
}

// Every signal that somebody may send to PID 1 is survived; this process would
// end as PID 1 would.
func TestSignals(t *testing.T) {
	c := signals()
	for s := syscall.Signal(1); s < 32; s++ {
		switch s {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU:
			continue // the kernel does not hand the first two to PID 1, the rest only stop
		}
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
	}
	asked := map[string]bool{}
	for range 5 {
		e, ok := endOf(<-c)
		if !ok {
			t.Error("a signal without meaning was handed on")
		}
		asked[e.text] = true
	}
	if len(asked) != 3 {
		t.Errorf("asked for %v", asked)
	}
}

func TestEnvironment(t *testing.T) {
	env := strings.Join(environment("vt220", "LIFEBOAT_CONSOLE=ttyS0"), "\n") + "\n"
	for _, want := range []string{"PATH=/usr/local/sbin:", "TERM=vt220\n", "LIFEBOAT_CONSOLE=ttyS0\n", "DM_DISABLE_UDEV=1\n"} {
		if !strings.Contains(env, want) {
			t.Errorf("environment lacks %q:\n%s", want, env)
		}
	}
	if strings.Count(env, "TERM=") != 1 {
		t.Errorf("TERM twice:\n%s", env)
	}
}
