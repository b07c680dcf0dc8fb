//go:build root

package kmod

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every module of the installed kernels, with kmod as the judge.
func TestInstalledAgainstKmod(t *testing.T) {
	dirs, _ := filepath.Glob("/usr/lib/modules/*/modules.dep")
	if len(dirs) == 0 {
		t.Fatal("no kernel modules below /usr/lib/modules; install a kernel package")
	}
	for _, d := range dirs {
		s, err := Open(filepath.Dir(d))
		if err != nil {
			t.Fatal(err)
		}
		release := filepath.Base(s.Dir)
		all := s.Modules()
		for i := 0; i < len(all); i += 7 {
			m := all[i]
			out, err := exec.Command("modprobe", "--show-depends", "-S", release, "-C", "/dev/null", m.Name).Output()
			if err != nil {
				t.Fatalf("modprobe --show-depends %s: %v", m.Name, err)
			}
			k := &fakeKernel{dir: s.Dir}
			if err := (&Loader{Set: s, Kernel: k}).Load(m.Name); err != nil {
				t.Errorf("%s: %v", m.Name, err)
			}
			for line := range strings.Lines(string(out)) {
				p, ok := strings.CutPrefix(line, "insmod ")
				if !ok {
					continue
				}
				n, _ := NameOfPath(strings.Fields(p)[0])
				if !k.loaded[n] {
					t.Errorf("%s: kmod loads %s, we do not", m.Name, n)
				}
			}
			if i, err := s.Info(m); err != nil || i.Release() != release {
				t.Errorf("%s: release %q: %v", m.Name, i.Release(), err)
			} else {
				compareModinfo(t, filepath.Join(s.Dir, m.Path), i)
			}
		}
		if _, err := s.Closure(names(all), nil, nil); err != nil {
			t.Errorf("closure of everything: %v", err)
		}
		t.Logf("%s: %d modules, every seventh compared", release, len(all))
	}
}

func names(mods []Module) []string {
	var out []string
	for _, m := range mods {
		out = append(out, m.Name)
	}
	return out
}

func compareModinfo(t *testing.T, path string, i Info) {
	out, err := exec.Command("modinfo", "-F", "firmware", path).Output()
	if err != nil {
		t.Fatalf("modinfo: %v", err)
	}
	want := strings.Fields(string(out))
	got := strings.Fields(strings.Join(i.Firmware, " "))
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s: firmware %v, modinfo says %v", path, got, want)
	}
}
