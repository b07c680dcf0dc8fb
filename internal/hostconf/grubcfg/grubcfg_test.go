package grubcfg

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// disks is a world of filesystems in memory, by name; "a/uuid" style names
// tell the UUID behind the slash.
type disks map[string]fs.FS

func (d disks) Has(n string) bool { return d[n] != nil }

func (d disks) Search(by, what string) (string, bool) {
	for n, f := range d {
		if by == "fs-uuid" && strings.HasSuffix(n, "/"+what) {
			return n, true
		}
		if _, err := fs.Stat(f, strings.TrimPrefix(what, "/")); by == "file" && err == nil {
			return n, true
		}
	}
	return "", false
}

func (d disks) ReadFile(n, name string) ([]byte, error) {
	if d[n] == nil {
		return nil, fs.ErrNotExist
	}
	return fs.ReadFile(d[n], strings.TrimPrefix(name, "/"))
}

func (d disks) List(n, dir string) []string {
	if d[n] == nil {
		return nil
	}
	e, err := fs.ReadDir(d[n], strings.TrimPrefix(path.Clean(dir), "/"))
	if err != nil {
		return nil
	}
	out := []string{}
	for _, x := range e {
		out = append(out, x.Name())
	}
	return out
}

func def(t testing.TB, cfg string, more map[string]string) (*Entry, error) {
	t.Helper()
	boot := fstest.MapFS{"grub/grub.cfg": {Data: []byte(cfg)}}
	for n, s := range more {
		boot[n] = &fstest.MapFile{Data: []byte(s)}
	}
	return Default(disks{"disk0/1111-22": boot, "disk1/3333": fstest.MapFS{"boot/vmlinuz-x": {}}}, "disk0/1111-22", "/grub/grub.cfg", "efi")
}

// debian has the parts that grub-mkconfig writes on Debian and Ubuntu.
const debian = `
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set boot_once=true
else
   set default="DEFAULT"
fi
if [ x"${feature_menuentry_id}" = xy ]; then menuentry_id_option="--id"; else menuentry_id_option=""; fi
export menuentry_id_option
function savedefault {
  if [ -z "${boot_once}" ]; then saved_entry="${chosen}"; save_env saved_entry; fi
}
function gfxmode {
	set gfxpayload="${1}"
	if [ "${1}" = "keep" ]; then set vt_handoff=vt.handoff=7; else set vt_handoff=; fi
}
if loadfont $font ; then set gfxmode=auto; fi
if [ "${recordfail}" != 1 ]; then set linux_gfx_mode=keep; else set linux_gfx_mode=text; fi
menuentry 'Debian GNU/Linux' --class debian --class os $menuentry_id_option 'gnulinux-simple-3333' {
	gfxmode $linux_gfx_mode
	insmod gzio
	if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
	set root='hd0,gpt2'
	if [ x$feature_platform_search_hint = xy ]; then
	  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt2 --hint-efi=hd0,gpt2  1111-22
	else
	  search --no-floppy --fs-uuid --set=root 1111-22
	fi
	echo	'Loading Linux 6.1 ...'
	linux	/vmlinuz-6.1 root=UUID=3333 ro  quiet "a b=c" $vt_handoff
	echo	'Loading initial ramdisk ...'
	initrd	/early.img /initrd.img-6.1
}
submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-3333' {
	menuentry 'Debian GNU/Linux, with Linux 6.1' --class debian $menuentry_id_option 'gnulinux-6.1-advanced-3333' {
		linux	/vmlinuz-6.1 root=UUID=3333 ro
	}
	menuentry 'Debian GNU/Linux, with Linux 5.10 (recovery mode)' $menuentry_id_option 'gnulinux-5.10-recovery-3333' {
		search --no-floppy --file --set=other /boot/vmlinuz-x
		linux	($other)/boot/vmlinuz-x root=UUID=3333 ro single
	}
}
menuentry "Windows" { chainloader +1 }
`

func TestDefault(t *testing.T) {
	first := "/vmlinuz-6.1 BOOT_IMAGE=/vmlinuz-6.1 root=UUID=3333 ro quiet \"a b=c\" vt.handoff=7 [{disk0/1111-22 /early.img} {disk0/1111-22 /initrd.img-6.1}]"
	old := "/boot/vmlinuz-x BOOT_IMAGE=/boot/vmlinuz-x root=UUID=3333 ro single []"
	env := "# GRUB Environment Block\nsaved_entry=gnulinux-advanced-3333>gnulinux-5.10-recovery-3333\n####"
	for name, c := range map[string]struct {
		def  string
		env  string
		want string
		fs   string
	}{
		"number":        {"0", "", first, "disk0/1111-22"},
		"title":         {"Debian GNU/Linux", "", first, "disk0/1111-22"},
		"none such":     {"gone", "", first, "disk0/1111-22"},
		"numbers":       {"1>1", "", old, "disk1/3333"},
		"ids":           {"gnulinux-advanced-3333>gnulinux-5.10-recovery-3333", "", old, "disk1/3333"},
		"saved":         {"${saved_entry}", env, old, "disk1/3333"},
		"saved, no env": {"${saved_entry}", "", first, "disk0/1111-22"},
		"next":          {"0", "# GRUB Environment Block\nnext_entry=1>1\n", old, "disk1/3333"},
		"recordfail":    {"0", "# GRUB Environment Block\nrecordfail=1\n", strings.Replace(first, " vt.handoff=7", "", 1), "disk0/1111-22"},
	} {
		more := map[string]string{}
		if c.env != "" {
			more["grub/grubenv"] = c.env
		}
		e, err := def(t, strings.Replace(debian, "DEFAULT", c.def, 1), more)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var in []string
		for _, f := range e.Initrd {
			in = append(in, "{"+f.FS+" "+f.Path+"}")
		}
		if got := e.Kernel + " " + e.Args + " [" + strings.Join(in, " ") + "]"; got != c.want || e.FS != c.fs {
			t.Errorf("%s: %s on %s\nwant %s", name, got, e.FS, c.want)
		}
	}
	for _, bad := range []string{strings.Replace(debian, "DEFAULT", "2", 1), "", "menuentry x {", "if true; then", "fi", "while true; do set a=b; done",
		"function f { f; }\nf", "source $prefix/grub.cfg", "set a=x\nwhile true; do set a=$a$a; done", "submenu a { submenu b { } }"} {
		if e, err := def(t, bad, nil); err == nil {
			t.Errorf("%.40q gave %+v", bad, e)
		}
	}
}

