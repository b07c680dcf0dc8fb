// Package handoff holds the Order: what one boot of the rescue system is to
// do, and its spelling on the kernel command line.
// Level 0: data, validation, encoding; pure.
package handoff

import (
	"encoding/json"
	"fmt"
	"strings"
)

// KexecSignal makes PID 1 end everything and start the kernel that was loaded:
// SIGRTMIN+6 as the C library counts, systemd's meaning of it.
const KexecSignal = 34 + 6

// Paths that PID 1, the worker and the consoles share.
const (
	OrderInImage = "/etc/lifeboat/order.json"   // packed by the builder
	OrderPath    = "/run/lifeboat/order.json"   // image's order with the command line applied, by PID 1
	FaultsPath   = "/run/lifeboat/order.faults" // by PID 1: what was wrong with order or command line, a line each
	EventsPath   = "/run/lifeboat/events.jsonl" // one report.Event a line, by the worker
	ManifestPath = "/etc/lifeboat/manifest.json"
	KeymapPath   = "/etc/lifeboat/keymap"  // the host's keyboard map in the binary form of loadkeys, when it is not the kernel's own
	AnswersPath  = "/run/lifeboat/answers" // unix socket of the worker: consoles send what people typed
)

// What a recovery leaves in the system that it restores, as the next rescue
// system finds it there.
const (
	MarkInTarget = "/etc/lifeboat/recovered.json" // which order restored it; JSON with "order"; /etc is always on the root filesystem
	MarkFailed   = "failed"                       // "state" of that mark when files were lost: the order is not done
	JournalDir   = "/.lifeboat-recover"           // of a recovery that is not finished
)

// donePrefix begins the names of files that say by their name alone which
// order was carried out: a boot menu can look for names only.
const donePrefix = "/.lifeboat-done-"

// DoneFile is a file at the top of the restored system's root filesystem, of
// the one that holds /boot and of its EFI system partitions, by which the boot
// menu of a medium that was left in the machine knows that the order is done
// and starts the local disk. "" for an id that can be no file name. The id "*"
// gives the pattern of all such names: no backup holds them, or a recovery
// that was cut off would look like one that is done.
func DoneFile(order string) string {
	ok := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r == '-' || r == '_'
	}
	if order == "" || len(order) > 64 || order != "*" && strings.IndexFunc(order, func(r rune) bool { return !ok(r) }) >= 0 {
		return ""
	}
	return donePrefix + order
}

// DoneOrder is the order that a file at the top of a filesystem says is done.
func DoneOrder(name string) (order string, ok bool) {
	order, ok = strings.CutPrefix("/"+name, donePrefix)
	return order, ok && order != "*" && DoneFile(order) != ""
}

// Modes of Order.Recover.
const (
	Menu = "menu"
	Auto = "auto"
	Off  = "off"
	// Repair mends what starts an intact system, and does nothing to any other:
	// only this word makes a repair begin with nobody there.
	Repair = "repair"
)

// What follows a recovery that ended well.
const (
	Reboot   = "reboot"
	Poweroff = "poweroff"
	Stay     = "stay"
)

// Order is what this boot is to do.
type Order struct {
	ID       string   `json:"id"`       // of the order; the image's build id when nobody gave one
	BuildID  string   `json:"build_id"` // of the image, how its medium is found again
	Host     string   `json:"host"`     // whose recovery
	Built    string   `json:"built"`    // RFC 3339, the clock is never before it
	Recover  string   `json:"recover"`  // menu, auto, off, repair
	Then     string   `json:"then"`     // reboot, poweroff, stay
	Verify   string   `json:"verify"`   // index, full, "" (the default of rule 1)
	Backup   Backup   `json:"backup"`
	Mapping  string   `json:"mapping,omitempty"` // path in the image or URL
	Server   string   `json:"server,omitempty"`
	Ticket   string   `json:"ticket,omitempty"` // one use; never logged
	SSH      string   `json:"ssh,omitempty"`    // authorized keys file in the image, or URL
	Net      Net      `json:"net"`
	Consoles []string `json:"consoles,omitempty"`
	Debug    bool     `json:"debug,omitempty"`
	Keymap   string   `json:"keymap,omitempty"`
	Reason   string   `json:"reason,omitempty"` // why only the menu is offered (uncovered mounts)
	Drill    bool     `json:"drill,omitempty"`  // a virtual machine tries this image: the restored system reports once
}

// Backup says where the backup is and by which method it is read.
type Backup struct {
	Method    string `json:"method"` // archive, …
	URL       string `json:"url"`    // of one archive, or of a store with HOST/DATE below it
	TokenFile string `json:"token_file,omitempty"`
}

// Net is what the kernel command line says of the network.
type Net struct {
	IP     []string `json:"ip,omitempty"` // values of ip= in the kernel's own syntax
	BootIF string   `json:"bootif,omitempty"`
	Off    bool     `json:"off,omitempty"` // noip
}

// Decode reads an order; unknown fields are errors.
func Decode(data []byte) (Order, error) {
	var o Order
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return o, fmt.Errorf("read the order: %w", err)
	}
	return o, o.Validate()
}

// Validate names a field that holds no valid value.
func (o Order) Validate() error {
	oneOf := func(name, v string, ok ...string) error {
		for _, x := range ok {
			if v == x {
				return nil
			}
		}
		return fmt.Errorf("order: %s is %q; it must be one of %s", name, v, strings.Join(ok, ", "))
	}
	if err := oneOf("recover", o.Recover, Menu, Auto, Off, Repair); err != nil {
		return err
	}
	if err := oneOf("then", o.Then, Reboot, Poweroff, Stay); err != nil {
		return err
	}
	return oneOf("verify", o.Verify, "", "index", "full")
}

// Encode writes the order.
func (o Order) Encode() []byte {
	b, _ := json.MarshalIndent(o, "", "  ")
	return append(b, '\n')
}

// Redacted is the order without its ticket, for logs and reports.
func (o Order) Redacted() Order {
	if o.Ticket != "" {
		o.Ticket = "(redacted)"
	}
	return o
}
