package loaders

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Stick is the boot menu of a stick with the rescue systems of several hosts,
// each in its own folder with its own id.
type Stick struct {
	ID    string // the stick is found by the file IDFile(ID)
	Hosts []Menu // in the order of the menu
}

// stickWait is how long the menu of several hosts waits before it starts the
// machine's own disk: a person has to find the host first.
const stickWait = 60 * time.Second

// Check names a field that cannot be put into a menu.
func (s Stick) Check() error {
	if len(s.Hosts) == 0 {
		return errors.New("boot menu: the stick has no host")
	}
	if err := (Menu{BuildID: s.ID}).Check(); err != nil {
		return err
	}
	for _, m := range s.Hosts {
		if err := m.Check(); err != nil {
			return fmt.Errorf("%s: %w", m.Host, err)
		}
	}
	return nil
}

// Config is the whole grub.cfg. One host has the menu that its own medium
// would have. Of several, each has a submenu, and the default is the
// machine's own disk: nobody has said which host this machine is.
func (s Stick) Config() string {
	if len(s.Hosts) == 1 {
		return s.Hosts[0].Config()
	}
	top := Menu{BuildID: s.ID, Default: Local, Timeout: stickWait}
	for _, m := range s.Hosts {
		if _, _, ok := serial(top.Consoles); !ok {
			top.Consoles = m.Consoles
		}
		top.LocalLoaders = append(top.LocalLoaders, m.LocalLoaders...)
	}
	var b strings.Builder
	b.WriteString("# Written by lifeboat; stick " + s.ID + "\n")
	top.head(&b)
	for i, m := range s.Hosts {
		key := ""
		if i < 9 {
			key = fmt.Sprintf(" --hotkey %d", i+1)
		}
		fmt.Fprintf(&b, "submenu %s --id %s%s {\n", quote(m.title("%s")+" ..."), quote("host-"+m.Host), key)
		b.WriteString("search --no-floppy --file --set=root " + IDFile(m.BuildID) + "\n")
		m.entries(&b)
		b.WriteString("}\n")
	}
	return b.String()
}
