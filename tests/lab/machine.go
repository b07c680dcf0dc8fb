package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"lifeboat/drill/qemu"
)

// Machine is a running guest with the agent inside.
type Machine struct {
	*qemu.VM
	*Guest

	dir string // of the agent's socket
}

// Start starts a machine and adds the agent's port; the agent is reached by
// Agent once the system is up.
func Start(ctx context.Context, c qemu.Config) (*Machine, error) {
	// A short path: a socket's name may have 108 bytes and no more.
	dir, err := os.MkdirTemp("/tmp", "lifeboat-lab-")
	if err != nil {
		return nil, err
	}
	m := &Machine{dir: dir}
	c.Ports = append(append([]qemu.Port(nil), c.Ports...), qemu.Port{Name: AgentPort, Socket: m.socket()})
	if m.VM, err = qemu.Start(ctx, c); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	go func() {
		<-m.VM.Done()
		os.RemoveAll(dir)
	}()
	return m, nil
}

func (m *Machine) socket() string { return filepath.Join(m.dir, "agent") }

// Agent waits until the agent in the guest answers. After a reset of the
// guest it is called again.
func (m *Machine) Agent(ctx context.Context) error {
	if m.Guest != nil {
		m.Guest.conn.Close()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-m.VM.Done():
			cancel(fmt.Errorf("the machine stopped; the end of its console:\n%s", lastText(m.Console().Text(), 2000)))
		case <-ctx.Done():
		}
	}()
	g, err := dial(ctx, m.socket())
	if err != nil {
		return fmt.Errorf("%w; the end of the console:\n%s", err, lastText(m.Console().Text(), 1000))
	}
	m.Guest = g
	return nil
}

func lastText(s string, n int) string {
	if len(s) > n {
		s = s[len(s)-n:]
	}
	return s
}

// PowerOff asks the guest to shut down and waits until it has; the guest is
// killed when ctx ends before.
func (m *Machine) PowerOff(ctx context.Context) error {
	if err := m.PowerButton(ctx); err != nil {
		m.Kill()
		return err
	}
	return m.VM.Wait(ctx)
}

// Appliance boots Debian's disk tools with these drives: no network, no other
// disk. Its agent has answered when it returns. Off ends it.
func (l *Lab) Appliance(ctx context.Context, drives ...qemu.Drive) (*Machine, error) {
	m, err := Start(ctx, qemu.Config{
		Name: "appliance", Memory: 1 << 30, Drives: drives,
		Kernel: filepath.Join(l.base, "vmlinuz"), Initrd: filepath.Join(l.base, "appliance.img"),
		Append: "console=ttyS0 quiet panic=-1 rdinit=/init", NoReboot: true,
	})
	if err != nil {
		return nil, err
	}
	agentCtx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if err := m.Agent(agentCtx); err != nil {
		m.Kill()
		return nil, fmt.Errorf("start the appliance: %w", err)
	}
	return m, nil
}

// Off ends an appliance in order: what it mounted is unmounted, all is written.
func (m *Machine) Off(ctx context.Context) error {
	if err := m.Guest.quit(ctx); err != nil {
		m.Kill()
		return err
	}
	return m.VM.Wait(ctx)
}
