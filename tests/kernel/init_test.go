//go:build kernel

package kernel

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"lifeboat/drill/qemu"
	"lifeboat/internal/cpio"
)

// prompt is what bash shows root in a bare system.
const prompt = `bash-[0-9.]+# $`

// typeLine writes a line to a terminal and waits for a pattern in the answer.
func (m *Machine) typeLine(s *qemu.Stream, line, answer string) []string {
	m.t.Helper()
	mark := s.Mark()
	if _, err := s.Write([]byte(line)); err != nil {
		m.t.Fatal(err)
	}
	g, _ := m.expect(s, mark, answer)
	return g
}

// A console on every terminal that the kernel has, none on the one that the
// machine lacks; a shell with job control that comes back when it is left.
func TestConsoles(t *testing.T) {
	m := boot(t, setup{name: "consoles", noConsole: true,
		append: "console=ttyS3 console=ttyS1,115200 console=tty0 console=ttyS0 loglevel=4",
		ports:  []qemu.Port{{Name: "second", Serial: true}}})
	m.Hello()
	for name, s := range map[string]*qemu.Stream{"ttyS0": m.Console(), "ttyS1": m.Port("second")} {
		m.expect(s, 0, `Lifeboat rescue system.*kernel [0-9]`)
		m.expect(s, 0, prompt)
		if strings.Contains(s.Text(), "no job control") {
			t.Errorf("%s: the shell has no job control", name)
		}
		m.typeLine(s, "tty; echo $LIFEBOAT_CONSOLE $TERM $-\n", `/dev/`+name+`\n`+name+` vt220 \S*m\S*\n`+prompt)
		m.typeLine(s, "sleep 1000\n", `sleep 1000\n`)
		m.Sh("until ps -e -o args= | grep -qx 'sleep 1000'; do sleep 0.1; done")
		m.typeLine(s, "\x1a", `Stopped.*\n`+prompt)
		m.typeLine(s, "fg\n", `fg\nsleep 1000\n`)
		m.typeLine(s, "\x03", `\n`+prompt)
		for range 2 {
			pid := m.typeLine(s, "echo pid=$$\n", `pid=(\d+)\n`+prompt)[1]
			m.typeLine(s, "exit\n", `exit\n`+prompt)
			if next := m.typeLine(s, "echo pid=$$\n", `pid=(\d+)\n`+prompt)[1]; next == pid {
				t.Errorf("%s: the same shell, pid %s", name, pid)
			}
		}
	}
	// The screen is a console too, and the keyboard reaches it.
	m.Sh("until grep -q 'bash-.*#' /dev/vcs1; do sleep 0.1; done")
	if err := m.Type(m.ctx(), "echo $LIFEBOAT_CONSOLE $TERM > /tmp/screen\n"); err != nil {
		t.Fatal(err)
	}
	if out := m.Sh("until [ -s /tmp/screen ]; do sleep 0.1; done; cat /tmp/screen"); out != "tty1 linux\n" {
		t.Errorf("on the screen: %q", out)
	}
	if out := m.Sh("ps -e -o tty=,comm= | grep bash"); strings.Contains(out, "ttyS3") {
		t.Errorf("a session on a terminal that is not there:\n%s", out)
	}
	// Everything that is to be there when a person looks around.
	out := m.Sh(`ulimit -n; hostname; readlink /dev/fd /etc/mtab; cat /proc/sys/kernel/modprobe; stat -c '%a %n' /run/lifeboat /tmp /var/tmp
		for d in /dev/pts /dev/shm /run /tmp /var/tmp; do mountpoint -q $d || echo $d is not mounted; done; ls -d /run/lock /run/lvm /root`)
	want := "65536\nlifeboat\n/proc/self/fd\n/proc/self/mounts\n/usr/sbin/modprobe\n700 /run/lifeboat\n1777 /tmp\n1777 /var/tmp\n/root\n/run/lock\n/run/lvm\n"
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}

