// Package netconf rewrites the addresses by which configuration files find
// network cards, and makes the rules by which cards keep their names.
// Level 2: dialects: text → values, values + old→new table → edits; pure.
package netconf

import (
	"bytes"
	"path"
	"regexp"
	"strings"
)

// Table gives the new address of a card by the old one; both lower case with
// colons.
type Table map[string]string

// Files are where cards are named by their addresses, as globs below the root.
var Files = []string{
	"etc/systemd/network/*.link", "etc/systemd/network/*.network", "etc/systemd/network/*.link.d/*.conf", "etc/systemd/network/*.network.d/*.conf",
	"etc/netplan/*.yaml", "etc/netplan/*.yml",
	"etc/NetworkManager/NetworkManager.conf", "etc/NetworkManager/conf.d/*.conf", "etc/NetworkManager/system-connections/*",
	"etc/sysconfig/network-scripts/ifcfg-*", "etc/sysconfig/network/ifcfg-*",
	"etc/network/interfaces", "etc/network/interfaces.d/*",
	"etc/udev/rules.d/*.rules",
	"etc/default/grub", "etc/default/grub.d/*.cfg", "etc/kernel/cmdline", "boot/grub/grub.cfg", "boot/grub2/grub.cfg", "boot/loader/entries/*.conf",
}

const (
	octet   = `[0-9A-Fa-f]{2}`
	address = octet + `(?:[:-]` + octet + `){5}`
)

var (
	mac = regexp.MustCompile(`[0-9A-Fa-f:-]+`) // whole, so that no part of a longer address is taken
	// udev compares with ==; a single = sets.
	udevMatch = regexp.MustCompile(`(?:ATTRS?|SYSFS)\{(?:address|permaddr)\}\s*==\s*"[^"]*"`)
	// An interface is found by ifname=NAME:MAC, or by BOOTIF=01-MAC.
	bootIF = regexp.MustCompile(`(?:\bifname=[^\s"':]+:|\bBOOTIF=01-)` + address)
	// ifupdown's patterns, such as rename /mac/00:11:22:33:44:55=lan0; its
	// hwaddress sets.
	byPattern = regexp.MustCompile(`\bmac/` + address)
	// NetworkManager's own lists: mac:XX in match-device=, unmanaged-devices=.
	nmMatch = regexp.MustCompile(`\bmac:` + address)
)

// Rewrite puts the new address where a file says by which address a card is
// found. What an address is set to (MACADDR=, hwaddress, cloned-mac-address,
// macaddress outside of match) is the host's own choice and stays. The path
// tells the dialect.
func Rewrite(name string, text []byte, t Table) (out []byte, changes int) {
	name = strings.TrimPrefix(name, "/")
	r := rewriter{t: t}
	switch base := path.Base(name); {
	case strings.HasPrefix(name, "etc/netplan/"):
		return r.netplan(text)
	case strings.HasPrefix(name, "etc/systemd/network/"):
		return r.lines(text, r.networkd)
	case strings.HasPrefix(name, "etc/NetworkManager/"):
		return r.lines(text, r.keyfile)
	case strings.HasPrefix(base, "ifcfg-"):
		return r.lines(text, r.ifcfg)
	case strings.HasPrefix(name, "etc/udev/"):
		return r.lines(text, func(_, line string) string { return udevMatch.ReplaceAllStringFunc(line, r.all) })
	case strings.HasPrefix(name, "etc/network/"):
		return r.lines(text, func(_, line string) string { return byPattern.ReplaceAllStringFunc(line, r.tail) })
	}
	return r.lines(text, func(_, line string) string { return bootIF.ReplaceAllStringFunc(line, r.tail) })
}

type rewriter struct {
	t Table
	n int
}

// lines edits line by line; edit gets the section in which a line stands, in
// lower case, and the line without its end. Comments stay.
func (r *rewriter) lines(text []byte, edit func(section, line string) string) ([]byte, int) {
	var b bytes.Buffer
	section := ""
	for line := range strings.Lines(string(text)) {
		body := strings.TrimRight(line, "\r\n")
		t := strings.TrimSpace(body)
		switch {
		case strings.HasPrefix(t, "#") || strings.HasPrefix(t, ";"):
		case strings.HasPrefix(t, "[") && strings.HasSuffix(t, "]"):
			section = strings.ToLower(t[1 : len(t)-1])
		default:
			b.WriteString(edit(section, body) + line[len(body):])
			continue
		}
		b.WriteString(line)
	}
	if r.n == 0 {
		return text, 0
	}
	return b.Bytes(), r.n
}

// all replaces every known address in s.
func (r *rewriter) all(s string) string {
	return mac.ReplaceAllStringFunc(s, func(m string) string {
		if len(m) != addressLen {
			return m
		}
		return r.one(m)
	})
}

// addressLen is the length of an address in text.
const addressLen = len("00:11:22:33:44:55")

// tail replaces the address that s ends with.
func (r *rewriter) tail(s string) string {
	return s[:len(s)-addressLen] + r.one(s[len(s)-addressLen:])
}

// one is the new address in the spelling of the old one: its separator and its
// case.
func (r *rewriter) one(old string) string {
	now, ok := r.t[strings.ToLower(strings.ReplaceAll(old, "-", ":"))]
	if !ok {
		return old
	}
	r.n++
	if strings.ToUpper(old) == old && strings.ContainsAny(old, "ABCDEF") {
		now = strings.ToUpper(now)
	}
	if strings.Contains(old, "-") {
		now = strings.ReplaceAll(now, ":", "-")
	}
	return now
}

// set replaces in the value of a setting whose name is one of names.
func (r *rewriter) set(line string, names ...string) string {
	key, value, ok := strings.Cut(line, "=")
	if !ok {
		return line
	}
	for _, n := range names {
		if strings.EqualFold(strings.TrimSpace(key), n) {
			return key + "=" + r.all(value)
		}
	}
	return line
}

// networkd: [Match] finds, [Link] and [NetDev] set.
func (r *rewriter) networkd(section, line string) string {
	if section != "match" {
		return line
	}
	return r.set(line, "MACAddress", "PermanentMACAddress")
}

// keyfile: connections by mac-address, and the lists of NetworkManager.conf.
func (r *rewriter) keyfile(section, line string) string {
	switch section {
	case "ethernet", "802-3-ethernet", "wifi", "802-11-wireless", "infiniband":
		return r.set(line, "mac-address", "mac-address-blacklist", "mac-address-denylist")
	case "main":
		return r.set(line, "no-auto-default")
	}
	return nmMatch.ReplaceAllStringFunc(line, r.tail)
}

// ifcfg: HWADDR finds; MACADDR and LLADDR set. Files are shell.
func (r *rewriter) ifcfg(_, line string) string { return r.set(line, "HWADDR") }
