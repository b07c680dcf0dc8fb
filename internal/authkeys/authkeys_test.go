package authkeys

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"lifeboat/report"
)

func line(t testing.TB, public any) string {
	t.Helper()
	k, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
}

func TestParse(t *testing.T) {
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GODEBUG", "rsa1024min=0")
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := line(t, ed) + " anna@desk"
	for text, want := range map[string]string{
		"# people\n\n  " + good + "\r\n" + good: "",
		"":                                      "holds no key",
		"# nobody\n":                            "holds no key",
		good + "\nssh-ed25519 AAAA bert":        "keys:2: no public key",
		"command=\"/bin/true\" " + good:         "options before a key (command=",
		line(t, &weak.PublicKey):                "1024 bits",
		"-----BEGIN OPENSSH PRIVATE KEY-----\n": "private key",
		"\x00\xff":                              "keys:1: no public key",
	} {
		k, err := Parse("keys", []byte(text))
		switch {
		case want == "" && (err != nil || len(k) != 2 || k[0].Comment != "anna@desk"):
			t.Errorf("%q: %v %v", text, k, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || report.ProblemOf(err).Next == ""):
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1Y8Q5v7p1V0l9jzB0a3p5wVtRzYx5b8m1k2n3o4p5q x"))
	f.Add([]byte("no-pty,from=\"10.*\" ssh-rsa AAAA"))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := Parse("f", b)
		if (err == nil) != (len(k) > 0) {
			t.Errorf("%d keys, %v", len(k), err)
		}
	})
}
