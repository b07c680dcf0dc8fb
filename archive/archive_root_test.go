//go:build root

package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// sh runs a script with the given arguments and returns what it printed.
func sh(t testing.TB, script string, args ...string) string {
	t.Helper()
	cmd := exec.Command("sh", append([]string{"-euc", script, "sh"}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", script, args, err, stderr.String())
	}
	return string(out)
}

// disk makes a filesystem in a sparse file and mounts it.
func disk(t testing.TB, size, mkfs string) string {
	t.Helper()
	dir := t.TempDir()
	sh(t, `truncate -s "$1" "$2/image"; `+mkfs+` "$2/image" >/dev/null 2>&1; mkdir "$2/mnt"; mount -o loop "$2/image" "$2/mnt"; rm -rf "$2/mnt/lost+found"`, size, dir)
	t.Cleanup(func() { sh(t, `umount -R "$1/mnt"; rm -f "$1/image"`, dir) })
	return dir + "/mnt"
}

const ext4 = "mkfs.ext4 -q -F"

// rootTree adds what only root can make to everyKind.
func rootTree(t testing.TB, dir string) {
	t.Helper()
	everyKind(t, dir)
	sh(t, `cd "$1"
mknod null c 1 3; mknod disk b 8 17; mknod high c 511 262143; chmod 0620 null; chown 5:6 disk
for f in caps acl-setuid owned big-id nolink xattrs selinux append immutable nodump; do echo "$f" >"$f"; done
chown 123:456 owned acl-setuid caps
chown 4294967294:4294967293 big-id
chown -h 77:88 lib
chmod 4755 acl-setuid; setfacl -m u:1000:rx,g:4000000000:r,m::rx acl-setuid
mkdir shared; chown 0:456 shared; chmod 2775 shared; setfacl -d -m u:1000:rwx,g::rx,o::- shared; setfacl -m u:1001:rx shared
echo inside >shared/inherits; mkdir shared/sub; setfacl -b shared/sub; setfacl -k shared/sub
setcap cap_net_raw,cap_sys_admin+ep caps
setfattr -n user.plain -v value xattrs; setfattr -n user.empty xattrs; setfattr -n 'user.odd=name%3D' -v '=x%' xattrs
setfattr -n trusted.secret -v 0x00ff0a3d00 xattrs; setfattr -n user.large -v "$(head -c 2000 /dev/zero | tr '\0' x)" xattrs
setfattr -n trusted.dir -v d shared; setfattr -h -n trusted.link -v l lib; setfattr -h -n trusted.fifo -v f fifo; setfattr -n user.big -v b big
for f in selinux shared; do setfattr -n security.selinux -v 0x73797374656d5f753a6f626a6563745f723a6574635f743a733000 "$f"; done
setfattr -h -n security.selinux -v 0x73797374656d5f753a6f626a6563745f723a6574635f743a733000 lib
setfattr -h -n security.selinux -v 0x73797374656d5f753a6f626a6563745f723a6574635f743a733000 null
mkdir frozen; echo cold >frozen/file; ln immutable hard-to-immutable
`, dir)
	sparse(t, dir+"/lastlog", 1100<<30, map[int64][]byte{0: noise(292), 500 << 30: noise(70_000), 1100<<30 - 100: noise(100)})
	must(t, os.Link(dir+"/lastlog", dir+"/lastlog-link"))
	pieces := map[int64][]byte{}
	for i := range int64(3000) {
		pieces[i*16384] = noise(4096)
	}
	sparse(t, dir+"/pieces", 3000*16384+9, pieces)
	times(t, dir)
	// The flags change no times but make the rest impossible, so they come last.
	sh(t, `cd "$1"; chattr +d nodump; chattr +A owned; chattr +a append; chattr +i immutable big sparse-big frozen shared`, dir)
}

// portrait describes a tree by foreign tools, one line for each fact.
func portrait(t testing.TB, dir string, flags bool) string {
	t.Helper()
	script := `cd "$1"
find . -printf '%p type %y mode %m owner %U:%G time %T@ links %n target %l\n'
find . ! -type d -printf '%p size %s\n'
find . \( -type c -o -type b \) -exec stat -c '%n device %t:%T' {} +
find . -exec getfattr -h -d -m - -e hex -- {} + 2>/dev/null | awk '/^# file/{f=$0} /=/{print f, $0}'
find . ! -type l -exec getfacl -n -- {} + 2>/dev/null | awk '/^# file/{f=$0} !/^#/ && NF{print f, $0}'`
	if flags {
		script += `
find . \( -type f -o -type d \) -exec lsattr -d -- {} + | sed 's/[eI]/-/1;s/[eI]/-/1'`
	}
	lines := strings.Split(sh(t, script+` `, dir), "\n")
	return strings.Join(lines, "\n")
}

func samePortrait(t testing.TB, what, want, got string) {
	t.Helper()
	count := map[string]int{}
	for line := range strings.SplitSeq(want, "\n") {
		count[line]++
	}
	for line := range strings.SplitSeq(got, "\n") {
		count[line]--
	}
	shown := 0
	for line, n := range count {
		if n != 0 && shown < 12 {
			shown++
			where := "only packed:"
			if n < 0 {
				where = "only restored:"
			}
			t.Errorf("%s: %s %s", what, where, line)
		}
	}
}

// sameContent compares without reading terabytes of holes: by the pieces with data.
func sameContent(t testing.TB, a, b string) {
	t.Helper()
	sh(t, `cd "$1"; find . -type f ! -name 'lastlog*' -print0 | sort -z | xargs -0 sha256sum >/tmp/sums.$$; cd "$2"; sha256sum --quiet -c /tmp/sums.$$; rm /tmp/sums.$$`, a, b)
	for _, at := range []int64{0, 500 << 30, 1100<<30 - 100} {
		for _, d := range []string{"/lastlog", "/lastlog-link"} {
			x, y := make([]byte, 80_000), make([]byte, 80_000)
			for dir, buf := range map[string][]byte{a: x, b: y} {
				f, err := os.Open(dir + d)
				must(t, err)
				f.ReadAt(buf, at)
				f.Close()
			}
			if !bytes.Equal(x, y) || bytes.Equal(x, make([]byte, len(x))) {
				t.Errorf("%s at %d differs", d, at)
			}
		}
	}
}

// sameHoles compares what the files take on the disk. Less is fine: XFS gives a file
// that grows more than it asked for.
func sameHoles(t testing.TB, a, b string) {
	t.Helper()
	for _, f := range []string{"lastlog", "pieces", "sparse", "sparse-big", "all-hole"} {
		var x, y int64
		fmt.Sscan(sh(t, `du --block-size=1 "$1"`, a+"/"+f), &x)
		fmt.Sscan(sh(t, `du --block-size=1 "$1"`, b+"/"+f), &y)
		if x == 0 && f != "all-hole" || y > x+128<<10 {
			t.Errorf("%s takes %d bytes where it took %d", f, y, x)
		}
	}
}

// TestRootTree is the whole promise: everything that root can make comes back, by our
// own restore and by GNU tar.
func TestRootTree(t *testing.T) {
	for fs, mkfs := range map[string]string{"ext4": ext4, "xfs": "mkfs.xfs -q -f"} {
		t.Run(fs, func(t *testing.T) {
			src := disk(t, "3G", mkfs)
			rootTree(t, src)
			path := filepath.Join(t.TempDir(), "x.lba")
			out, err := os.Create(path)
			must(t, err)
			sum, err := Create(context.Background(), out, Options{}, []Source{{Path: "/", At: src}})
			must(t, err)
			must(t, out.Close())
			if sum.Problems.Count() != 0 {
				t.Errorf("problems: %v", sum.Problems.First())
			}
			b, err := os.ReadFile(path)
			must(t, err)

			ours := disk(t, "3G", mkfs)
			res, err := open(t, b).Restore(context.Background(), ours, RestoreOptions{})
			must(t, err)
			if res.Problems.Count() != 0 {
				t.Errorf("problems: %v", res.Problems.First())
			}
			samePortrait(t, "restored by us", portrait(t, src, true), portrait(t, ours, true))
			sameContent(t, src, ours)
			sameHoles(t, src, ours)

			tars := disk(t, "3G", mkfs)
			said := sh(t, `cd "$2"; zstd -dc "$1" | tar -xp --numeric-owner --acls --selinux --xattrs --xattrs-include='*' 2>&1`, path, tars)
			for line := range strings.Lines(said) {
				if !strings.Contains(line, "LIFEBOAT.flags") && !strings.Contains(line, "hdrcharset") && !strings.Contains(line, "implausibly old") && !strings.HasPrefix(line, "\t") {
					t.Errorf("GNU tar says: %s", line)
				}
			}
			samePortrait(t, "restored by GNU tar", portrait(t, src, false), portrait(t, tars, false))
			sameContent(t, src, tars)
			if fs == "ext4" {
				sameHoles(t, src, tars)
			}
		})
	}
}

func TestResumeOverImmutable(t *testing.T) {
	src, to := disk(t, "2G", ext4), disk(t, "2G", ext4)
	rootTree(t, src)
	b := pack(t, src)
	a := open(t, b)
	stop := errors.New("power cut")
	var from Checkpoint
	for round := 0; ; round++ {
		calls := 0
		res, err := a.Restore(context.Background(), to, RestoreOptions{From: from, CheckpointBytes: 1, Checkpoint: func(c Checkpoint) error {
			if calls++; calls == 4 {
				return stop
			}
			from = c
			return nil
		}})
		if err == nil {
			if res.Problems.Count() != 0 {
				t.Errorf("problems: %v", res.Problems.First())
			}
			break
		}
		if !errors.Is(err, stop) || round > 100 {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	samePortrait(t, "resumed", portrait(t, src, true), portrait(t, to, true))
	sameContent(t, src, to)
	sameHoles(t, src, to)
}

func TestBtrfs(t *testing.T) {
	src, to := disk(t, "1G", "mkfs.btrfs -q -f"), disk(t, "1G", "mkfs.btrfs -q -f")
	sh(t, `cd "$1"; mkdir db; chattr +C db; head -c 9000000 /dev/urandom >db/table; mkdir plain; touch plain/nocow; chattr +C plain/nocow; echo x >plain/nocow; echo y >plain/cow
btrfs property set plain compression zstd; btrfs subvolume create sub >/dev/null; echo z >sub/file; chattr +i plain/cow`, src)
	b, sum := packAll(t, Options{}, Source{Path: "/", At: src})
	if p := sum.Problems.First(); len(p) != 1 || p[0].Path != "/sub" || !strings.Contains(p[0].What, "subvolume") {
		t.Errorf("problems: %v", p)
	}
	res, err := open(t, b).Restore(context.Background(), to, RestoreOptions{})
	must(t, err)
	if res.Problems.Count() != 0 {
		t.Errorf("problems: %v", res.Problems.First())
	}
	list := `cd "$1"; lsattr -R db plain | sort; btrfs property get plain compression; sha256sum db/table plain/cow plain/nocow; ls sub`
	if x, y := sh(t, list, src), sh(t, list, to); strings.Replace(x, "file\n", "", 1) != y {
		t.Errorf("packed:\n%s\nrestored:\n%s", x, y)
	}
}

func TestMountsAreNotCrossed(t *testing.T) {
	src := disk(t, "64M", ext4)
	sh(t, `cd "$1"; mkdir a b c d "with blank"; echo 1 >a/in-a; echo 2 >b/covered; echo 3 >c/covered; echo 4 >d/covered; echo over >over; echo under >under
chmod 0711 c; mount -t tmpfs -o mode=0750 none c; echo x >c/in-tmpfs; mount --bind a b; mount --bind over under; mount -t tmpfs none "with blank"; echo y >"with blank/y"
mkdir ../view; mount --bind . ../view`, src)
	t.Cleanup(func() { sh(t, `umount "$1/../view"`, src) })
	b, _ := packAll(t, Options{}, Source{Path: "/", At: src})
	to := restore(t, open(t, b), RestoreOptions{})
	want := "./ ./a/ ./a/in-a ./b/ ./c/ ./d/ ./d/covered ./over ./under ./with blank/"
	if got := strings.Join(paths(t, to), " "); got != want {
		t.Errorf("restored: %s\nwanted:   %s", got, want)
	}
	// A private bind shows what the mounts cover; the directories below are as they are.
	view := filepath.Dir(src) + "/view"
	b, sum := packAll(t, Options{}, Source{Path: "/srv", At: view, Points: []string{"/srv/c", "/srv/b", "/srv/with blank", "/srv/under"}})
	to = restore(t, open(t, b), RestoreOptions{})
	want = "./ ./srv/ ./srv/a/ ./srv/a/in-a ./srv/b/ ./srv/c/ ./srv/d/ ./srv/d/covered ./srv/over ./srv/under ./srv/with blank/"
	if got := strings.Join(paths(t, to), " "); got != want {
		t.Errorf("restored: %s\nwanted:   %s", got, want)
	}
	if got := sh(t, `stat -c %a "$1/srv/c"; cat "$1/srv/under"`, to); got != "711\nunder\n" {
		t.Errorf("mount points: %s", got)
	}
	if sum.Problems.Count() != 0 {
		t.Errorf("problems: %v", sum.Problems.First())
	}
}

func TestFullFilesystemIsNamed(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/boot/image", noise(6<<20))
	for i := range 100 {
		write(t, fmt.Sprintf("%s/many/%d", src, i), []byte("x"))
	}
	a := open(t, pack(t, src))
	for mount, mkfs := range map[string]string{"boot": ext4 + " -O ^has_journal -m 0", "many": ext4 + " -O ^has_journal -N 32"} {
		target := t.TempDir()
		small := disk(t, "2M", mkfs)
		sh(t, `mkdir "$1"; mount --bind "$2" "$1"`, target+"/"+mount, small)
		t.Cleanup(func() { sh(t, `umount "$1"`, target+"/"+mount) })
		_, err := a.Restore(context.Background(), target, RestoreOptions{})
		var te *TargetError
		if !errors.As(err, &te) || !errors.Is(err, unix.ENOSPC) || te.Mount != target+"/"+mount {
			t.Errorf("%s: %v", mount, err)
			continue
		}
		if te.Free > 1<<19 && te.Spare > 5 {
			t.Errorf("%s: neither space nor inodes are short: %v", mount, err)
		}
		t.Log(err)
	}
}

// TestOwnersInAForeignPlace restores into directories that hand down a group and an ACL.
func TestOwnersInAForeignPlace(t *testing.T) {
	src, to := t.TempDir(), disk(t, "64M", ext4)
	write(t, src+"/d/f", []byte("x"))
	must(t, os.Symlink("f", src+"/d/l"))
	must(t, unix.Mkfifo(src+"/d/p", 0644))
	times(t, src)
	sh(t, `cd "$1"; mkdir d; chown 5:6 d; chmod 2775 d; setfacl -d -m u:99:rwx d; setfacl -m u:98:rwx d`, to)
	res, err := open(t, pack(t, src)).Restore(context.Background(), to, RestoreOptions{})
	must(t, err)
	if res.Problems.Count() != 0 {
		t.Errorf("problems: %v", res.Problems.First())
	}
	samePortrait(t, "restored", portrait(t, src, false), portrait(t, to, false))
}
