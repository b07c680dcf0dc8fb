package iso

import (
	"encoding/binary"
	"os"
	"time"
)

// Offsets in the primary volume descriptor (ECMA-119, 8.4).
const (
	volCreated   = 16*sector + 813
	volModified  = 16*sector + 830
	volExpires   = 16*sector + 847
	volEffective = 16*sector + 864
	// 512 bytes for the application; the sum of SumsPath stands here, so that
	// the list that judges all files is itself judged.
	volApp = 16*sector + 883
)

const appMark = "LIFEBOAT SUMS "

// stamp gives every time, owner and link count of the image a fixed value:
// go-diskfs takes them from the clock and from its scratch files.
func stamp(f *os.File, img *Image, built time.Time) error {
	built = built.UTC()
	long := append([]byte(built.Format("20060102150405")+"00"), 0)
	never := append([]byte("0000000000000000"), 0)
	for off, b := range map[int64][]byte{volCreated: long, volModified: long, volExpires: never, volEffective: never} {
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
	}
	short := []byte{byte(built.Year() - 1900), byte(built.Month()), byte(built.Day()), byte(built.Hour()), byte(built.Minute()), byte(built.Second()), 0}
	// The root folder is named once more in the volume descriptor.
	if _, err := f.WriteAt(short, 16*sector+156+18); err != nil {
		return err
	}
	for _, e := range img.entries {
		for _, r := range e.records {
			if _, err := f.WriteAt(short, r.off+18); err != nil {
				return err
			}
			for _, x := range r.fields {
				if err := stampField(f, x, short, e.Mode.IsDir()); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func stampField(f *os.File, x field, short []byte, folder bool) error {
	switch {
	case x.sig == "TF" && x.data[4]&0x80 == 0: // short times follow a byte of flags
		for o := 5; o+len(short) <= len(x.data); o += len(short) {
			if _, err := f.WriteAt(short, x.off+int64(o)); err != nil {
				return err
			}
		}
	case x.sig == "PX" && len(x.data) >= 36:
		mode, links := uint32(0o100444), uint32(1)
		if folder {
			mode, links = 0o040555, 2
		}
		var b []byte
		for _, n := range []uint32{mode, links, 0, 0} { // then owner and group
			b = binary.LittleEndian.AppendUint32(b, n)
			b = binary.BigEndian.AppendUint32(b, n)
		}
		_, err := f.WriteAt(b, x.off+4)
		return err
	}
	return nil
}
