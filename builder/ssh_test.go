package builder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/builder/payload"
	"lifeboat/report"
)

// A file of keys that would let nobody in is found when the image is built,
// not on the day when it is needed.
func TestKeysFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "/" + name
	}
	const good = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINlkk0TL+k9nIHQYZsN5+1q7XPcWQ2lXOqAH7j7VJbRp anna\n"
	for _, c := range []struct{ file, want string }{
		{write("good", good), ""},
		{"/missing", "ssh.authorized_keys: "},
		{write("empty", "# nobody yet\n"), "/empty holds no key"},
		{write("wrong", good+"ssh-rsa nonsense\n"), "/wrong:2: no public key"},
		{"https://keys.example/of-the-site", ""}, // read by the rescue system
	} {
		b := planned(t, alpha("6.1.0"))
		b.host = payload.NewHost(dir)
		b.o.Config.SSH.AuthorizedKeys = c.file
		b.packer = &payload.Packer{Tree: payload.NewTree()}
		err := b.orderFiles()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.file, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || report.ProblemOf(err).Next == "" || report.ExitOf(err) != report.ExitUsage):
			t.Errorf("%s: %v (exit %d)", c.file, err, report.ExitOf(err))
		}
		if e := b.packer.Tree.Get("/etc/lifeboat/authorized_keys"); (e != nil) != (c.file == "/good") {
			t.Errorf("%s: packed: %v", c.file, e)
		}
	}
}
