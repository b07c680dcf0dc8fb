package handoff

import (
	"fmt"
	"sort"
	"strings"
)

// Words splits a kernel command line as the kernel does: blanks separate,
// double quotes keep them.
func Words(line string) []string {
	var out []string
	var w strings.Builder
	quoted, any := false, false
	for _, r := range line {
		switch {
		case r == '"':
			quoted, any = !quoted, true
		case !quoted && (r == ' ' || r == '\t' || r == '\n'):
			if any {
				out = append(out, w.String())
			}
			w.Reset()
			any = false
		default:
			w.WriteRune(r)
			any = true
		}
	}
	if any {
		out = append(out, w.String())
	}
	return out
}

// setters are the words of the command line, ours and those that users of
// ReaR know.
var setters = map[string]func(o *Order, v string, has bool) error{
	"lifeboat.recover": func(o *Order, v string, _ bool) error { return choice(&o.Recover, v, Menu, Auto, Off, Repair) },
	"lifeboat.mapping": func(o *Order, v string, _ bool) error { o.Mapping = v; return nil },
	"lifeboat.backup":  func(o *Order, v string, _ bool) error { o.Backup.URL = v; return nil },
	"lifeboat.server":  func(o *Order, v string, _ bool) error { o.Server = v; return nil },
	"lifeboat.ticket":  func(o *Order, v string, _ bool) error { o.Ticket = v; return nil },
	"lifeboat.ssh":     func(o *Order, v string, _ bool) error { o.SSH = v; return nil },
	"lifeboat.then":    func(o *Order, v string, _ bool) error { return choice(&o.Then, v, Reboot, Poweroff, Stay) },
	"lifeboat.verify":  func(o *Order, v string, _ bool) error { return choice(&o.Verify, v, "index", "full") },
	"lifeboat.order":   func(o *Order, v string, _ bool) error { o.ID = v; return nil },
	"lifeboat.drill":   func(o *Order, v string, _ bool) error { o.Drill = v != "0"; return nil },
	"lifeboat.debug":   func(o *Order, v string, _ bool) error { o.Debug = v != "0"; return nil },
	"ip":               func(o *Order, v string, _ bool) error { o.Net.IP = append(o.Net.IP, v); return nil },
	"BOOTIF":           func(o *Order, v string, _ bool) error { o.Net.BootIF = v; return nil },
	"console":          func(o *Order, v string, _ bool) error { o.Consoles = append(o.Consoles, v); return nil },
	"noip":             func(o *Order, _ string, _ bool) error { o.Net.Off = true; return nil },
	"auto_recover":     func(o *Order, _ string, _ bool) error { o.Recover = Auto; return nil },
	"automatic":        func(o *Order, _ string, _ bool) error { o.Recover = Auto; return nil },
	"unattended":       func(o *Order, _ string, _ bool) error { o.Recover, o.Then = Auto, Reboot; return nil },
}

func choice(field *string, v string, ok ...string) error {
	for _, x := range ok {
		if v == x {
			*field = v
			return nil
		}
	}
	return fmt.Errorf("%q is not one of %s", v, strings.Join(ok, ", "))
}

// Apply puts the words of a kernel command line over the order. Words that
// are not ours are left alone; an unknown word that begins with "lifeboat."
// and a wrong value are returned as faults, and the order keeps what it had:
// a typing error must never turn a menu into an erasure.
func (o *Order) Apply(cmdline string) (faults []error) {
	first := true
	for _, w := range Words(cmdline) {
		name, v, has := strings.Cut(w, "=")
		set, ok := setters[name]
		if !ok {
			if strings.HasPrefix(name, "lifeboat.") {
				faults = append(faults, fmt.Errorf("kernel command line: %s is not known; known are %s", name, known()))
			}
			continue
		}
		if name == "console" && first {
			o.Consoles, first = nil, false // the line's own list replaces the image's
		}
		if err := set(o, v, has); err != nil {
			faults = append(faults, fmt.Errorf("kernel command line: %s: %w", name, err))
		}
	}
	return faults
}

func known() string {
	var s []string
	for k := range setters {
		if strings.HasPrefix(k, "lifeboat.") {
			s = append(s, k)
		}
	}
	sort.Strings(s)
	return strings.Join(s, " ")
}
