// Command guest stands in for the lifeboat command inside the machines of the
// kernel tests: its worker runs programs that the test asks for over a virtio
// port, its console becomes a shell.
// Tests only: part of tests.
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"lifeboat/internal/kmod"
)

// portName is the virtio port that the test listens on.
const portName = "lifeboat.kernel"

func main() {
	verb := ""
	if len(os.Args) > 1 {
		verb = os.Args[1]
	}
	var err error
	switch verb {
	case "worker":
		err = worker()
	case "console":
		err = console()
	default:
		err = fmt.Errorf("verb %q is not known", verb)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func asked(word string) bool {
	b, _ := os.ReadFile("/proc/cmdline")
	return strings.Contains(" "+strings.TrimSpace(string(b))+" ", " "+word+" ")
}

func console() error {
	if asked("guest.console=fail") {
		return errors.New("asked to fail")
	}
	for _, sh := range []string{"/usr/bin/bash", "/usr/bin/sh"} {
		if _, err := os.Stat(sh); err == nil {
			return syscall.Exec(sh, []string{filepath.Base(sh)}, os.Environ())
		}
	}
	return errors.New("no shell")
}

// worker loads drivers until the port is there, then serves it.
func worker() error {
	if asked("guest.worker=panic") && os.Getenv("LIFEBOAT_WORKER_START") == "1" {
		var m map[string]int
		m["x"] = 1
	}
	if err := loadDrivers(); err != nil {
		return err
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	s := &server{port: port}
	s.line("hello %s", os.Getenv("LIFEBOAT_WORKER_START"))
	in := bufio.NewScanner(port)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		f := strings.Fields(in.Text())
		if len(f) == 3 && f[0] == "run" {
			go s.run(f[1], f[2])
		}
	}
	return fmt.Errorf("the port ended: %v", in.Err())
}

// loadDrivers returns when every device has been looked at; it goes on
// watching for more.
func loadDrivers() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	dir, err := kmod.Folder("/", unix.ByteSliceToString(u.Release[:]))
	if err != nil {
		return err
	}
	set, err := kmod.Open(dir)
	if err != nil {
		return err
	}
	a := kmod.Autoloader{Loader: &kmod.Loader{Set: set, Kernel: kmod.Linux{}},
		Failed: func(m string, err error) { fmt.Fprintln(os.Stderr, err) }}
	settled := make(chan struct{})
	failed := make(chan error, 1)
	go func() { failed <- a.Run(context.Background(), func() { close(settled) }) }()
	select {
	case <-settled:
		return nil
	case err := <-failed:
		return err
	}
}

func openPort() (*os.File, error) {
	names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
	for _, n := range names {
		if b, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(b)) == portName {
			return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(n)), os.O_RDWR, 0)
		}
	}
	return nil, fmt.Errorf("no virtio port named %s among %v", portName, names)
}

type server struct {
	mu   sync.Mutex
	port *os.File
}

func (s *server) line(format string, a ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.port, format+"\n", a...)
}

// output sends what a program writes, in pieces that are whole lines of the
// protocol.
type output struct {
	s  *server
	id string
}

func (o output) Write(p []byte) (int, error) {
	for i := 0; i < len(p); i += 3000 {
		o.s.line("out %s %s", o.id, base64.StdEncoding.EncodeToString(p[i:min(len(p), i+3000)]))
	}
	return len(p), nil
}

// request is what to run.
type request struct {
	Argv []string
	Env  []string // added to ours
}

func (s *server) run(id, text string) {
	code := 125
	defer func() { s.line("end %s %d", id, code) }()
	var r request
	b, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil || len(r.Argv) == 0 {
		fmt.Fprintf(output{s, id}, "guest: request not understood: %v\n", err)
		return
	}
	c := exec.Command(r.Argv[0], r.Argv[1:]...)
	c.Env = append(os.Environ(), r.Env...)
	c.Stdout = output{s, id}
	c.Stderr = c.Stdout
	err = c.Run()
	if c.ProcessState == nil {
		fmt.Fprintln(output{s, id}, err)
		return
	}
	if code = c.ProcessState.ExitCode(); code < 0 {
		fmt.Fprintf(output{s, id}, "\n%s: %v\n", r.Argv[0], err)
		code = 128 + int(c.ProcessState.Sys().(syscall.WaitStatus).Signal())
	}
}
