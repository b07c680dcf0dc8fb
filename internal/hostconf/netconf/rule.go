package netconf

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Card is a network card that is to keep a name.
type Card struct {
	Name   string // of the interface
	MAC    string // of the card
	Driver string // of the card; "" when unknown
}

// permanent is the version of systemd from which .link files can ask for the
// address that a card was made with.
const permanent = 245

// LinkPath is where the rule for a name lies: before the files of the host,
// the first that matches is the only one that counts.
func LinkPath(name string) string { return "etc/systemd/network/10-lifeboat-" + name + ".link" }

// Link is the .link file by which udev gives a card its name. VLANs, bonds and
// bridges have the address of their card, too, and must not be found by it.
func Link(c Card, systemd int) []byte {
	return []byte("# Written by lifeboat when this system was recovered: this card has the place of\n" +
		"# the one that was called " + c.Name + " before.\n[Match]\n" + match(c, systemd) + "\n[Link]\nName=" + c.Name + "\n")
}

// match finds a card alone.
func match(c Card, systemd int) string {
	if systemd >= permanent {
		return "PermanentMACAddress=" + c.MAC + "\n"
	}
	s := "MACAddress=" + c.MAC + "\n"
	if c.Driver != "" {
		s += "Driver=" + c.Driver + "\n"
	}
	return s
}

// RivalPath is where the rule lies that keeps another card from a name.
func RivalPath(name string) string { return "etc/systemd/network/10-lifeboat-not-" + name + ".link" }

// RivalLink names a card by its address, not by its place, from which it
// would get the name of c.
func RivalLink(c Card, rival string, systemd int) []byte {
	return []byte("# Written by lifeboat when this system was recovered: this card stands where the\n" +
		"# one that is called " + c.Name + " stood before, and must leave the name to it.\n[Match]\n" +
		match(Card{MAC: rival}, systemd) + "\n[Link]\nNamePolicy=mac\n")
}

// Keeps tells whether a configuration file of the host itself gives a card
// with that address (as it is now) that name.
func Keeps(path string, text []byte, c Card) bool {
	addr := strings.ToLower(c.MAC)
	switch {
	case strings.HasSuffix(path, ".link"):
		s := strings.ToLower(string(text))
		return inSection(s, "match", "macaddress", addr) && inSection(s, "link", "name", strings.ToLower(c.Name)) ||
			inSection(s, "match", "permanentmacaddress", addr) && inSection(s, "link", "name", strings.ToLower(c.Name))
	case strings.HasSuffix(path, ".rules"):
		for line := range strings.Lines(string(text)) {
			if t := strings.TrimSpace(line); !strings.HasPrefix(t, "#") && strings.Contains(strings.ToLower(line), `"`+addr+`"`) && nameRule(line) == c.Name {
				return true
			}
		}
	}
	return false
}

var ruleName = regexp.MustCompile(`\bNAME\s*:?=\s*"([^"]*)"`)

func nameRule(line string) string {
	if m := ruleName.FindStringSubmatch(line); m != nil {
		return m[1]
	}
	return ""
}

// inSection tells whether a section of a lower-case file sets key to a list
// that holds value.
func inSection(text, section, key, value string) bool {
	in := false
	for line := range strings.Lines(text) {
		t := strings.TrimSpace(line)
		if strings.HasPrefix(t, "[") {
			in = t == "["+section+"]"
			continue
		}
		k, v, ok := strings.Cut(t, "=")
		if !ok || !in || strings.TrimSpace(k) != key {
			continue
		}
		for _, f := range strings.Fields(v) {
			if f == value {
				return true
			}
		}
	}
	return false
}

// sharedLib is systemd's own library, which has its version in its name.
var sharedLib = regexp.MustCompile(`^libsystemd-shared-(\d{3,})`)

// Systemd reads the version of systemd from the names of the files in its
// folder; 0 when none tells.
func Systemd(names []string) int {
	for _, n := range names {
		if m := sharedLib.FindStringSubmatch(n); m != nil {
			v, _ := strconv.Atoi(m[1])
			return v
		}
	}
	return 0
}

// KernelName tells whether a name is one that the kernel gives by itself, in
// the order in which it finds cards: udev cannot give such a name to a card
// while another one has it.
func KernelName(name string) bool { return kernelName.MatchString(name) }

var kernelName = regexp.MustCompile(`^(?:eth|wlan|ib)\d+$`)

// String is the card for people.
func (c Card) String() string { return fmt.Sprintf("%s (%s)", c.Name, c.MAC) }
