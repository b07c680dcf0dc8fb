package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"lifeboat/internal/run"
)

// VM is a machine that was started.
type VM struct {
	cfg     Config
	accel   Accel
	dir     string // sockets; gone when the machine has ended
	proc    *run.Process
	qmp     *QMP
	console *Stream
	ports   map[string]*Stream
	cancel  context.CancelFunc
	ended   chan struct{}

	mu    sync.Mutex
	slots int // hot-plug slots in use
}

// Start starts the machine that c describes. It is killed when ctx ends, and
// with this process.
func Start(ctx context.Context, c Config) (*VM, error) {
	v, err := start(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name(), err)
	}
	return v, nil
}

func start(ctx context.Context, c Config) (_ *VM, err error) {
	if _, err := run.LookPath(binary); err != nil {
		return nil, errNoQEMU(err)
	}
	v := &VM{cfg: c, accel: c.Accel, ports: map[string]*Stream{}, ended: make(chan struct{})}
	if v.accel == "" {
		v.accel, _ = DefaultAccel(ctx, run.Exec{Log: c.Log})
	}
	if v.dir, err = socketDir(); err != nil {
		return nil, err
	}
	p := paths{dir: v.dir, vars: c.Vars}
	if c.Firmware != "" && c.Firmware != BIOS {
		if p.firmware, err = findFirmware("/", c.Firmware); err == nil {
			if p.vars == "" {
				p.vars = filepath.Join(v.dir, "efivars.fd")
			}
			err = prepareVars(p.firmware.vars, p.vars)
		}
		if err != nil {
			os.RemoveAll(v.dir)
			return nil, err
		}
	}
	argv, err := args(c, v.accel, p)
	if err == nil {
		err = v.launch(ctx, argv, p)
	}
	if err != nil {
		os.RemoveAll(v.dir)
		return nil, err
	}
	return v, nil
}

// socketDir makes a private folder with a short name: TMPDIR of tests may be
// longer than a socket's path can be.
func socketDir() (string, error) {
	parent := os.TempDir()
	if len(parent) > 60 {
		parent = "/tmp"
	}
	return os.MkdirTemp(parent, "lifeboat-vm-")
}

// launch listens first and lets QEMU connect, so that not a byte of the
// console is lost and nothing has to be polled for.
func (v *VM) launch(ctx context.Context, argv []string, p paths) error {
	names := []string{"qmp", "console"}
	for i, port := range v.cfg.Ports {
		if port.Socket == "" {
			names = append(names, "port"+strconv.Itoa(i))
		}
	}
	listen := map[string]net.Listener{}
	defer func() {
		for _, l := range listen {
			l.Close()
		}
	}()
	for _, n := range names {
		l, err := net.Listen("unix", p.sock(n))
		if err != nil {
			return err
		}
		listen[n] = l
	}
	ctx, v.cancel = context.WithCancel(ctx)
	if err := v.spawn(ctx, argv); err != nil {
		v.cancel()
		return err
	}
	err := v.connect(ctx, listen)
	if err != nil {
		v.cancel()
		// What QEMU itself wrote explains more than a closed socket does.
		if e := v.proc.Wait(); isExit(e) {
			err = e
		}
		<-v.ended
	}
	return err
}

// isExit tells whether QEMU ended by itself, not by our signal.
func isExit(err error) bool {
	var e *run.Error
	return errors.As(err, &e) && e.Code > 0
}

// spawn starts QEMU from a thread that lives as long as it does: the signal
// on the parent's death is bound to the thread that started the child.
func (v *VM) spawn(ctx context.Context, argv []string) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		proc, err := run.Exec{Log: v.cfg.Log}.Start(ctx, run.Cmd{
			Path: binary, Args: argv,
			Attr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
		})
		v.proc = proc
		started <- err
		if err != nil {
			return
		}
		<-proc.Done()
		v.cancel()
		os.RemoveAll(v.dir)
		close(v.ended)
	}()
	return <-started
}

