package adapt

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/internal/chroot"
	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// netTree adapts the network of a tree of files; it returns the folder.
func netTree(t *testing.T, cards []plan.Card, nics int, files map[string]string) (string, []report.Problem, *Adapter) {
	t.Helper()
	dir := t.TempDir()
	for f, text := range files {
		p := filepath.Join(dir, f)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := chroot.At(dir, &run.Fake{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	var problems []report.Problem
	a := &Adapter{Root: root, Manifest: &manifest.Manifest{}, Plan: &plan.Plan{Cards: cards}, Machine: &manifest.Machine{NICs: make([]manifest.NIC, nics)},
		Sink: report.SinkFunc(func(e report.Event) {
			if e.Problem != nil {
				problems = append(problems, *e.Problem)
			}
		})}
	if err := a.Network(context.Background(), plan.Step{}); err != nil {
		t.Fatal(err)
	}
	return dir, problems, a
}

func netText(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const (
	oldMAC  = "52:54:00:aa:bb:01"
	newMAC  = "02:00:00:00:00:0d"
	udevLib = "usr/lib/systemd/libsystemd-shared-252.so"
)

// TestNetwork: the configuration finds the new card, and a rule names it; what
// was secret stays so.
func TestNetwork(t *testing.T) {
	const key = "etc/NetworkManager/system-connections/lan.nmconnection"
	dir, problems, a := netTree(t, []plan.Card{{Name: "enp1s0", OldMAC: oldMAC, NewMAC: newMAC, Driver: "igb"}}, 1, map[string]string{
		udevLib: "", key: "[ethernet]\nmac-address=52:54:00:AA:BB:01\n", "etc/network/interfaces": "auto enp1s0\niface enp1s0 inet dhcp\n"})
	if len(problems) > 0 || a.stale {
		t.Errorf("stale %v, %v", a.stale, problems)
	}
	if s := netText(t, dir, key); s != "[ethernet]\nmac-address=02:00:00:00:00:0D\n" {
		t.Error(s)
	}
	if st, err := os.Stat(filepath.Join(dir, key)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	if s := netText(t, dir, "etc/systemd/network/10-lifeboat-enp1s0.link"); !strings.Contains(s, "PermanentMACAddress="+newMAC+"\n") || !strings.Contains(s, "Name=enp1s0\n") {
		t.Error(s)
	}
}

// TestNetworkNamed: a rule of the host itself that names the card is rewritten,
// and nothing stands before it.
func TestNetworkNamed(t *testing.T) {
	const rules = "etc/udev/rules.d/70-persistent-net.rules"
	dir, problems, a := netTree(t, []plan.Card{{Name: "eth1", OldMAC: oldMAC, NewMAC: newMAC}, {Name: "lan0", OldMAC: "52:54:00:aa:bb:02", NewMAC: "02:00:00:00:00:0e"}}, 2, map[string]string{udevLib: "",
		rules:                           `SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{address}=="` + oldMAC + `", ATTR{type}=="1", KERNEL=="eth*", NAME="eth1"` + "\n",
		"etc/systemd/network/50-x.link": "[Match]\nMACAddress=52:54:00:aa:bb:02\n[Link]\nName=lan0\nMTUBytes=9000\n"})
	if left, _ := filepath.Glob(filepath.Join(dir, "etc/systemd/network/10-*")); len(left) > 0 || len(problems) > 0 {
		t.Errorf("%v, %v", left, problems)
	}
	if !a.stale {
		t.Error("initramfs images hold copies of the rules")
	}
	if s := netText(t, dir, rules); !strings.Contains(s, `ATTR{address}=="`+newMAC+`"`) {
		t.Error(s)
	}
	if s := netText(t, dir, "etc/systemd/network/50-x.link"); !strings.Contains(s, "MACAddress=02:00:00:00:00:0e\n") {
		t.Error(s)
	}
}

// TestNetworkDoubt: what may not hold is said.
func TestNetworkDoubt(t *testing.T) {
	card := plan.Card{Name: "eth0", OldMAC: oldMAC, NewMAC: newMAC}
	if _, problems, _ := netTree(t, []plan.Card{card}, 2, map[string]string{udevLib: ""}); len(problems) != 1 || !strings.Contains(problems[0].Text, "another card first") {
		t.Errorf("a kernel's name among two: %v", problems)
	}
	if _, problems, _ := netTree(t, []plan.Card{card}, 1, map[string]string{udevLib: ""}); len(problems) != 0 {
		t.Errorf("a kernel's name alone: %v", problems)
	}
	dir, problems, _ := netTree(t, []plan.Card{card}, 1, map[string]string{"etc/hostname": "x"})
	if len(problems) != 1 || !strings.Contains(problems[0].Text, "no systemd") {
		t.Errorf("without systemd: %v", problems)
	}
	if _, err := os.Stat(filepath.Join(dir, "etc/systemd")); err == nil {
		t.Error("a rule that nobody reads")
	}
	dir, _, a := netTree(t, []plan.Card{{Name: "enp1s0", OldMAC: oldMAC, NewMAC: oldMAC, Swapped: true, Rival: newMAC}}, 2, map[string]string{udevLib: ""})
	if s := netText(t, dir, "etc/systemd/network/10-lifeboat-not-enp1s0.link"); !strings.Contains(s, "PermanentMACAddress="+newMAC+"\n") || !strings.Contains(s, "NamePolicy=mac\n") || !a.stale {
		t.Errorf("stale %v: %s", a.stale, s)
	}
}
