package main

import (
	"path/filepath"

	"lifeboat/internal/cpio"
)

// layoutVersion makes the segment be written again when fill changes.
const layoutVersion = "2"

// fill writes the tree. It is a complete small system: with a kernel it boots
// to a shell.
func fill(w *cpio.Writer, work string, names []string) error {
	steps := []func() error{
		// Go's runtime ends a program that starts without descriptors and
		// finds no /dev/null; PID 1 starts before it can mount /dev.
		func() error { return w.Char("dev/console", 0o600, 5, 1) },
		func() error { return w.Char("dev/null", 0o666, 1, 3) },
		func() error { return w.Copy("init", filepath.Join(work, "init")) },
		func() error { return w.Copy("usr/bin/lifeboat", filepath.Join(work, "lifeboat-rescue")) },
		func() error { return w.Copy("usr/bin/bb", filepath.Join(work, "bb")) },
		func() error { return w.File("etc/passwd", 0o644, []byte(passwd)) },
		func() error { return w.File("etc/group", 0o644, []byte(group)) },
	}
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		steps = append(steps, func() error { return w.Dir("usr/"+d, 0o755) }, func() error { return w.Symlink(d, "usr/"+d) })
	}
	for _, d := range []string{"proc", "sys", "run", "mnt", "etc/lifeboat", "var/lib", "var/log"} {
		steps = append(steps, func() error { return w.Dir(d, 0o755) })
	}
	steps = append(steps, func() error { return w.Dir("root", 0o700) },
		func() error { return w.Dir("tmp", 0o1777) }, func() error { return w.Dir("var/tmp", 0o1777) })
	for _, n := range []string{"modprobe", "reboot", "poweroff", "halt", "shutdown"} {
		steps = append(steps, func() error { return w.Symlink("usr/sbin/"+n, "../../init") })
	}
	for _, n := range names {
		steps = append(steps, func() error { return w.Symlink("usr/bin/"+n, "bb") })
	}
	for _, s := range steps {
		if err := s(); err != nil {
			return err
		}
	}
	return nil
}

// Root without a password: logins over the network are by key only, and
// whoever stands at a console of a rescue system has the disks anyway.
const passwd = "root:x:0:0:root:/root:/usr/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"

const group = "root:x:0:\ntty:x:5:\ndisk:x:6:\nkmem:x:15:\nnogroup:x:65534:\n"
