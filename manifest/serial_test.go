package manifest

import "testing"

func TestUsableSerial(t *testing.T) {
	for in, want := range map[string]string{
		"S3Z8NB0K123456 ":         "S3Z8NB0K123456",
		"  WD-WCC4N1234567":       "WD-WCC4N1234567",
		"QM":                      "QM",
		"QM000012":                "QM000012", // a real one may look alike: only the counter itself is out
		"disk-a":                  "disk-a",
		"drive-a":                 "drive-a",
		"0x1234abcd":              "0x1234abcd",
		"":                        "",
		"0":                       "",
		"0000000000":              "",
		"ffffffff":                "",
		"00-00-00":                "",
		"None":                    "",
		"N/A":                     "",
		"QM00001":                 "",
		"qm00013":                 "",
		"drive-scsi0-0-0-0":       "",
		"drive-ide0-0-1":          "",
		"To Be Filled By O.E.M.":  "",
		"123456789":               "",
		" \x00\x00":               "",
		"Default string":          "",
		"\x00\x00S1\x00":          "S1",
		"To be filled by nobody ": "",
	} {
		if got := UsableSerial(in); got != want {
			t.Errorf("UsableSerial(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestUsableWWN(t *testing.T) {
	for in, want := range map[string]string{
		"naa.5000c500a1b2c3d4":                         "naa.5000c500a1b2c3d4",
		"eui.0025385b71b0a1b2":                         "eui.0025385b71b0a1b2",
		"t10.ata_samsung_ssd_860_evo_1tb_s3z8nb0k1234": "t10.ata_samsung_ssd_860_evo_1tb_s3z8nb0k1234",
		"uuid.1b4e28ba-2fa1-11d2-883f-0016d3cca427":    "uuid.1b4e28ba-2fa1-11d2-883f-0016d3cca427",
		"0x5000c500a1b2c3d4":                           "0x5000c500a1b2c3d4",
		"nvme.1b36-4c4231-51454d55-00000001":           "nvme.1b36-4c4231-51454d55-00000001",
		"nvme.1b36-30303030-51454d55-00000001":         "",
		"t10.ata_qemu_harddisk_qm00001":                "",
		"eui.0000000000000000":                         "",
		"naa.0000000000000000":                         "",
		"uuid.00000000-0000-0000-0000-000000000000":    "",
		"": "",
	} {
		if got := UsableWWN(in); got != want {
			t.Errorf("UsableWWN(%q) = %q, want %q", in, got, want)
		}
	}
}
