package capture

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"lifeboat/manifest"
)

// networkGlobs are the files that configure the network, by the way in which
// each distribution does.
var networkGlobs = []string{
	"etc/hostname", "etc/hosts", "etc/resolv.conf",
	"etc/network/interfaces", "etc/network/interfaces.d/*",
	"etc/netplan/*.yaml",
	"etc/systemd/network/*", "etc/systemd/network/*/*",
	"etc/NetworkManager/NetworkManager.conf", "etc/NetworkManager/conf.d/*", "etc/NetworkManager/system-connections/*",
	"etc/sysconfig/network", "etc/sysconfig/network-scripts/ifcfg-*", "etc/sysconfig/network-scripts/route*-*", "etc/sysconfig/network-scripts/rule*-*",
	"etc/sysconfig/network/ifcfg-*", "etc/sysconfig/network/ifroute-*", "etc/sysconfig/network/routes", "etc/sysconfig/network/config",
	"etc/udev/rules.d/*net*.rules",
}

// maxFile bounds a file that is kept as text.
const maxFile = 256 << 10

// networkFiles reads them, secrets taken out.
func (h *host) networkFiles() ([]manifest.File, error) {
	var out []manifest.File
	for _, g := range networkGlobs {
		for _, name := range h.glob(g) {
			st, err := h.root.Stat(name)
			if err != nil || !st.Mode().IsRegular() || st.Size() > maxFile || strings.HasSuffix(name, "~") {
				continue
			}
			b, err := h.root.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("read the network configuration: %w", err)
			}
			out = append(out, manifest.File{Path: manifest.Bytes("/" + name), Text: manifest.Bytes(Redact(string(b)))})
		}
	}
	slices.SortFunc(out, func(a, b manifest.File) int { return strings.Compare(string(a.Path), string(b.Path)) })
	return out, nil
}

// glob finds the entries of the host that a pattern names.
func (h *host) glob(pattern string) []string {
	at := []string{""}
	for _, part := range strings.Split(pattern, "/") {
		var next []string
		for _, dir := range at {
			if !strings.ContainsAny(part, "*?[") {
				if p := path.Join(dir, part); h.exists(p) {
					next = append(next, p)
				}
				continue
			}
			entries, _ := h.root.ReadDir(dir)
			for _, e := range entries {
				if ok, _ := path.Match(part, e.Name()); ok {
					next = append(next, path.Join(dir, e.Name()))
				}
			}
		}
		at = next
	}
	return at
}

// networkSystem tells what brings the network up: what runs counts more than
// what lies in /etc.
func (h *host) networkSystem() string {
	has := func(patterns ...string) bool {
		for _, p := range patterns {
			if len(h.glob(p)) > 0 {
				return true
			}
		}
		return false
	}
	for _, s := range []struct {
		name string
		is   bool
	}{
		{"netplan", has("etc/netplan/*.yaml")},
		{"networkmanager", has("run/NetworkManager/NetworkManager-intern.conf", "run/NetworkManager/conf.d", "etc/NetworkManager/system-connections/*")},
		{"wicked", has("etc/sysconfig/network/ifcfg-*")},
		{"ifcfg", has("etc/sysconfig/network-scripts/ifcfg-*")},
		{"networkd", has("run/systemd/netif/links/*", "etc/systemd/network/*.network")},
		{"ifupdown", has("etc/network/interfaces")},
	} {
		if s.is {
			return s.name
		}
	}
	return ""
}

// Taken is what stands where a secret was.
const Taken = "(secret)"

// secretName matches names of settings whose value is a secret, whatever the
// file's dialect. Too much is better than too little: the files come back
// with the backup, the manifest only informs.
var secretName = regexp.MustCompile(`(?i)(psk|passw|passphrase|\bpass\b|secret|private|preshared|shared|(^|[-_.])keys?[0-9]*$|key[0-9]*$|token|credential|(^|[-_.])pin$)`)

// harmless are names that match but tell no secret.
var harmless = regexp.MustCompile(`(?i)(key[-_]?mgmt|-flags$|key[-_]?management|keymap|method$|type$)`)

// setting splits "name = value", "name: value", "- name: value" and
// "name value" (ifupdown).
var setting = regexp.MustCompile(`^(\s*[#;]*\s*(?:-\s+)?(?:export\s+)?)(["']?)([A-Za-z0-9][A-Za-z0-9._-]*)(["']?\s*[:=]\s*|\s+)(\S.*)$`)

// opener is a setting whose value follows on deeper lines.
var opener = regexp.MustCompile(`^(\s*)(?:-\s+)?["']?([A-Za-z0-9][A-Za-z0-9._-]*)["']?\s*:\s*([|>][-+0-9]*)?\s*$`)

// Redact takes secrets out of a configuration file.
func Redact(text string) string {
	var out strings.Builder
	pem, secrets, block := false, false, -1
	for line := range strings.Lines(text) {
		body := strings.TrimRight(line, "\r\n")
		end := line[len(body):]
		indent := len(body) - len(strings.TrimLeft(body, " \t"))
		trimmed := strings.TrimSpace(body)
		if strings.HasPrefix(trimmed, "[") && strings.HasSuffix(trimmed, "]") {
			secrets = strings.Contains(strings.ToLower(trimmed), "secret")
		}
		if block >= 0 && trimmed != "" && indent <= block {
			block = -1
		}
		switch {
		case pem || strings.Contains(body, "-----BEGIN ") && strings.Contains(body, "PRIVATE"):
			if !pem {
				out.WriteString(Taken + end)
			}
			pem = !strings.Contains(body, "-----END ")
			continue
		case block >= 0 && trimmed != "":
			out.WriteString(body[:indent] + Taken + end)
			continue
		}
		if m := opener.FindStringSubmatch(body); m != nil && isSecret(m[2]) {
			block = len(m[1]) // YAML: all that is deeper belongs to it
		}
		out.WriteString(redactLine(body, secrets) + end)
	}
	return out.String()
}

func isSecret(name string) bool { return secretName.MatchString(name) && !harmless.MatchString(name) }

func redactLine(body string, secrets bool) string {
	m := setting.FindStringSubmatch(body)
	if m == nil {
		return body
	}
	if secrets || isSecret(m[3]) {
		return m[1] + m[2] + m[3] + m[4] + Taken
	}
	// Options within a value: wpa-psk in a list, "password=x" in quotes.
	return inline.ReplaceAllString(body, "$1"+Taken)
}

// inline matches a secret given as name=value inside another value.
var inline = regexp.MustCompile(`(?i)((?:psk|password|passwd|passphrase|secret|private[-_]?key|preshared[-_]?key)["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;}]+)`)
