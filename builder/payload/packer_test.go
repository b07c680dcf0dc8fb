package payload

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lifeboat/plan"
	"lifeboat/report"
)

func newPacker(t *testing.T, root string) *Packer {
	t.Helper()
	p, err := NewPacker(NewHost(root))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func describe(tree *Tree, p string) string {
	e := tree.Get(p)
	switch {
	case e == nil:
		return "absent"
	case e.Mode.IsDir():
		return "folder"
	case e.Mode.Type() == fs.ModeSymlink:
		return "-> " + e.Target
	}
	return "file"
}

func expect(t *testing.T, tree *Tree, want map[string]string) {
	t.Helper()
	for p, w := range want {
		if got := describe(tree, p); got != w {
			t.Errorf("%s: %s, want %s", p, got, w)
		}
	}
}

func TestLinkChain(t *testing.T) {
	root := gnuRoot(t)
	write(t, root, "usr/bin/mawk", prog("libm.so.6").bytes())
	write(t, root, "usr/lib/x86_64-linux-gnu/libm-2.36.so", fakeELF{soname: "libm.so.6"}.bytes())
	link(t, root, "usr/lib/x86_64-linux-gnu/libm.so.6", "libm-2.36.so")
	link(t, root, "etc/alternatives/awk", "/usr/bin/mawk")
	link(t, root, "usr/bin/awk", "/etc/alternatives/awk")
	link(t, root, "usr/bin/nawk", "/etc/alternatives/awk")
	p := newPacker(t, root)
	if err := p.Program("awk", "test"); err != nil {
		t.Fatal(err)
	}
	if err := p.Aliases(); err != nil {
		t.Fatal(err)
	}
	expect(t, p.Tree, map[string]string{
		"bin": "-> usr/bin", "lib64": "-> usr/lib64", "usr/bin/awk": "-> /etc/alternatives/awk", "etc/alternatives/awk": "-> /usr/bin/mawk",
		"usr/bin/mawk": "file", "usr/bin/nawk": "-> /etc/alternatives/awk",
		"usr/lib64/ld-linux-x86-64.so.2":                "-> /lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
		"usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": "file", "usr/lib/x86_64-linux-gnu/libc.so.6": "file",
		"usr/lib/x86_64-linux-gnu/libm.so.6": "-> libm-2.36.so", "usr/lib/x86_64-linux-gnu/libm-2.36.so": "file",
	})
	if e := p.Tree.Resolve("/bin/awk"); e == nil || e.Path != "usr/bin/mawk" {
		t.Errorf("awk leads to %+v", e)
	}
}

// TestUnmergedHost packs a host that still has /bin and /lib as folders: the
// image is merged all the same, and no link turns in a circle.
func TestUnmergedHost(t *testing.T) {
	root := t.TempDir()
	write(t, root, "lib/x86_64-linux-gnu/ld-2.28.so", fakeELF{soname: "ld-linux-x86-64.so.2"}.bytes())
	link(t, root, "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "ld-2.28.so")
	link(t, root, "lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
	write(t, root, "lib/x86_64-linux-gnu/libc.so.6", fakeELF{soname: "libc.so.6"}.bytes())
	write(t, root, "bin/touch", prog().bytes())
	link(t, root, "usr/bin/touch", "/bin/touch")
	write(t, root, "usr/bin/real", prog().bytes())
	link(t, root, "bin/short", "../usr/bin/real")
	p := newPacker(t, root)
	for _, n := range []string{"touch", "/bin/short"} {
		if err := p.Program(n, "test"); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, p.Tree, map[string]string{"bin": "-> usr/bin", "lib": "-> usr/lib", "lib64": "-> usr/lib64", "usr/bin/touch": "file", "usr/bin/real": "file", "usr/bin/short": "-> /usr/bin/real"})
	for _, name := range []string{"/bin/touch", "/usr/bin/touch", "/bin/short", gnuInterp} {
		if e := p.Tree.Resolve(name); e == nil || !e.Mode.IsRegular() {
			t.Errorf("%s leads nowhere", name)
		}
	}
}

func TestScripts(t *testing.T) {
	root := gnuRoot(t)
	write(t, root, "usr/bin/dash", prog().bytes())
	link(t, root, "usr/bin/sh", "dash")
	write(t, root, "usr/bin/env", prog().bytes())
	write(t, root, "usr/bin/bash", prog().bytes())
	write(t, root, "usr/bin/perl", prog().bytes())
	write(t, root, "usr/sbin/one", []byte("#! /bin/sh -e\nexit\n"))
	write(t, root, "usr/sbin/two", []byte("#!/usr/bin/env -S A=1 bash -x\nexit\n"))
	write(t, root, "usr/sbin/three", []byte("#!/usr/bin/perl\n"))
	write(t, root, "usr/sbin/four", []byte("#!/no/such\n"))
	p := newPacker(t, root)
	for _, n := range []string{"one", "two", "three"} {
		if err := p.Program(n, n); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, p.Tree, map[string]string{"usr/bin/sh": "-> dash", "usr/bin/dash": "file", "usr/bin/env": "file", "usr/bin/bash": "file", "usr/bin/perl": "file"})
	if len(p.Problems) != 1 || !strings.Contains(p.Problems[0].Text, "perl script") {
		t.Errorf("problems: %v", p.Problems)
	}
	if err := p.Program("four", "four"); err == nil || !strings.Contains(err.Error(), "/no/such") {
		t.Errorf("a script whose interpreter is missing: %v", err)
	}
}

func FuzzShebang(f *testing.F) {
	f.Add([]byte("#!/usr/bin/env -S bash\n"))
	f.Add([]byte("#! /bin/sh"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if i, _ := parseShebang(b); i != "" && !strings.HasPrefix(i, "/") {
			t.Errorf("%q: interpreter %q", b, i)
		}
	})
}

// TestLibraryOfLdConf: the image has no ld.so.cache, so what only ld.so.conf
// leads to must also lie where the loader looks by itself.
func TestLibraryOfLdConf(t *testing.T) {
	root := gnuRoot(t)
	write(t, root, "etc/ld.so.conf", []byte("/opt/vendor\n"))
	write(t, root, "opt/vendor/libv.so.1.2", fakeELF{soname: "libv.so.1"}.bytes())
	link(t, root, "opt/vendor/libv.so.1", "libv.so.1.2")
	write(t, root, "usr/bin/client", prog("libv.so.1").bytes())
	p := newPacker(t, root)
	if err := p.Program("client", "test"); err != nil {
		t.Fatal(err)
	}
	expect(t, p.Tree, map[string]string{"opt/vendor/libv.so.1": "-> libv.so.1.2", "opt/vendor/libv.so.1.2": "file", "usr/lib/x86_64-linux-gnu/libv.so.1": "-> /opt/vendor/libv.so.1"})
}

func TestBrokenTools(t *testing.T) {
	root := gnuRoot(t)
	write(t, root, "usr/bin/bash", prog().bytes())
	write(t, root, "usr/sbin/smartctl", prog("libgone.so.9").bytes())
	write(t, root, "usr/sbin/mkfs.xfs", prog("libgone.so.9").bytes())
	p := newPacker(t, root)
	if err := p.AddTools(ToolWish{}); err != nil {
		t.Fatal(err)
	}
	expect(t, p.Tree, map[string]string{"usr/bin/bash": "file", "usr/sbin/smartctl": "absent"})
	if len(p.Problems) != 2 || !strings.Contains(p.Problems[0].Text, "libgone.so.9") {
		t.Errorf("optional tools that are broken: %v", p.Problems)
	}
	err := newPacker(t, root).AddTools(ToolWish{Needs: []plan.ToolNeed{{Name: "mkfs.xfs", Step: "mkfs/fs:1"}, {Name: "lvm", Step: "vg/vg:1"}}})
	if err == nil || report.ProblemOf(err).Code != report.CodeToolMissing {
		t.Fatalf("needed tools that are broken or missing: %v", err)
	}
	for _, want := range []string{"mkfs.xfs", "libgone.so.9", "lvm", "vg/vg:1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
	if err := newPacker(t, root).Program("nothing", "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a program that is not there: %v", err)
	}
}

// TestNewerBackup: an image of a host with nothing but one filesystem holds
// the tools and modules for whatever a backup made later may bring, as far as
// the host has them.
func TestNewerBackup(t *testing.T) {
	root := gnuRoot(t)
	tools, modules := plan.MayNeed()
	want := map[string]string{}
	for _, n := range tools {
		write(t, root, "usr/sbin/"+n, prog().bytes())
		want["usr/sbin/"+n] = "file"
	}
	p := newPacker(t, root)
	if err := p.AddTools(ToolWish{Needs: []plan.ToolNeed{{Name: "mke2fs", Step: "mkfs/fs:1"}}}); err != nil {
		t.Fatal(err)
	}
	if len(want) < 10 || len(p.Problems) > 0 {
		t.Errorf("%d tools, problems %v", len(want), p.Problems)
	}
	expect(t, p.Tree, want)
	for _, m := range modules {
		if !slices.Contains(baseModules, m) {
			t.Errorf("the module %s, which plans may need, is not in every image", m)
		}
	}
}

// TestOpened: what is opened at run time comes along, by the table and by the
// notes that programs carry.
func TestOpened(t *testing.T) {
	root := gnuRoot(t)
	lib := "usr/lib/x86_64-linux-gnu/"
	desc := `[{"feature":"zip","priority":"recommended","soname":["libzip.so.9","libzip.so.1"]},{"feature":"gui","priority":"suggested","soname":["libgui.so.1"]}]`
	note := binary.LittleEndian.AppendUint32(nil, 4)
	note = binary.LittleEndian.AppendUint32(note, uint32(len(desc)))
	note = append(binary.LittleEndian.AppendUint32(note, noteDlopen), "FDO\x00"+desc...)
	tool := prog("libtinfo.so.6")
	tool.note = note
	write(t, root, "usr/sbin/cryptsetup", tool.bytes())
	write(t, root, lib+"libtinfo.so.6", fakeELF{soname: "libtinfo.so.6"}.bytes())
	write(t, root, lib+"libgcc_s.so.1", fakeELF{soname: "libgcc_s.so.1"}.bytes())
	write(t, root, lib+"libzip.so.1", fakeELF{soname: "libzip.so.1", needed: []string{"libdeep.so.1"}}.bytes())
	write(t, root, lib+"libdeep.so.1", fakeELF{soname: "libdeep.so.1"}.bytes())
	write(t, root, lib+"libgui.so.1", fakeELF{soname: "libgui.so.1"}.bytes())
	write(t, root, "usr/share/terminfo/l/linux", []byte("T"))
	link(t, root, "usr/lib/terminfo/l/linux", "/usr/share/terminfo/l/linux")
	write(t, root, lib+"gconv/UTF-16.so", fakeELF{soname: "UTF-16.so"}.bytes())
	p := newPacker(t, root)
	if err := p.AddTools(ToolWish{}); err != nil {
		t.Fatal(err)
	}
	expect(t, p.Tree, map[string]string{lib + "libgcc_s.so.1": "file", lib + "libzip.so.1": "file", lib + "libdeep.so.1": "file", lib + "libgui.so.1": "absent",
		"usr/share/terminfo/l/linux": "file", "usr/lib/terminfo/l/linux": "-> /usr/share/terminfo/l/linux", lib + "gconv/UTF-16.so": "file"})
}

func TestCopyAndSecrets(t *testing.T) {
	root := gnuRoot(t)
	pem := []byte("-----BEGIN RSA PRIVATE KEY-----\nMII\n")
	for p, b := range map[string][]byte{
		"etc/ssh/ssh_host_rsa_key": pem, "etc/ssh/ssh_host_rsa_key.pub": []byte("ssh-rsa AAAA"), "etc/ssh/sshd_config": []byte("Port 22\n"),
		"etc/app/app.conf": []byte("name = x\n"), "etc/app/db.conf": []byte("user=x\npassword = hunter2\n"), "etc/app/odd.txt": pem, "etc/keys/root.bin": []byte("k"),
		"etc/crypttab": []byte("# comment\ncrypt UUID=1 /etc/keys/root.bin luks\nswap /dev/x /dev/urandom\n"), "etc/shadow": []byte("root:$6$:1\n"),
		"opt/client/bin/dsmc": prog().bytes(),
	} {
		write(t, root, p, b)
	}
	link(t, root, "etc/app/current", "app.conf")
	p := newPacker(t, root)
	if err := p.Copy([]string{"/etc/ssh", "/etc/app", "/etc/keys", "/opt/client", "/etc/crypttab"}); err != nil {
		t.Fatal(err)
	}
	expect(t, p.Tree, map[string]string{
		"etc/ssh/ssh_host_rsa_key": "absent", "etc/ssh/ssh_host_rsa_key.pub": "file", "etc/ssh/sshd_config": "file", "etc/app/db.conf": "absent", "etc/app/odd.txt": "absent",
		"etc/app/app.conf": "file", "etc/app/current": "-> app.conf", "etc/keys/root.bin": "absent", "etc/shadow": "absent",
		"opt/client/bin/dsmc": "file", "usr/lib/x86_64-linux-gnu/libc.so.6": "file",
	})
	if len(p.Problems) != 4 {
		t.Errorf("four secrets were left out, said: %v", p.Problems)
	}
	if s, err := p.Tree.Secrets(); err != nil || len(s) != 0 {
		t.Errorf("secrets in the tree: %v, %v", s, err)
	}
	named := newPacker(t, root)
	if err := named.Copy([]string{"/etc/ssh/ssh_host_*_key", "/etc/app/odd.txt"}); err != nil {
		t.Fatal(err)
	}
	s, err := named.Tree.Secrets()
	if err != nil || len(s) != 2 || s[0].Path != "/etc/app/odd.txt" || s[1].Path != "/etc/ssh/ssh_host_rsa_key" {
		t.Errorf("secrets named by the user: %v, %v", s, err)
	}
	if m := named.Tree.Get("etc/ssh/ssh_host_rsa_key").Mode; m.Perm()&0o077 != 0 {
		t.Errorf("a packed secret has mode %v", m)
	}
	for _, bad := range []string{"etc/app", "/no/such", "/etc/nothing*"} {
		if err := newPacker(t, root).Copy([]string{bad}); report.ExitOf(err) != report.ExitUsage {
			t.Errorf("copy %s: %v", bad, err)
		}
	}
}

func TestDanglingLinkIsNamed(t *testing.T) {
	root := gnuRoot(t)
	link(t, root, "usr/bin/tool", "/etc/alternatives/tool")
	link(t, root, "etc/alternatives/tool", "/opt/gone/tool")
	_, _, err := NewHost(root).Follow("/usr/bin/tool")
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/opt/gone/tool") {
		t.Errorf("got %v", err)
	}
	link(t, root, "usr/bin/a", "b")
	link(t, root, "usr/bin/b", "a")
	if _, _, err = NewHost(root).Follow("/usr/bin/a"); err == nil || !strings.Contains(err.Error(), "too many links") {
		t.Errorf("a circle: %v", err)
	}
}

func TestEtc(t *testing.T) {
	root := gnuRoot(t)
	write(t, root, "etc/lvm/lvm.conf", []byte("devices { filter = [ \"r|.*|\" ] }\n"))
	write(t, root, "etc/passwd", []byte("user:x:1000:\n"))
	p := newPacker(t, root)
	if err := p.AddEtc("alpha"); err != nil {
		t.Fatal(err)
	}
	if got := content(t, p.Tree, "etc/lvm/lvm.conf"); got != lvmConf {
		t.Errorf("LVM configuration of the host came along: %q", got)
	}
	if e := p.Tree.Get("dev/console"); e == nil || e.Major != 5 || e.Minor != 1 {
		t.Errorf("console: %+v", e)
	}
	if got := content(t, p.Tree, "etc/passwd"); strings.Contains(got, "user") {
		t.Errorf("accounts of the host came along: %q", got)
	}
	if _, err := os.Stat(filepath.Join(root, "dev")); err == nil {
		t.Error("packing wrote to the host")
	}
}

// TestReservedNames: the kernel calls modprobe by name, and reboot must reach
// our PID 1. The host's kmod and systemctl never stand in their place.
func TestReservedNames(t *testing.T) {
	root := gnuRoot(t)
	write(t, root, "usr/bin/kmod", prog().bytes())
	for _, n := range []string{"modprobe", "lsmod", "reboot"} {
		link(t, root, "usr/sbin/"+n, "../bin/kmod")
	}
	p := newPacker(t, root)
	if err := p.AddTools(ToolWish{Programs: []string{"kmod"}}); err != nil {
		t.Fatal(err)
	}
	expect(t, p.Tree, map[string]string{"usr/bin/kmod": "file", "usr/sbin/lsmod": "-> ../bin/kmod", "usr/sbin/modprobe": "absent", "usr/sbin/reboot": "absent"})
	if err := newPacker(t, root).AddTools(ToolWish{Programs: []string{"modprobe"}}); report.ExitOf(err) != report.ExitUsage {
		t.Errorf("modprobe named by the user: %v", err)
	}
}

func TestParseList(t *testing.T) {
	out := "\tlinux-vdso.so.1 (0x00007ffe)\n\tliba.so.1 => /lib/x/liba.so.1 (0x00007f)\n\tlibb.so.2 => not found\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n" +
		"/bin/p: /lib/x/libc.so.6: version `GLIBC_2.99' not found (required by /bin/p)\n/bin/q: error while loading shared libraries: libc9.so: cannot open shared object file: No such file or directory\n"
	found, missing := parseList(out)
	if !slices.Equal(found, []string{"/lib/x/liba.so.1", "/lib64/ld-linux-x86-64.so.2"}) {
		t.Errorf("found %q", found)
	}
	if len(missing) != 3 || missing[1] != "libb.so.2" || missing[2] != "libc9.so" || !strings.Contains(missing[0], "GLIBC_2.99") {
		t.Errorf("missing %q", missing)
	}
}