// What kills other programs must not reach PID 1, and whoever dies is
// collected or started again.
func TestPID1Survives(t *testing.T) {
	m := boot(t, setup{name: "survives", append: "guest.worker=panic"})
	// Its first start ended in a panic: the log has it, and it came again.
	if n := m.Hello(); n != 2 {
		t.Errorf("start %d of the worker, want 2", n)
	}
	if out := m.Sh("cat /run/lifeboat/worker.log"); !strings.Contains(out, "assignment to entry in nil map") {
		t.Errorf("the panic is not in the log:\n%s", out)
	}
	m.Sh("kill -HUP 1; kill -PIPE 1; kill -QUIT 1; kill -ALRM 1; kill -SEGV 1; kill -KILL 1; kill -CHLD 1; kill -WINCH 1; kill -ABRT 1; kill -BUS 1; kill -SYS 1")

	// 5000 orphans, and children of our own whose statuses must be theirs.
	out := m.Sh(`for i in $(seq 5000); do (sleep 0.2 & ) ; done
		for i in $(seq 20); do (exit $i) && r=0 || r=$?; [ $r = $i ] || echo "status $r instead of $i"; done
		until [ "$(ps -e -o comm= | grep -c '^sleep')" = 0 ]; do sleep 0.1; done
		ps -e -o stat=,comm= | grep ^Z || echo no zombies`)
	if out != "no zombies\n" {
		t.Errorf("after the storm: %s", out)
	}
	mark := m.Port(portName).Mark()
	m.mark = mark
	m.start(nil, "bash", "-c", "kill -9 $PPID")
	if n := m.Hello(); n != 3 {
		t.Errorf("start %d of the worker after kill -9, want 3", n)
	}
	if out := m.Sh("cat /run/lifeboat/init.log; dmesg | grep lifeboat-init"); strings.Count(out, "worker ended: killed by signal 9") != 2 {
		t.Errorf("the logs do not tell:\n%s", out)
	}
}

// A console program that fails leaves a plain shell, and says so.
func TestConsoleProgramFails(t *testing.T) {
	m := boot(t, setup{name: "plain-shell", append: "guest.console=fail"})
	m.expect(m.Console(), 0, `plain shell.*\n(.*\n)*`+prompt)
	m.typeLine(m.Console(), "exit\n", `plain shell`)
	m.typeLine(m.Console(), "\n", prompt)
	m.typeLine(m.Console(), "exit\n", `plain shell`)
}

// Without modules, tools or a worker that starts, there is still a shell; this
// is also the smallest system: init and the u-root commands.
func TestBareBase(t *testing.T) {
	broken := makePart(t, func(w *cpio.Writer) error { return w.File("usr/bin/lifeboat", 0o755, []byte("not a program")) })
	m := boot(t, setup{name: "bare", segments: [][]byte{broken}, memory: 256 << 20})
	m.expect(m.Console(), 0, `plain shell.*\n(.*\n)*\$ $`)
	m.typeLine(m.Console(), "sh -c 'ls /usr/sbin'; uname -s; mount -t ext4 /dev/none /mnt\n", `halt\nmodprobe\npoweroff\nreboot\nshutdown\nLinux\n`)
	m.typeLine(m.Console(), "cat /run/lifeboat/init.log\n", `worker ended: starting /usr/bin/lifeboat: exec format error`)
	m.typeLine(m.Console(), "poweroff\n", `Powering off`)
	if err := m.Wait(m.ctx()); err != nil {
		t.Error(err)
	}
}

