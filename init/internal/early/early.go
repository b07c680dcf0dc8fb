// Package early makes the kernel's bare root a system that programs can run
// in: mounts, device links, limits, the order of this boot; and takes it down
// again at the end.
// Level 6.5: part of init.
package early

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Log takes one line.
type Log func(format string, args ...any)

type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

// mounts in order. The sizes are limits, not reservations: together they may
// pass the memory there is, but none alone can take all of it.
var mounts = []mount{
	{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666"},
	{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777,size=25%"},
	{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755,size=25%"},
	{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777,size=50%"},
	{"tmpfs", "/var/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777,size=50%"},
}

// Mount mounts everything. A failure is logged and the rest goes on: half a
// system with a shell is better than a kernel panic.
func Mount(log Log) {
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			log("mounting %s: %v", m.target, err)
		}
		err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data)
		if err == nil || errors.Is(err, unix.EBUSY) {
			continue
		}
		log("mounting %s on %s: %v", m.fstype, m.target, err)
		if m.target == "/dev" {
			devNodes(log)
		}
	}
}

// devNodes makes the nodes that programs cannot do without when the kernel
// gives no devtmpfs.
func devNodes(log Log) {
	if err := unix.Mount("tmpfs", "/dev", "tmpfs", unix.MS_NOSUID, "mode=0755,size=1m"); err != nil {
		log("mounting tmpfs on /dev instead: %v", err)
	}
	for name, n := range map[string][2]uint32{
		"null": {1, 3}, "zero": {1, 5}, "full": {1, 7}, "random": {1, 8}, "urandom": {1, 9}, "kmsg": {1, 11},
		"tty": {5, 0}, "console": {5, 1}, "ptmx": {5, 2}, "tty0": {4, 0}, "tty1": {4, 1}, "ttyS0": {4, 64}, "ttyS1": {4, 65}, "hvc0": {229, 0},
	} {
		err := unix.Mknod("/dev/"+name, unix.S_IFCHR|0o600, int(unix.Mkdev(n[0], n[1])))
		if err != nil && !errors.Is(err, unix.EEXIST) {
			log("making /dev/%s: %v", name, err)
		}
	}
}

// Tree makes folders and links that programs expect.
func Tree(log Log) {
	for _, d := range []string{"/run/lifeboat", "/run/lock", "/run/lvm", "/run/cryptsetup", "/run/udev", "/run/mount", "/etc", "/root", "/var/lib", "/var/log", "/mnt"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			log("making folder: %v", err)
		}
	}
	// The order may hold a ticket, the events what a backup's address is.
	if err := os.Chmod("/run/lifeboat", 0o700); err != nil {
		log("closing /run/lifeboat to others: %v", err)
	}
	for _, l := range [][2]string{
		{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"},
		{"/proc/self/mounts", "/etc/mtab"}, {"/run", "/var/run"}, {"/run/lock", "/var/lock"},
	} {
		if err := os.Symlink(l[0], l[1]); err != nil && !errors.Is(err, os.ErrExist) {
			log("making link: %v", err)
		}
	}
}

// Settings sets limits and kernel settings. The words are those of the kernel
// command line.
func Settings(log Log, words []string, debug bool) {
	for _, r := range []struct {
		what  int
		limit uint64
	}{{unix.RLIMIT_NOFILE, 65536}, {unix.RLIMIT_CORE, 0}} {
		if err := unix.Setrlimit(r.what, &unix.Rlimit{Cur: r.limit, Max: r.limit}); err != nil {
			log("setting limit %d: %v", r.what, err)
		}
	}
	// Ctrl-Alt-Del comes as a signal, so that filesystems are left clean.
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF); err != nil {
		log("taking over Ctrl-Alt-Del: %v", err)
	}
	set := func(name, value string) {
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0o644); err != nil {
			log("setting %s to %s: %v", name, value, err)
		}
	}
	set("kernel/printk_devkmsg", "on\n") // the kernel refuses it without the newline
	if l := printk(words, debug); l != "" {
		set("kernel/printk", l)
	}
	// The kernel's default is /sbin/modprobe; some distributions build in another.
	for _, p := range []string{"/usr/sbin/modprobe", "/sbin/modprobe"} {
		if _, err := os.Stat(p); err == nil {
			set("kernel/modprobe", p)
			break
		}
	}
}

// printk is the console log level for a command line: driver chatter must not
// overwrite what a person is reading. Empty leaves what was asked for.
func printk(words []string, debug bool) string {
	level := "4"
	for _, w := range words {
		switch {
		case strings.HasPrefix(w, "loglevel=") || w == "ignore_loglevel":
			return ""
		case w == "debug":
			level = "7"
		case w == "quiet" && level != "7":
			level = "3"
		}
	}
	if debug {
		level = "7"
	}
	return level
}

// Hostname names the system; an empty name is "lifeboat".
func Hostname(log Log, name string) {
	if name == "" {
		name = "lifeboat"
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		log("setting host name %q: %v", name, err)
	}
	if _, err := os.Stat("/etc/hosts"); errors.Is(err, os.ErrNotExist) {
		hosts := fmt.Sprintf("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s\n", name)
		if err := os.WriteFile(filepath.Clean("/etc/hosts"), []byte(hosts), 0o644); err != nil {
			log("writing host names: %v", err)
		}
	}
}
