package rescue

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"lifeboat/report"
)

// Channels of a virtual machine: its firmware may add words to the order, and
// a virtio port takes the events. Both are in the hands of whoever runs the
// machine, who owns its disks anyway.
const (
	fwcfgWords = "/sys/firmware/qemu_fw_cfg/by_name/opt/org.lifeboat/cmdline/raw"
	eventsPort = "lifeboat.events"
	reportPort = "lifeboat.report"
)

// virtual takes what a virtual machine's firmware says, and opens its port.
func (w *Worker) virtual() {
	words, err := os.ReadFile(fwcfgWords)
	if err == nil {
		w.J.Note("The virtual machine's firmware adds: %s", strings.TrimSpace(string(words)))
		for _, f := range w.Order.Apply(string(words)) {
			w.J.Problem(report.Problem{Code: report.CodeUsage, Severity: report.Warning, Text: f.Error()})
			w.faulty = true
		}
		if w.faulty { // a good word does not make the bad one understood
			w.onlyMenu()
		}
	}
	if dev := virtioPort(eventsPort); dev != "" {
		w.port = newPort(dev, w.J)
	}
}

// port sends events to a virtio port from a goroutine of its own: a machine
// whose other side does not read must not stop a recovery.
type port struct {
	events chan report.Event
	ends   chan chan struct{} // asks for a sign when all before it went out
}

func newPort(dev string, j *Journal) *port {
	p := &port{events: make(chan report.Event, 4096), ends: make(chan chan struct{}, 1)}
	j.mu.Lock()
	for _, e := range j.kept {
		p.Emit(e)
	}
	j.extra = append(j.extra, p)
	j.mu.Unlock()
	go p.run(dev)
	return p
}

func (p *port) run(dev string) {
	f, err := os.OpenFile(dev, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	for {
		select {
		case e := <-p.events:
			if writeEvent(f, e) != nil {
				return
			}
		case end := <-p.ends:
			for len(p.events) > 0 {
				if writeEvent(f, <-p.events) != nil {
					return
				}
			}
			close(end)
		}
	}
}

// Emit hands an event over, or drops it when nobody reads.
func (p *port) Emit(e report.Event) {
	select {
	case p.events <- e:
	default:
	}
}

// flush waits until what was said has gone out, or for 3 s.
func (p *port) flush() {
	if p == nil {
		return
	}
	end := make(chan struct{})
	select {
	case p.ends <- end:
	default:
		return
	}
	select {
	case <-end:
	case <-time.After(3 * time.Second):
	}
}

// virtioPort finds the node of a named virtio port by sysfs.
func virtioPort(name string) string {
	files, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(b)) == name {
			return filepath.Join("/dev", filepath.Base(filepath.Dir(f)))
		}
	}
	return ""
}
