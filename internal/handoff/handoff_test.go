package handoff

import (
	"reflect"
	"strings"
	"testing"
)

func order() Order { return Order{Recover: Menu, Then: Stay, Consoles: []string{"tty0"}} }

func TestApply(t *testing.T) {
	o := order()
	if f := o.Apply(`BOOT_IMAGE=/vmlinuz quiet lifeboat.recover=auto lifeboat.then=poweroff console=ttyS0,9600 console=tty0 ip=dhcp lifeboat.backup="http://x/a b"`); f != nil {
		t.Fatal(f)
	}
	want := Order{Recover: Auto, Then: Poweroff, Consoles: []string{"ttyS0,9600", "tty0"}, Net: Net{IP: []string{"dhcp"}}, Backup: Backup{URL: "http://x/a b"}}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("got %+v, want %+v", o, want)
	}
}

func TestReaRWords(t *testing.T) {
	o := order()
	o.Apply("unattended noip")
	if o.Recover != Auto || o.Then != Reboot || !o.Net.Off || len(o.Consoles) != 1 {
		t.Errorf("%+v", o)
	}
}

// TestTypingErrors: a word that is not understood never makes an order more
// dangerous.
func TestTypingErrors(t *testing.T) {
	for _, line := range []string{"lifeboat.recover=automatic", "lifeboat.recovery=auto", "lifeboat.recover=", "lifeboat.recover", "lifeboat.then=explode"} {
		o := order()
		f := o.Apply(line)
		if len(f) != 1 || !reflect.DeepEqual(o, order()) {
			t.Errorf("%s: %v, %+v", line, f, o)
		}
	}
}

func TestDecodeStrict(t *testing.T) {
	o := order()
	back, err := Decode(o.Encode())
	if err != nil || !reflect.DeepEqual(back, o) {
		t.Errorf("%+v, %v", back, err)
	}
	if _, err := Decode([]byte(`{"recover":"menu","then":"stay","verify":"","recvoer":"auto"}`)); err == nil || !strings.Contains(err.Error(), "recvoer") {
		t.Errorf("unknown field: %v", err)
	}
	o.Ticket = "abc"
	if strings.Contains(string(o.Redacted().Encode()), "abc") {
		t.Error("the ticket is not redacted")
	}
}

func FuzzApply(f *testing.F) {
	f.Add(`lifeboat.recover=auto "a b" ip=dhcp console=`)
	f.Fuzz(func(t *testing.T, line string) {
		o := order()
		o.Apply(line)
		if err := o.Validate(); err != nil {
			t.Errorf("%q makes an order that is not valid: %v", line, err)
		}
	})
}

// TestDoneFile: an order's id becomes a name only where it can be one, and is
// read back from it.
func TestDoneFile(t *testing.T) {
	for id, want := range map[string]string{
		"0f3a": "/.lifeboat-done-0f3a", "srv_7-B": "/.lifeboat-done-srv_7-B", "*": "/.lifeboat-done-*",
		"": "", "../x": "", "a b": "", "a\nb": "", "ä": "", strings.Repeat("a", 65): "",
	} {
		got := DoneFile(id)
		if got != want {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
		back, ok := DoneOrder(strings.TrimPrefix(got, "/"))
		if ok != (want != "" && id != "*") || ok && back != id {
			t.Errorf("%q is read back as %q, %v", got, back, ok)
		}
	}
}