// The kernel asks for modules by alias and gets them with all they need.
func TestModprobe(t *testing.T) {
	m := boot(t, setup{name: "modprobe", disks: 3, append: "raid456.devices_handle_discard_safely=Y modprobe.blacklist=btrfs"})
	m.Hello()
	before := m.Sh("cat /proc/modules")
	for _, n := range []string{"ext4 ", "vfat ", "xfs ", "dm_mod "} {
		if strings.Contains("\n"+before, "\n"+n) {
			t.Fatalf("%sis loaded before anything asked for it:\n%s", n, before)
		}
	}
	// Serials tell the disks, whatever their names are in this boot.
	m.Sh(`for s in 0 1 2; do for b in /sys/block/vd*; do [ "$(cat $b/serial)" = blank$s ] && ln -s /dev/${b##*/} /tmp/d$s; done; done
		mkfs.ext4 -q -F /tmp/d0; mkfs.xfs -q -f /tmp/d1; mkfs.vfat /tmp/d2 >/dev/null
		mkdir -p /mnt/0 /mnt/1 /mnt/2
		mount -t ext4 /tmp/d0 /mnt/0; mount -t xfs /tmp/d1 /mnt/1; mount -t vfat /tmp/d2 /mnt/2
		echo x > /mnt/2/a; umount /mnt/2 /mnt/1 /mnt/0
		dmsetup create t --table "0 2048 crypt aes-xts-plain64 $(printf '%0128d' 0) 0 /tmp/d0 0"; dmsetup remove t`)
	after := m.Sh("cat /proc/modules")
	for _, n := range []string{"ext4", "jbd2", "mbcache", "xfs", "vfat", "fat", "nls_ascii", "dm_mod", "dm_crypt"} {
		if !strings.Contains("\n"+after, "\n"+n+" ") {
			t.Errorf("%s was not loaded:\n%s", n, after)
		}
	}
	if !strings.Contains(after, "crc32c_") {
		t.Errorf("the soft dependency of ext4 was not loaded:\n%s", after)
	}
	out := m.Sh(`modprobe raid456; cat /sys/module/raid456/parameters/devices_handle_discard_safely
		modprobe -a nls_utf8 nls-iso8859-1; grep -c ^nls_ /proc/modules
		modprobe -q -- fs-btrfs 2>&1 && echo blacklisted and loaded; grep ^btrfs /proc/modules || true
		modprobe nothing-like-it 2>&1 || echo status $?`)
	if !regexp.MustCompile(`^Y\n[345]\nmodprobe: module nothing-like-it: .*\nstatus 1\n$`).MatchString(out) {
		t.Errorf("%s", out)
	}
}

// A disk that is plugged in later brings its driver with it.
func TestHotplug(t *testing.T) {
	m := boot(t, setup{name: "hotplug", slots: 1})
	m.Hello()
	if out := m.Sh("grep -c ^nvme /proc/modules || true"); out != "0\n" {
		t.Fatalf("nvme is loaded before there is a disk: %s", out)
	}
	d := qemu.Drive{ID: "late", File: filepath.Join(t.TempDir(), "late.img"), Interface: qemu.NVMe, Serial: "late"}
	if err := qemu.CreateRaw(d.File, 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := m.AddDrive(m.ctx(), d); err != nil {
		t.Fatal(err)
	}
	m.Sh("until [ -b /dev/nvme0n1 ]; do sleep 0.1; done; [ $(cat /sys/block/nvme0n1/size) = 131072 ]")
}

// Each way to end leaves the filesystem clean and the data written.
func TestEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		ask  func(m *Machine)
		says string
		ends bool // the machine goes off, instead of booting again
	}{
		{"reboot", func(m *Machine) { m.start(nil, "reboot") }, "Rebooting", false},
		{"Ctrl-Alt-Del", func(m *Machine) {
			if err := m.SendKeys(m.ctx(), "ctrl", "alt", "delete"); err != nil {
				m.t.Fatal(err)
			}
		}, "Rebooting", false},
		{"poweroff", func(m *Machine) { m.start(nil, "poweroff") }, "Powering off", true},
	} {
		t.Run(c.name, func(t *testing.T) { ends(t, c.ask, c.says, c.ends) })
	}
}

