package chroot

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/internal/blockdev"
	"lifeboat/plan"
	"lifeboat/report"
)

// Verb is how people enter a restored system; error texts name it.
const Verb = "lifeboat enter"

// Hint is the next step of an error that a person mends with the restored
// system's own tools. A repair leaves nothing mounted to enter.
func Hint(p *plan.Plan, do string) string {
	if p != nil && p.Kind == plan.KindRepair {
		return "start the system from another medium, or recover it, and " + do
	}
	return "run `" + Verb + "` in a shell here, and there " + do
}

// Shell makes this process a program of the restored system at path: a shell
// there when argv is empty. It returns only when that fails. The mounts that
// programs need live in a namespace of their own and end with it: nothing is
// left behind, whatever the person does.
func Shell(path string, argv []string) error {
	if err := mountedAt(path); err != nil {
		return err
	}
	runtime.LockOSThread() // never unlocked: the program goes on in this thread
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	// What the worker unmounts meanwhile must go here as well.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep the mounts to ourselves: %w", err)
	}
	c, err := Enter(path, nil)
	if err != nil {
		return err
	}
	if len(argv) == 0 {
		for _, sh := range []string{"/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/sh"} {
			if p, ok := c.LookPath(sh); ok {
				argv = []string{p, "-l"}
				break
			}
		}
		if len(argv) == 0 {
			return fmt.Errorf("the system at %s holds no shell", path)
		}
	}
	program, ok := c.LookPath(argv[0])
	if !ok {
		return report.Errorf(report.CodeUsage, "name a program of that system", "the system at %s has no program %s", path, argv[0])
	}
	if err := unix.Chroot(path); err != nil {
		return fmt.Errorf("enter %s: %w", path, err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter %s: %w", path, err)
	}
	return fmt.Errorf("start %s in %s: %w", program, path, unix.Exec(program, argv, shellEnv()))
}

// shellEnv is Env for a person, at whose terminal it is.
func shellEnv() []string {
	var env []string
	for _, e := range Env {
		if name, _, _ := strings.Cut(e, "="); name == "TERM" && os.Getenv("TERM") != "" || name == "DEBIAN_FRONTEND" {
			continue
		}
		env = append(env, e)
	}
	if t := os.Getenv("TERM"); t != "" {
		env = append(env, "TERM="+t)
	}
	return env
}

// mountedAt makes sure that a system is there to enter.
func mountedAt(path string) error {
	v, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("look for a mounted system: %w", err)
	}
	defer v.Close()
	mounts, err := blockdev.ParseMountinfo(v)
	if err != nil {
		return fmt.Errorf("look for a mounted system: %w", err)
	}
	for _, m := range mounts {
		if m.Path == path {
			return nil
		}
	}
	return &report.Fault{Problem: report.Problem{Code: report.CodeUsage, Severity: report.Error, Text: "no restored system is mounted at " + path,
		Next: "it is there after a recovery that stopped behind its mount steps; `lifeboat status` tells how far it came"}}
}
