package bootloader

import (
	"reflect"
	"testing"
)

// Output of efibootmgr 17 and, with tabs before the path, of version 18.
const efibootmgr = `BootCurrent: 0003
Timeout: 0 seconds
BootOrder: 0003,0004,0000,0001
Boot0000* UiApp
Boot0001* UEFI QEMU DVD-ROM QM00003 	PciRoot(0x0)/Pci(0x1f,0x2)/Sata(1,65535,0)N.....YM....R,Y.
Boot0003* debian	HD(1,GPT,0a3407de-014b-458b-b5c1-848e92a327a3,0x800,0x100000)/File(\EFI\debian\shimx64.efi)
Boot0004  debian	HD(1,GPT,99999999-014b-458b-b5c1-848e92a327a3,0x800,0x100000)/File(\EFI\debian\grubx64.efi)
Boot0005* debian old	HD(1)
MirroredPercentageAbove4G: 0.00
`

func TestStaleEntries(t *testing.T) {
	if got := staleEntries(efibootmgr, "debian"); !reflect.DeepEqual(got, []string{"0003", "0004"}) {
		t.Errorf("entries of debian: %v", got)
	}
	if got := staleEntries(efibootmgr, "UiApp"); !reflect.DeepEqual(got, []string{"0000"}) {
		t.Errorf("entries of UiApp: %v", got)
	}
	if got := staleEntries("", ""); got != nil {
		t.Errorf("nothing: %v", got)
	}
}

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