func ends(t *testing.T, ask func(*Machine), says string, off bool) {
	m := boot(t, setup{name: "ends", disks: 2})
	m.Hello()
	m.Sh(`for s in 0 1; do for b in /sys/block/vd*; do [ "$(cat $b/serial)" = blank$s ] && ln -s /dev/${b##*/} /tmp/d$s; done; done
		mkfs.ext4 -q -F /tmp/d0; mkdir "/mnt/a b"; mount -t ext4 /tmp/d0 "/mnt/a b"; mkswap -q /tmp/d1 >/dev/null; swapon /tmp/d1
		mkdir -p "/mnt/a b/in"; mount -t tmpfs none "/mnt/a b/in"; mkdir /mnt/bind; mount --bind "/mnt/a b" /mnt/bind
		seq 100000 > "/mnt/a b/data"; (trap '' TERM HUP; exec sleep 1000) >/dev/null 2>&1 & cd "/mnt/a b"; exec setsid sleep 1000 >/dev/null 2>&1 &`)
	mark, portMark := m.Console().Mark(), m.Port(portName).Mark()
	ask(m)
	m.expect(m.Console(), mark, says)
	if off {
		if err := m.Wait(m.ctx()); err != nil {
			t.Fatal(err)
		}
		checkDisk(t, m)
		return
	}
	m.mark = portMark
	m.Hello()
	checkInside(t, m)
}

const cleanCheck = `for b in /sys/block/vd*; do [ "$(cat $b/serial)" = blank0 ] && d=/dev/${b##*/}; done
	dumpe2fs -h $d 2>/dev/null | grep -E 'Filesystem state|needs_recovery' || true
	e2fsck -fn $d >/dev/null 2>&1 && echo no errors; mount -t ext4 -o ro,noload $d /mnt; seq 100000 | cmp - /mnt/data && echo same data`

func checkInside(t *testing.T, m *Machine) {
	t.Helper()
	out := m.Sh(cleanCheck)
	if !regexp.MustCompile(`^Filesystem state: +clean\nno errors\nsame data\n$`).MatchString(out) {
		t.Errorf("after the end:\n%s", out)
	}
}

// checkDisk looks at the disk of a machine that is off, in another one.
func checkDisk(t *testing.T, m *Machine) {
	t.Helper()
	other := boot(t, setup{name: "referee", drives: m.drives})
	other.Hello()
	checkInside(t, other)
}

// Halting stops everything and leaves the machine on.
func TestHalt(t *testing.T) {
	m := boot(t, setup{name: "halt"})
	m.Hello()
	mark := m.Console().Mark()
	m.start(nil, "halt")
	m.expect(m.Console(), mark, `Halting[\s\S]*System halted`)
}

// The order of the image, with the kernel command line over it, is where
// worker and consoles look for it; what is wrong is told.
func TestOrder(t *testing.T) {
	_, set := kernelImage(t)
	order := makePart(t, func(w *cpio.Writer) error {
		return w.File("etc/lifeboat/order.json", 0o600, []byte(`{"id":"i1","build_id":"b1","host":"srv1","built":"2026-01-02T03:04:05Z","recover":"auto","then":"reboot","verify":"","backup":{"method":"archive","url":""},"net":{}}`))
	})
	m := boot(t, setup{name: "order", append: "lifeboat.recover=menu lifeboat.thn=stay",
		segments: [][]byte{modulesPart(t, set), toolsPart(t), guestPart(t), order}})
	m.Hello()
	m.expect(m.Console(), 0, `Lifeboat rescue system of srv1, built 2026-01-02T03:04:05Z, kernel`)
	out := m.Sh("cat /proc/sys/kernel/hostname; stat -c %a /run/lifeboat/order.json; grep -E '\"(recover|then|host)\"' /run/lifeboat/order.json; cat /run/lifeboat/order.faults")
	for _, want := range []string{"srv1\n600\n", `"recover": "menu"`, `"then": "reboot"`, "lifeboat.thn is not known"} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
}

// PID 1 must be quick: everything before the worker's start is its own.
func TestStartTime(t *testing.T) {
	m := boot(t, setup{name: "start-time"})
	begin := time.Now()
	m.Hello()
	out := m.Sh(`dmesg | grep -m1 'Run /init' | cut -d] -f1; cut -d' ' -f22 /proc/$PPID/stat; cut -d' ' -f1 /proc/uptime`)
	t.Logf("worker reached after %.1f s; kernel time of init, start of the worker in 1/100 s, now:\n%s", time.Since(begin).Seconds(), out)
}
