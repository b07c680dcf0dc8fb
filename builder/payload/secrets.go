package payload

import (
	"bytes"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Secret is a file that must not come into other hands.
type Secret struct {
	Path string // in the image, absolute
	Why  string
}

// secretPaths are patterns of files that hold secrets wherever they lie; a
// pattern without a slash is compared with the name alone.
var secretPaths = []struct{ pattern, why string }{
	{"/etc/shadow*", "password hashes"}, {"/etc/gshadow*", "password hashes"}, {"/etc/security/opasswd*", "password hashes"},
	{"/etc/ssh/ssh_host_*key", "host key of the SSH server"},
	{"/root/.ssh/id_*", "SSH key"}, {"/home/*/.ssh/id_*", "SSH key"},
	{"/etc/ssl/private/*", "TLS key"}, {"/etc/pki/tls/private/*", "TLS key"}, {"*.key", "private key"},
	{"*.p12", "certificate with key"}, {"*.pfx", "certificate with key"}, {"*.jks", "key store"}, {"*.keystore", "key store"},
	{"*.keytab", "Kerberos keys"}, {"*.keyring", "Ceph keys"}, {"*.kdbx", "password store"},
	{"/etc/NetworkManager/system-connections/*", "network passwords"}, {"/etc/wpa_supplicant/*", "network passwords"},
	{"/etc/ipsec.secrets", "VPN secrets"}, {"/etc/wireguard/*", "VPN keys"}, {"/etc/ppp/*-secrets", "dial-up passwords"},
	{"/etc/iscsi/iscsid.conf", "may hold CHAP passwords"}, {"/etc/lifeboat/*token*", "token of Lifeboat"}, {"/etc/lifeboat/*password*", "password of Lifeboat"},
	{".netrc", "passwords"}, {".pgpass", "passwords"}, {".my.cnf", "passwords"}, {"debian.cnf", "database password"},
	{"*credentials", "passwords"}, {"*.smbcred*", "passwords"}, {"/root/.gnupg/*", "keys"}, {"/var/lib/tpm2-*/*", "TPM secrets"},
}

// notSecret are name patterns that look like one of the above and are not.
var notSecret = []string{"*.pub", "trusted.key", "root.key"}

// programFolders hold files of packages, which are public.
var programFolders = []string{"/usr/bin/", "/usr/sbin/", "/usr/lib/", "/usr/lib32/", "/usr/lib64/", "/usr/libexec/", "/usr/share/", "/bbin/"}

var privateKey = regexp.MustCompile(`-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY( BLOCK)?-----`)

// passwordLine finds configuration lines that set a secret.
var passwordLine = regexp.MustCompile(`(?im)^[ \t"]*(psk|password|wpa-psk|secret|token|ticket|access_key|secret_key|node\.session\.auth\.password(_in)?)["]?[ \t]*[=:][ \t]*"?[^\s"]`)

// SecretWhy tells why a file counts as a secret; "" when it does not. Content
// may be nil: then the path alone decides.
func SecretWhy(p string, content []byte) string {
	p = path.Clean("/" + p)
	base := path.Base(p)
	if !MayHoldSecret(p) {
		return ""
	}
	for _, n := range notSecret {
		if ok, _ := path.Match(n, base); ok {
			return ""
		}
	}
	for _, s := range secretPaths {
		subject := p
		if !strings.Contains(s.pattern, "/") {
			subject = base
		}
		if ok, _ := path.Match(s.pattern, subject); ok {
			return s.why
		}
	}
	if len(content) > 1<<20 || bytes.IndexByte(content[:min(len(content), 512)], 0) >= 0 {
		return ""
	}
	switch {
	case privateKey.Match(content):
		return "private key"
	case strings.HasPrefix(p, "/etc/") && (passwordLine.Match(content) || userInURL.Match(content)):
		return "holds a password or token"
	}
	return ""
}

// userInURL finds a password inside an address.
var userInURL = regexp.MustCompile(`://[^/\s:@]+:[^/\s@]+@`)

// secretRules are the rules above with what this host itself says.
type secretRules struct{ keyFiles []string }

// newSecretRules reads which key files crypttab names.
func newSecretRules(h *Host) *secretRules {
	r := &secretRules{}
	b, err := h.ReadFile("/etc/crypttab")
	if err != nil {
		return r
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 3 || strings.HasPrefix(f[0], "#") || !path.IsAbs(f[2]) || strings.HasPrefix(f[2], "/dev/") {
			continue
		}
		file, _, _ := strings.Cut(f[2], ":")
		if c, _, err := h.Follow(file); err == nil {
			r.keyFiles = append(r.keyFiles, c)
		}
	}
	return r
}

func (r *secretRules) why(p string, content []byte) string {
	if slices.Contains(r.keyFiles, path.Clean("/"+p)) {
		return "key of an encrypted disk (crypttab)"
	}
	return SecretWhy(p, content)
}

// Secrets lists the secrets in a tree.
func (t *Tree) Secrets() ([]Secret, error) {
	var out []Secret
	for _, e := range t.Entries() {
		if !e.Mode.IsRegular() || e.Part == PartModules {
			continue
		}
		why := SecretWhy(e.Path, nil)
		if why == "" && MayHoldSecret(e.Path) {
			b, err := e.Content()
			if err != nil {
				return nil, err
			}
			why = SecretWhy(e.Path, b)
		}
		if why != "" {
			out = append(out, Secret{"/" + e.Path, why})
		}
	}
	return out, nil
}

// MayHoldSecret tells whether a file's content is worth looking at: those of
// programs and libraries are public.
func MayHoldSecret(p string) bool {
	p = path.Clean("/" + p)
	return !slices.ContainsFunc(programFolders, func(folder string) bool { return strings.HasPrefix(p, folder) })
}

// private makes a packed secret readable by root only, whatever it was.
func private(m fs.FileMode) fs.FileMode { return m &^ 0o077 }
