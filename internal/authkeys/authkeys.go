// Package authkeys reads the keys of people who may log in to the rescue
// system by SSH.
// Level 1: builder and rescue judge a file by the same rules.
package authkeys

import (
	"bytes"
	"crypto/rsa"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"lifeboat/report"
)

// Key is one key that may log in.
type Key struct {
	Public  ssh.PublicKey
	Comment string
}

// minRSA is what OpenSSH's own client and server still accept, in bits.
const minRSA = 2048

// Parse reads a file in the form of authorized_keys. Every line counts: one
// that is not understood is an error, because a person would find out about it
// only when nothing else is left. So are options: to ignore command= or from=
// would give more than the line says.
func Parse(name string, data []byte) ([]Key, error) {
	bad := func(line int, format string, args ...any) error {
		return report.Errorf(report.CodeConfig, "write one public key a line, as ssh-keygen makes them in *.pub",
			"%s:%d: %s", name, line, fmt.Sprintf(format, args...))
	}
	if bytes.Contains(data, []byte("PRIVATE KEY-----")) {
		return nil, bad(1, "this is a private key; it must stay with its owner")
	}
	var out []Key
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		k, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
		switch {
		case err != nil:
			return nil, bad(n, "no public key is read there: %v", err)
		case len(options) > 0:
			return nil, bad(n, "options before a key (%s) are not supported", options[0])
		case k.Type() == ssh.InsecureKeyAlgoDSA:
			return nil, bad(n, "DSA keys are too weak")
		case strings.Contains(k.Type(), "-cert-"):
			return nil, bad(n, "certificates are not supported; name the key itself")
		}
		if c, ok := k.(ssh.CryptoPublicKey); ok {
			if r, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok && r.N.BitLen() < minRSA {
				return nil, bad(n, "the RSA key has %d bits; fewer than %d are too weak", r.N.BitLen(), minRSA)
			}
		}
		out = append(out, Key{Public: k, Comment: comment})
	}
	if len(out) == 0 {
		return nil, report.Errorf(report.CodeConfig, "add a public key, or leave ssh.authorized_keys out", "%s holds no key: nobody could log in", name)
	}
	return out, nil
}
