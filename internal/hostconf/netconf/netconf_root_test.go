//go:build root

package netconf

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// judge asks udev itself, in namespaces of its own, what a card would be
// called: the folder $1 holds the rules, $2 the driver of an interface with
// the address of all of them.
const judge = `set -eu
mount -t tmpfs none /run; mkdir -p /run/systemd/network /run/udev
mount -t sysfs none /sys
case $2 in
veth) ip link add name card type veth peer name other ;;
tun) ip tuntap add card mode tap ;;
esac
ip link set card address 02:00:00:00:00:0d
cp "$1"/* /run/systemd/network/
udevadm test-builtin net_setup_link /sys/class/net/card 2>/dev/null
`

// TestUdevNames: udev reads the files as they are meant.
func TestUdevNames(t *testing.T) {
	const lan = "enp1s0"
	card := Card{Name: lan, MAC: "02:00:00:00:00:0d", Driver: "veth"}
	for _, c := range []struct {
		name   string
		driver string
		files  map[string][]byte
		want   string // of the properties
	}{
		{"an older systemd's rule", "veth", map[string][]byte{LinkPath(lan): Link(card, 244)}, "ID_NET_NAME=" + lan + "\n"},
		{"another driver with the same address", "tun", map[string][]byte{LinkPath(lan): Link(card, 244)}, "ID_NET_NAME=card\n"},
		{"another address with the same driver", "veth", map[string][]byte{LinkPath(lan): Link(Card{Name: lan, MAC: "02:00:00:00:00:0e", Driver: "veth"}, 244)}, "ID_NET_NAME=card\n"},
		{"what has no address of its own making", "veth", map[string][]byte{LinkPath(lan): Link(card, 252)}, "ID_NET_NAME=card\n"},
		{"a host's rule with the address rewritten", "veth", map[string][]byte{"50-x.link": rewritten("[Match]\nMACAddress=52-54-00-AA-BB-01\n[Link]\nName=lan0\n")}, "ID_NET_NAME=lan0\n"},
		{"a rival is not named by its place", "veth", map[string][]byte{RivalPath(lan): RivalLink(card, card.MAC, 244)}, "ID_NET_LINK_FILE=/run/systemd/network/10-lifeboat-not-" + lan + ".link\nID_NET_NAME=card\n"},
	} {
		dir := t.TempDir()
		for n, text := range c.files {
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(n)), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command("unshare", "-nm", "bash", "-c", judge, "judge", dir, c.driver).CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: no %q in\n%s%v", c.name, c.want, out, err)
		}
	}
}

func rewritten(text string) []byte {
	out, _ := Rewrite("etc/systemd/network/50-x.link", []byte(text), table)
	return out
}
