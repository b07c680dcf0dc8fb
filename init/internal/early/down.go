package early

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// keep are mounts that stay to the end: we still log and read /proc.
var keep = map[string]bool{"/": true, "/proc": true, "/sys": true, "/dev": true, "/run": true}

// within runs f and stops waiting after the limit: a dead disk or server must
// not keep the machine from rebooting.
func within(limit time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}

// Down writes out everything and takes down swap and mounts.
func Down(log Log) {
	if !within(60*time.Second, unix.Sync) {
		log("writing out took more than 60 s; going on")
	}
	swaps, err := os.ReadFile("/proc/swaps")
	if err == nil {
		for _, s := range swapAreas(string(swaps)) {
			swapOff(log, s)
		}
	}
	// What is mounted below something else goes first; a second round finds
	// what a first one set free.
	for range 3 {
		if left := mounted(log); len(left) == 0 {
			break
		}
		for _, m := range mounted(log) {
			if !within(15*time.Second, func() { _ = unix.Unmount(m, 0) }) {
				log("unmounting %s took more than 15 s; detaching it", m)
				within(time.Second, func() { _ = unix.Unmount(m, unix.MNT_DETACH|unix.MNT_FORCE) })
			}
		}
	}
	for _, m := range mounted(log) {
		log("%s could not be unmounted; making it read-only", m)
		within(15*time.Second, func() {
			if err := unix.Mount("", m, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				log("making %s read-only: %v", m, err)
			}
		})
	}
	within(60*time.Second, unix.Sync)
}

func swapOff(log Log, path string) {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return
	}
	ok := within(60*time.Second, func() {
		if _, _, e := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(p)), 0, 0); e != 0 {
			log("switching off swap %s: %v", path, e)
		}
	})
	if !ok {
		log("switching off swap %s took more than 60 s; going on", path)
	}
}

func mounted(log Log) []string {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		log("reading mounts: %v", err)
		return nil
	}
	return toUnmount(string(b))
}

// toUnmount lists mount points, the last mounted first.
func toUnmount(mountinfo string) []string {
	var out []string
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		if p := unescape(f[4]); !keep[p] {
			out = append(out, p)
		}
	}
	slices.Reverse(out)
	return out
}

func swapAreas(swaps string) []string {
	var out []string
	for line := range strings.Lines(swaps) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[0], "/") {
			out = append(out, unescape(f[0]))
		}
	}
	return out
}

// unescape undoes the octal escapes of /proc files.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
