package builder

import (
	"fmt"
	"strings"
	"time"

	"lifeboat/internal/authkeys"
	"lifeboat/internal/handoff"
	"lifeboat/manifest"
	"lifeboat/report"
)

// Where the builder puts what the order points to.
const (
	backupTokenInImage = "/etc/lifeboat/backup-token"
	serverTokenInImage = "/etc/lifeboat/server-token"
	mappingInImage     = "/etc/lifeboat/mapping.yaml"
	sshKeysInImage     = "/etc/lifeboat/authorized_keys"
	// Go programs and most others read every file of this folder.
	backupCAInImage = "/etc/ssl/certs/lifeboat-backup-ca.pem"
)

// makeOrder makes the order of the image from the configuration. A host with
// mounts that cannot be recovered gets the menu only, with the reason on its
// first screen.
func (b *build) makeOrder() handoff.Order {
	c, m := b.o.Config, b.o.Manifest
	o := handoff.Order{
		Host: m.Host.Name, Built: m.Made.UTC().Format(time.RFC3339),
		Recover: c.Recover.Mode, Then: c.Recover.Then, Verify: c.Recover.Verify,
		Backup:   handoff.Backup{Method: c.Backup.Method, URL: c.Backup.URL},
		Server:   c.Server.URL,
		Consoles: m.Boot.Consoles, Keymap: m.Host.Keymap,
	}
	if c.Backup.TokenFile != "" {
		o.Backup.TokenFile = backupTokenInImage
	}
	if o.Mapping = c.Recover.Mapping; localFile(o.Mapping) != "" {
		o.Mapping = mappingInImage
	}
	if o.SSH = c.SSH.AuthorizedKeys; localFile(o.SSH) != "" {
		o.SSH = sshKeysInImage
	}
	if why := b.uncovered(); why != "" {
		o.Recover, o.Reason = handoff.Menu, why
	}
	return o
}

// uncovered names every mount that a recovery would lose and whose loss
// nobody accepted, and what else the plan refuses.
func (b *build) uncovered() string {
	var list []string
	seen := map[string]bool{}
	add := func(u manifest.Uncovered) {
		if line := fmt.Sprintf("%s: %s", u.Path, u.Reason); !u.Accepted && !seen[line] {
			seen[line] = true
			list = append(list, line)
		}
	}
	for _, u := range b.o.Manifest.Uncovered {
		add(u)
	}
	for _, u := range b.plan.Uncovered {
		add(u)
	}
	for _, r := range b.plan.Refusals {
		if !seen[r.Text] {
			seen[r.Text] = true
			list = append(list, r.Text)
		}
	}
	if len(list) == 0 {
		return ""
	}
	why := "this host cannot be recovered as captured: " + strings.Join(list, "; ")
	b.problem(report.Problem{Code: report.CodeUncovered, Severity: report.Error, Text: why, Details: list,
		Next: "the image offers the menu only; accept a loss by name in uncovered:"})
	return why
}

// orderFiles packs the files that the order points to. Each is packed
// because the configuration names it, and readable by root only.
func (b *build) orderFiles() error {
	c := b.o.Config
	for _, f := range []struct{ from, to, key string }{
		{c.Backup.TokenFile, backupTokenInImage, "backup.token_file"},
		{c.Server.TokenFile, serverTokenInImage, "server.token_file"},
		{c.Backup.CAFile, backupCAInImage, "backup.ca_file"},
		{localFile(c.SSH.AuthorizedKeys), sshKeysInImage, "ssh.authorized_keys"},
		{localFile(c.Recover.Mapping), mappingInImage, "recover.mapping"},
	} {
		if f.from == "" {
			continue
		}
		data, err := b.host.ReadFile(f.from)
		if err != nil {
			return report.Errorf(report.CodeConfig, "correct "+f.key, "%s: %w", f.key, err)
		}
		if f.to == sshKeysInImage {
			if _, err := authkeys.Parse(f.from, data); err != nil {
				return err
			}
		}
		if err := b.packer.Tree.File(f.to, 0o600, data, f.key); err != nil {
			return err
		}
	}
	return nil
}

// localFile is a path of this host; "" for an address, which the rescue
// system reads by itself.
func localFile(s string) string {
	if strings.Contains(s, "://") {
		return ""
	}
	return s
}