func (v *VM) connect(ctx context.Context, listen map[string]net.Listener) error {
	accept := func(name string) (net.Conn, error) {
		l := listen[name]
		defer context.AfterFunc(ctx, func() { l.Close() })()
		return l.Accept()
	}
	// In the order of QEMU's own start; each has its listener, so any works.
	for i, port := range v.cfg.Ports {
		if port.Socket != "" {
			continue
		}
		conn, err := accept("port" + strconv.Itoa(i))
		if err != nil {
			return err
		}
		var file io.WriteCloser
		if port.File != "" {
			f, err := os.OpenFile(port.File, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
			if err != nil {
				conn.Close()
				return fmt.Errorf("port %s: %w", port.Name, err)
			}
			file = f
		}
		v.ports[port.Name] = newStream("port "+port.Name+" of "+v.cfg.name(), conn, file)
	}
	conn, err := accept("console")
	if err != nil {
		return err
	}
	var file io.WriteCloser
	if v.cfg.Dir != "" {
		f, err := os.OpenFile(filepath.Join(v.cfg.Dir, "console.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			conn.Close()
			return fmt.Errorf("keep the console: %w", err)
		}
		file = f
	}
	v.console = newStream("the console of "+v.cfg.name(), conn, file)
	if conn, err = accept("qmp"); err != nil {
		return err
	}
	v.qmp, err = newQMP(ctx, conn)
	return err
}

// Accel is what executes the guest.
func (v *VM) Accel() Accel { return v.accel }

// Pid is QEMU's process id.
func (v *VM) Pid() int { return v.proc.Pid() }

// QMP is the control connection.
func (v *VM) QMP() *QMP { return v.qmp }

// Console is the first serial port.
func (v *VM) Console() *Stream { return v.console }

// Port is the port with that name; nil if Config.Ports has none, or if it is
// a socket for others.
func (v *VM) Port(name string) *Stream { return v.ports[name] }

// WaitSerial waits until text has appeared on the serial console.
func (v *VM) WaitSerial(ctx context.Context, text string) error {
	return v.whyEnded(v.console.WaitText(ctx, text))
}

// WaitSerialMatch waits for re on the serial console and returns its groups.
func (v *VM) WaitSerialMatch(ctx context.Context, re *regexp.Regexp) ([]string, error) {
	m, _, err := v.console.Wait(ctx, 0, re)
	return m, v.whyEnded(err)
}

// whyEnded adds QEMU's own words when the machine is gone.
func (v *VM) whyEnded(err error) error {
	if err == nil || !Ended(err) {
		return err
	}
	if e := v.proc.Wait(); e != nil {
		return fmt.Errorf("%w\n%w", err, e)
	}
	return err
}

// Done is closed when the machine has ended and its sockets are removed.
func (v *VM) Done() <-chan struct{} { return v.ended }

// Wait waits until the machine ends by itself. QEMU's failure, with what it
// wrote, is the error; when ctx ends first the machine is killed.
func (v *VM) Wait(ctx context.Context) error {
	select {
	case <-v.ended:
		if err := v.proc.Wait(); err != nil {
			return fmt.Errorf("%s: %w", v.cfg.name(), err)
		}
		return nil
	case <-ctx.Done():
		v.Kill()
		return fmt.Errorf("wait for the end of %s: %w; last lines of its console:\n%s",
			v.cfg.name(), context.Cause(ctx), tail([]byte(v.console.Text()), 15))
	}
}

// Kill ends the machine as pulling the plug does, and waits until it is gone.
func (v *VM) Kill() {
	v.cancel()
	<-v.ended
}

// Reset presses the reset button.
func (v *VM) Reset(ctx context.Context) error {
	_, err := v.qmp.Execute(ctx, "system_reset", nil)
	return err
}

// PowerButton asks the guest to shut down.
func (v *VM) PowerButton(ctx context.Context) error {
	_, err := v.qmp.Execute(ctx, "system_powerdown", nil)
	return err
}

// Quit ends QEMU in order: drives are closed properly, the guest is not asked.
func (v *VM) Quit(ctx context.Context) error {
	if _, err := v.qmp.Execute(ctx, "quit", nil); err != nil && !Ended(err) {
		return err
	}
	return v.Wait(ctx)
}
