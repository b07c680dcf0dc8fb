package rescue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"lifeboat/internal/handoff"
	"lifeboat/internal/tools/loadkeys"
	"lifeboat/report"
)

// keymap gives the host's keyboard map to the kernel, before anybody is asked
// anything. A machine without a screen has no such keyboard.
func (w *Worker) keymap() {
	data, err := os.ReadFile(handoff.KeymapPath)
	if errors.Is(err, fs.ErrNotExist) {
		return // the kernel's own is the host's, or the build has warned
	}
	if err == nil {
		err = applyKeymap(data, "/dev")
	}
	switch {
	case errors.Is(err, errNoScreen):
		w.Exec.Log("keyboard: %v", err)
	case err != nil:
		w.J.Problem(report.Problem{Code: report.CodeKeymap, Severity: report.Warning, Object: w.Order.Keymap,
			Text: fmt.Sprintf("the keyboard is American, not %q: %v", w.Order.Keymap, err), Next: "type as on an American keyboard"})
	default:
		w.J.Note("Keyboard: %s", w.Order.Keymap)
	}
}

// errNoScreen: the kernel has no virtual terminals.
var errNoScreen = errors.New("the kernel has no screen with a keyboard")

func applyKeymap(data []byte, dev string) error {
	m, err := loadkeys.Decode(data)
	if err != nil {
		return err
	}
	tty, err := os.OpenFile(filepath.Join(dev, "tty0"), os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
		return errNoScreen
	}
	if err != nil {
		return err
	}
	defer tty.Close()
	left, err := m.Apply(tty)
	if err == nil && left > 0 {
		err = fmt.Errorf("the kernel does not know %d of its symbols", left)
	}
	return err
}
