package adapt

import (
	"bytes"
	"strings"
	"testing"

	"lifeboat/plan"
)

func TestReplace(t *testing.T) {
	table := []plan.Rename{
		{Old: "0a3407de-014b-458b-b5c1-848e92a327a3", New: "11111111-2222-3333-4444-555555555555"},
		{Old: "ata-OLD_S1", New: "ata-NEW_S2"},
		{Old: "sda", New: "vda"},
	}
	in := "UUID=0A3407DE-014B-458B-B5C1-848E92A327A3 / ext4\n" +
		"/dev/disk/by-id/ata-OLD_S1-part2 /boot\n/dev/disk/by-id/xata-OLD_S1 x\n" +
		"root=/dev/sda1 sdab sda\n/dev/sda /x\nuuid=f0a3407de-014b-458b-b5c1-848e92a327a3\n"
	want := "UUID=11111111-2222-3333-4444-555555555555 / ext4\n" +
		"/dev/disk/by-id/ata-NEW_S2-part2 /boot\n/dev/disk/by-id/xata-OLD_S1 x\n" +
		"root=/dev/sda1 sdab vda\n/dev/vda /x\nuuid=f0a3407de-014b-458b-b5c1-848e92a327a3\n"
	got, n := Replace([]byte(in), table)
	if string(got) != want || n != 4 {
		t.Errorf("%d changes:\n%s\nwant:\n%s", n, got, want)
	}
}

// TestReplaceKeeps: text without any old identity comes back byte for byte.
func TestReplaceKeeps(t *testing.T) {
	in := []byte("İ odd \xff bytes\x00 and UUID=abcd\n")
	got, n := Replace(in, []plan.Rename{{Old: "dcba", New: "x"}, {Old: "ABCDE", New: "y"}})
	if n != 0 || !bytes.Equal(got, in) {
		t.Errorf("%d changes: %q", n, got)
	}
}

func TestPadEnv(t *testing.T) {
	old := "# GRUB Environment Block\nsaved_entry=0\n" + strings.Repeat("#", 1024-39)
	if len(old) != 1024 {
		t.Fatalf("the block has %d bytes", len(old))
	}
	text, _ := Replace([]byte(strings.Replace(old, "=0", "=1", 1)), []plan.Rename{{Old: "saved_entry", New: "saved"}})
	if got := padEnv(text, 1024); len(got) != 1024 {
		t.Errorf("the block has %d bytes", len(got))
	}
}

func FuzzReplace(f *testing.F) {
	f.Add([]byte("root=UUID=abcd-1234"), "abcd-1234", "X")
	f.Fuzz(func(t *testing.T, text []byte, old, repl string) {
		if old == "" || old == repl {
			return
		}
		_, n := Replace(text, []plan.Rename{{Old: old, New: repl}})
		if n > 0 && !bytes.Contains(bytes.ToLower(text), bytes.ToLower([]byte(old))) {
			t.Errorf("%d changes where nothing was", n)
		}
	})
}
