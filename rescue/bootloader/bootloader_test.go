package bootloader

import (
	"reflect"
	"testing"
)

func TestUUIDs(t *testing.T) {
	text := `search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt2  0a3407de-014b-458b-b5c1-848e92a327a3
linux /vmlinuz root=UUID=11111111-2222-3333-4444-555555555555 ro
UUID="AAAA-BBBB" /boot/efi vfat
PARTUUID=22222222-2222-3333-4444-555555555555 /x ext4
LABEL=UUID /y`
	var got []string
	for _, m := range uuids.FindAllStringSubmatch(text, -1) {
		got = append(got, m[1])
	}
	want := []string{"0a3407de-014b-458b-b5c1-848e92a327a3", "11111111-2222-3333-4444-555555555555", "AAAA-BBBB"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
