package payload

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseELF(t *testing.T) {
	note := func(desc string) []byte {
		b := make([]byte, 12)
		binary.LittleEndian.PutUint32(b, 4)
		binary.LittleEndian.PutUint32(b[4:], uint32(len(desc)))
		binary.LittleEndian.PutUint32(b[8:], noteDlopen)
		return append(append(b, "FDO\x00"...), desc...)
	}
	for _, class := range []elf.Class{elf.ELFCLASS64, elf.ELFCLASS32} {
		f := fakeELF{class: class, interp: "/lib/ld.so", needed: []string{"liba.so.1", "libb.so"}, soname: "libx.so.3", runpath: "$ORIGIN/../lib:/opt/x", rpath: "/old",
			flags1: uint64(elf.DF_1_NODEFLIB), note: note(`[{"feature":"zip","priority":"recommended","soname":["libz.so.1"]}]`)}
		root := t.TempDir()
		write(t, root, "f", f.bytes())
		o, err := readELF(filepath.Join(root, "f"))
		if err != nil {
			t.Fatal(err)
		}
		if o.Interp != "/lib/ld.so" || !slices.Equal(o.Needed, f.needed) || o.Soname != "libx.so.3" || !o.NoDef {
			t.Errorf("%v: read %+v", class, o)
		}
		if len(o.Rpath) != 0 || !slices.Equal(o.Runpath, []string{"$ORIGIN/../lib", "/opt/x"}) {
			t.Errorf("%v: DT_RUNPATH must switch DT_RPATH off: %q %q", class, o.Rpath, o.Runpath)
		}
		if len(o.Notes) != 1 || o.Notes[0].Feature != "zip" || !slices.Equal(o.Notes[0].Soname, []string{"libz.so.1"}) {
			t.Errorf("%v: notes %+v", class, o.Notes)
		}
	}
	if _, err := readELF(os.DevNull); !errors.Is(err, errNotELF) {
		t.Errorf("an empty file: %v", err)
	}
}

// TestLoader holds the search order against ld.so(8), case by case.
func TestLoader(t *testing.T) {
	lib := func(soname string, needed ...string) fakeELF { return fakeELF{soname: soname, needed: needed} }
	wrong := fakeELF{soname: "libx.so.1", class: elf.ELFCLASS32, machine: elf.EM_386}
	for _, c := range []struct {
		name  string
		files map[string]fakeELF
		conf  string
		want  string // libraries as found, or "MISSING lib by file"
	}{
		{"default folder", map[string]fakeELF{"usr/bin/p": prog("libx.so.1"), "usr/lib/x86_64-linux-gnu/libx.so.1": lib("libx.so.1")},
			"", "/lib/x86_64-linux-gnu/libx.so.1"},
		{"of a library's library", map[string]fakeELF{"usr/bin/p": prog("libx.so.1"), "usr/lib/libx.so.1": lib("libx.so.1", "liby.so.2"), "usr/lib64/liby.so.2": lib("liby.so.2")},
			"", "/lib/libx.so.1 /lib64/liby.so.2"},
		{"missing one is named with who asks", map[string]fakeELF{"usr/bin/p": prog("libx.so.1"), "usr/lib/libx.so.1": lib("libx.so.1", "liby.so.2")},
			"", "/lib/libx.so.1 MISSING liby.so.2 by /lib/libx.so.1"},
		{"another class is passed over", map[string]fakeELF{"usr/bin/p": prog("libx.so.1"), "usr/lib/x86_64-linux-gnu/libx.so.1": wrong, "usr/lib/libx.so.1": lib("libx.so.1")},
			"", "/lib/libx.so.1"},
		{"ld.so.conf comes before the default", map[string]fakeELF{"usr/bin/p": prog("libx.so.1"), "opt/a/libx.so.1": lib("libx.so.1"), "usr/lib/libx.so.1": lib("libx.so.1")},
			"include /etc/ld.so.conf.d/*.conf\n/opt/a\n", "/opt/a/libx.so.1+conf"},
		{"RUNPATH with ORIGIN comes first", map[string]fakeELF{"opt/p/bin/p": {interp: gnuInterp, needed: []string{"libx.so.1"}, runpath: "$ORIGIN/../lib"}, "opt/p/lib/libx.so.1": lib("libx.so.1"), "usr/lib/libx.so.1": lib("libx.so.1")},
			"", "/opt/p/lib/libx.so.1"},
		{"RUNPATH does not count for a library's library", map[string]fakeELF{"opt/p/bin/p": {interp: gnuInterp, needed: []string{"libx.so.1"}, runpath: "/opt/p/lib"}, "opt/p/lib/libx.so.1": lib("libx.so.1", "liby.so.2"), "opt/p/lib/liby.so.2": lib("liby.so.2")},
			"", "/opt/p/lib/libx.so.1 MISSING liby.so.2 by /opt/p/lib/libx.so.1"},
		{"RPATH does", map[string]fakeELF{"opt/p/bin/p": {interp: gnuInterp, needed: []string{"libx.so.1"}, rpath: "/opt/p/lib"}, "opt/p/lib/libx.so.1": lib("libx.so.1", "liby.so.2"), "opt/p/lib/liby.so.2": lib("liby.so.2")},
			"", "/opt/p/lib/libx.so.1 /opt/p/lib/liby.so.2"},
		{"a library's own RUNPATH hides the program's RPATH", map[string]fakeELF{"opt/p/bin/p": {interp: gnuInterp, needed: []string{"libx.so.1"}, rpath: "/opt/p/lib"}, "opt/p/lib/libx.so.1": {soname: "libx.so.1", needed: []string{"liby.so.2"}, runpath: "/nowhere"}, "opt/p/lib/liby.so.2": lib("liby.so.2")},
			"", "/opt/p/lib/libx.so.1 MISSING liby.so.2 by /opt/p/lib/libx.so.1"},
		{"LIB and PLATFORM", map[string]fakeELF{"opt/p/bin/p": {interp: gnuInterp, needed: []string{"libx.so.1", "liby.so.2"}, runpath: "/opt/${LIB}:/opt/$PLATFORM"}, "opt/lib/x86_64-linux-gnu/libx.so.1": lib("libx.so.1"), "opt/x86_64/liby.so.2": lib("liby.so.2")},
			"", "/opt/lib/x86_64-linux-gnu/libx.so.1 /opt/x86_64/liby.so.2"},
		{"a name with a slash is a path", map[string]fakeELF{"usr/bin/p": prog("/opt/q/libx.so"), "opt/q/libx.so": lib("libx.so")}, "", "/opt/q/libx.so"},
		{"what is loaded under its soname is not searched again", map[string]fakeELF{"usr/bin/p": prog("libx.so", "libx.so.1"), "usr/lib/libx.so": lib("libx.so.1")}, "", "/lib/libx.so"},
		{"NODEFLIB", map[string]fakeELF{"usr/bin/p": {interp: gnuInterp, needed: []string{"libx.so.1"}, flags1: uint64(elf.DF_1_NODEFLIB)}, "usr/lib/libx.so.1": lib("libx.so.1")},
			"", "MISSING libx.so.1 by /usr/bin/p"},
		{"variants for newer processors are left alone", map[string]fakeELF{"usr/bin/p": prog("libx.so.1"), "usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3/libx.so.1": lib("libx.so.1")},
			"", "MISSING libx.so.1 by /usr/bin/p"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := gnuRoot(t)
			var main string
			for p, f := range c.files {
				write(t, root, p, f.bytes())
				if strings.HasSuffix(p, "bin/p") {
					main = "/" + p
				}
			}
			if c.conf != "" {
				write(t, root, "etc/ld.so.conf", []byte(c.conf))
			}
			n, err := NewLoader(NewHost(root)).Resolve(main)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, l := range n.Libs {
				if l.Name == "libc.so.6" {
					continue
				}
				s := l.Path
				if l.Conf {
					s += "+conf"
				}
				got = append(got, s)
			}
			for _, m := range n.Missing {
				got = append(got, fmt.Sprintf("MISSING %s by %s", m.Lib, m.By))
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
		})
	}
}

