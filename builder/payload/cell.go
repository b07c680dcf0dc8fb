package payload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/internal/run"
)

// cell is a confined place in which programs of a finished tree are started:
// private mount, network and IPC namespaces (and for each program its own PID
// namespace), a root in memory, and nothing of the host's /dev, /proc or
// /sys. All its work happens on operating system threads of its own, which
// end with it, so that the rest of the process never sees these namespaces.
type cell struct {
	root   string // mount point of the tree, inside the namespace only
	spaces []*os.File
	runner run.Runner
	jobs   chan func()
}

// spaceFlags are the namespaces that every thread of a cell enters.
var spaceFlags = []struct {
	name string
	flag int
}{{"ipc", unix.CLONE_NEWIPC}, {"net", unix.CLONE_NEWNET}, {"mnt", unix.CLONE_NEWNS}}

// ownThread runs f on a thread that is thrown away afterwards. The first
// thread of the process is never used: /proc/self would show its namespaces.
func ownThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			end := make(chan struct{})
			ownThread(func() { defer close(end); f() })
			<-end
			runtime.UnlockOSThread()
			return
		}
		f() // the thread ends with the goroutine, since it stays locked
	}()
}

// openCell makes the namespaces, lays the tree out in them, and starts threads
// that wait for jobs. The folder must exist and be empty; nothing is written
// to it, it only carries a mount that nobody else sees.
func openCell(r run.Runner, dir string, entries []*Entry) (*cell, error) {
	c := &cell{root: dir, runner: r, jobs: make(chan func())}
	ready := make(chan error, 1)
	ownThread(func() {
		err := c.enter()
		if err == nil {
			err = layOut(dir, entries)
		}
		ready <- err
		if err == nil {
			c.work()
		}
	})
	if err := <-ready; err != nil {
		c.closeSpaces()
		return nil, err
	}
	for range runtime.NumCPU() - 1 {
		ownThread(func() {
			err := c.join()
			ready <- err
			if err == nil {
				c.work()
			}
		})
		if err := <-ready; err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

// enter makes the namespaces and mounts memory on the folder.
func (c *cell) enter() error {
	flags := 0
	for _, s := range spaceFlags {
		flags |= s.flag
	}
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("confine the programs of the image to test them: new namespaces: %w; run as root, outside of a restricted container", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("confine the programs of the image to test them: private mounts: %w", err)
	}
	if err := unix.Mount("lifeboat", c.root, "tmpfs", unix.MS_NOSUID, "mode=0700"); err != nil {
		return fmt.Errorf("confine the programs of the image to test them: memory on %s: %w", c.root, err)
	}
	for _, s := range spaceFlags {
		f, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/%s", unix.Gettid(), s.name))
		if err != nil {
			return err
		}
		c.spaces = append(c.spaces, f)
	}
	return nil
}

// join takes another thread into the namespaces.
func (c *cell) join() error {
	// Threads of a process share their root; a mount namespace cannot be
	// entered before that ends.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	for i, s := range spaceFlags {
		if err := unix.Setns(int(c.spaces[i].Fd()), s.flag); err != nil {
			return fmt.Errorf("enter the %s namespace: %w", s.name, err)
		}
	}
	return nil
}

func (c *cell) work() {
	for job := range c.jobs {
		job()
	}
}

// close lets the threads end; the mount goes with the last of them.
func (c *cell) close() {
	close(c.jobs)
	c.closeSpaces()
}

func (c *cell) closeSpaces() {
	for _, f := range c.spaces {
		f.Close()
	}
}

// cellEnv is what confined programs see.
var cellEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "TERM=linux", "HOME=/root",
	"DM_DISABLE_UDEV=1", "LVM_SUPPRESS_FD_WARNINGS=1"}

// run starts one program of the tree in the cell and waits for it. It must be
// called from one of the cell's jobs.
func (c *cell) run(ctx context.Context, limit time.Duration, ok []int, argv ...string) (run.Result, error) {
	return c.runner.Run(ctx, run.Cmd{Path: argv[0], Args: argv[1:], Env: cellEnv, Root: c.root, Limit: limit, OK: ok,
		Attr: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}})
}

// layOut writes entries below a folder. Of device nodes only /dev/null is
// made.
func layOut(dir string, entries []*Entry) error {
	for _, e := range entries {
		full := filepath.Join(dir, e.Path)
		var err error
		switch {
		case e.Mode.IsDir():
			err = os.Mkdir(full, 0o755)
			if errors.Is(err, fs.ErrExist) {
				err = nil
			}
		case e.Mode.Type() == fs.ModeSymlink:
			err = os.Symlink(e.Target, full)
		case e.Mode.IsRegular():
			err = layFile(full, e)
		case e.Path == "dev/null":
			err = unix.Mknod(full, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
		}
		if err != nil {
			return fmt.Errorf("lay out the image for testing: %s: %w", e.Path, err)
		}
	}
	return nil
}

func layFile(full string, e *Entry) error {
	out, err := os.OpenFile(full, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		return err
	}
	defer out.Close()
	var in io.Reader = strings.NewReader(string(e.Data))
	if e.Source != "" && !e.Unpack {
		f, err := os.Open(e.Source)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	} else if e.Source != "" {
		b, err := e.Content()
		if err != nil {
			return err
		}
		in = strings.NewReader(string(b))
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