// TestBLS: Fedora's and its relatives' entries, newest first, with GRUB's
// variables in their options.
func TestBLS(t *testing.T) {
	cfg := "set default=\"${saved_entry}\"\nload_env -f ${prefix}/grubenv\nif [ -z \"$kernelopts\" ]; then set kernelopts=none; fi\ninsmod blscfg\nblscfg\n"
	entry := func(v string) string {
		return "title Rocky Linux (" + v + ") 9\nversion " + v + "\nlinux /vmlinuz-" + v + "\ninitrd /initramfs-" + v + ".img $tuned_initrd\noptions root=/dev/mapper/rl-root ro $kernelopts\ngrub_class rocky\n"
	}
	more := map[string]string{"loader/entries/m-5.14.0-70.el9.conf": entry("5.14.0-70.el9"), "loader/entries/m-5.14.0-427.el9.conf": entry("5.14.0-427.el9"), "loader/entries/m-0-rescue.conf": entry("0-rescue"),
		"grub/grubenv": "# GRUB Environment Block\nkernelopts=rd.lvm.lv=rl/root\n"}
	e, err := def(t, cfg, more)
	if err != nil || e.Kernel != "/vmlinuz-5.14.0-427.el9" || e.Args != "BOOT_IMAGE=/vmlinuz-5.14.0-427.el9 root=/dev/mapper/rl-root ro rd.lvm.lv=rl/root" || len(e.Initrd) != 1 {
		t.Errorf("%+v, %v", e, err)
	}
	more["grub/grubenv"] = "# GRUB Environment Block\nsaved_entry=m-5.14.0-70.el9\n"
	cfg = "load_env\nset default=\"${saved_entry}\"\nblscfg\n"
	if e, err = def(t, cfg, more); err != nil || e.Kernel != "/vmlinuz-5.14.0-70.el9" {
		t.Errorf("saved: %+v, %v", e, err)
	}
}

// TestRealConfigurations holds the reader against what u-root's own tests
// expect of configurations of real installations.
func TestRealConfigurations(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/u-root/u-root").Output()
	if err != nil {
		t.Fatal(err)
	}
	top := filepath.Join(strings.TrimSpace(string(out)), "pkg/boot/grub/testdata_new")
	for dir, cfg := range map[string]string{
		"debian_10_4_installed": "/boot/grub/grub.cfg", "rhel_7_8_installed": "/grub2/grub.cfg",
		"rhel_7_8_another": "/boot/grub2/grub.cfg", "ubuntu_16_04_boot": "/grub/grub.cfg", "CentOS_7_x86_64_DVD_1810_legacy_install_sda1": "/grub2/grub.cfg",
	} {
		data, err := os.ReadFile(filepath.Join(top, dir+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var want []struct {
			Name, Cmdline  string
			Kernel, Initrd struct{ URL string }
		}
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatal(err)
		}
		w := disks{"disk": os.DirFS(filepath.Join(top, dir))}
		e, err := Default(w, "disk", cfg, "pc")
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		// Variables are text to that reader.
		line := strings.TrimSuffix(strings.Join(strings.Fields(want[0].Cmdline), " "), " $vt_handoff")
		got := strings.TrimSuffix(strings.TrimPrefix(e.Args, "BOOT_IMAGE="+e.Kernel+" "), " vt.handoff=7")
		if !strings.HasSuffix(want[0].Kernel.URL, "/"+dir+e.Kernel) || got != line {
			t.Errorf("%s: %s %s\nwant %s %s", dir, e.Kernel, got, want[0].Kernel.URL, line)
		}
		if u := want[0].Initrd.URL; u != "" && (len(e.Initrd) != 1 || !strings.HasSuffix(u, "/"+dir+e.Initrd[0].Path)) {
			t.Errorf("%s: initramfs %v, want %s", dir, e.Initrd, u)
		}
	}
}

func FuzzDefault(f *testing.F) {
	f.Add(debian, "# GRUB Environment Block\nsaved_entry=1>1\n")
	f.Add("for a in $x 1 2; do menuentry \"$a\" { linux /k }; done", "")
	f.Add("until [ -e /x -o ! a = b ]; do true; done; blscfg; search.fs_uuid 1111-22 root hd0", "")
	f.Add("menuentry a\\\n b --id ${x} { linux (disk)/k 'q'\"z$@\" $#; initrd $\"t\" }", "")
	f.Fuzz(func(t *testing.T, cfg, env string) {
		if e, err := def(t, cfg, map[string]string{"grub/grubenv": env, "loader/entries/a.conf": env}); err == nil && (e.Kernel == "" || e.Kernel[0] != '/') {
			t.Errorf("%+v", e)
		}
	})
}