func TestLdConf(t *testing.T) {
	root := t.TempDir()
	write(t, root, "etc/ld.so.conf", []byte("# head\n/first # why\ninclude ld.so.conf.d/*.conf\n\t/last,/more:/colon /eq=libc6\nhwcap 1 x\nrelative/dir\n/first\ninclude /etc/ld.so.conf\n"))
	write(t, root, "etc/ld.so.conf.d/b.conf", []byte("/b"))
	write(t, root, "etc/ld.so.conf.d/a.conf", []byte("/a/\n"))
	write(t, root, "etc/ld.so.conf.d/c.txt", []byte("/never\n"))
	want := []string{"/first", "/a", "/b", "/last", "/more", "/colon", "/eq"}
	if got := ldConf(NewHost(root)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzLdConf(f *testing.F) {
	f.Add("include /etc/ld.so.conf.d/*.conf\n/usr/local/lib\n")
	f.Add("/a:/b,/c #x\nhwcap 0 nosegneg\ninclude a b c")
	f.Fuzz(func(t *testing.T, text string) {
		dirs, inc := parseLdConf(text)
		if len(dirs) != len(inc) || dirs[len(dirs)-1] != "" {
			t.Fatalf("%q: %d folders, %d includes", text, len(dirs), len(inc))
		}
		for _, d := range dirs[:len(dirs)-1] {
			if !strings.HasPrefix(d, "/") {
				t.Errorf("%q: folder %q is not absolute", text, d)
			}
		}
	})
}

func FuzzELF(f *testing.F) {
	f.Add(prog("libx.so.1").bytes())
	f.Add(fakeELF{class: elf.ELFCLASS32, machine: elf.EM_386, soname: "a", rpath: "/x:/y"}.bytes())
	f.Add(fakeELF{note: []byte("\x04\x00\x00\x00\x02\x00\x00\x00\x0a\x0c\x7c\x40FDO\x00[]")}.bytes())
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseELF(strings.NewReader(string(b)))
		if err == nil && o == nil {
			t.Fatal("neither object nor error")
		}
	})
}
