package rescue

import (
	"os"
	"path/filepath"
	"strings"

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
		}
	}
	if dev := virtioPort(eventsPort); dev != "" {
		if err := w.J.AddFile(dev, false); err != nil {
			w.Exec.Log("events port: %v", err)
		}
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
