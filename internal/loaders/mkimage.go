package loaders

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"lifeboat/internal/run"
)

// biosModules are GRUB's modules in a BIOS image. Everything that our menu
// uses is inside, so the medium needs no folder of modules.
var biosModules = []string{
	"biosdisk", "iso9660", "fat", "ext2", "part_gpt", "part_msdos", "normal", "configfile", "linux", "chain", "drivemap",
	"search", "search_fs_file", "serial", "terminal", "echo", "test", "ls", "cat", "sleep", "reboot", "halt", "boot",
	"gzio", "all_video", "minicmd", "regexp", "probe",
	// To see whether the disks carry the mark of an order that is done.
	"lvm", "mdraid1x", "mdraid09", "xfs", "btrfs",
}

// Format of a BIOS image.
type Format string

// The formats.
const (
	ElTorito Format = "i386-pc-eltorito" // a CD's boot image
	Core     Format = "i386-pc"          // follows the boot sector of a disk
)

// BIOSImage joins GRUB's modules for BIOS with config, which runs first, to
// one boot image. Equal input gives equal bytes.
func (s Set) BIOSImage(ctx context.Context, r run.Runner, f Format, config string) ([]byte, error) {
	for _, m := range s.Missing(BIOS) {
		return nil, errors.New(m.String())
	}
	dir, err := os.MkdirTemp("", "lifeboat-grub-")
	if err != nil {
		return nil, fmt.Errorf("make the BIOS boot image: %w", err)
	}
	defer os.RemoveAll(dir)
	cfg, out := filepath.Join(dir, "early.cfg"), filepath.Join(dir, "image")
	if err := os.WriteFile(cfg, []byte(config), 0o600); err != nil {
		return nil, fmt.Errorf("make the BIOS boot image: %w", err)
	}
	args := []string{"-O", string(f), "-d", s.Path(GrubPC), "-c", cfg, "-p", GrubCDPrefix, "-o", out}
	_, err = r.Run(ctx, run.Cmd{Path: s.Path(GrubMkimage), Args: append(args, biosModules...), Limit: time.Minute})
	if err != nil {
		return nil, fmt.Errorf("make the BIOS boot image: %w", err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		return nil, fmt.Errorf("make the BIOS boot image: %w", err)
	}
	if len(b) < 4096 || len(b) > 4<<20 {
		return nil, fmt.Errorf("make the BIOS boot image: grub-mkimage gave %d bytes, which cannot be right", len(b))
	}
	return b, nil
}

// bootCode is how much of a boot sector is code; the disk id and the
// partition table follow.
const bootCode = 440

// HybridCode is the code of the first sector that lets a BIOS start the El
// Torito image when the medium is a stick. imageSector is where that image
// begins, in sectors of 512 bytes.
func (s Set) HybridCode(imageSector uint64) ([]byte, error) {
	b, err := s.Read(HybridBoot)
	if err != nil {
		return nil, err
	}
	if len(b) != 512 {
		return nil, fmt.Errorf("%s has %d bytes instead of 512", s.Path(HybridBoot), len(b))
	}
	// GRUB's place for the sector of its own second part, which in an El
	// Torito image comes 4 sectors of 512 bytes after the beginning.
	binary.LittleEndian.PutUint64(b[0x1b0:], imageSector+4)
	return b[:bootCode], nil
}

// ElToritoBootInfo tells the El Torito image where it lies, for the start from
// a stick: an offset within the image, and the eight bytes to put there.
func ElToritoBootInfo(imageSector uint64) (offset int64, b []byte) {
	return 2548, binary.LittleEndian.AppendUint64(nil, imageSector+5)
}

// DiskCode is the code of the first sector for a core image at coreSector.
// The core image is changed in place: it must know where its second sector is.
func (s Set) DiskCode(core []byte, coreSector uint64) ([]byte, error) {
	b, err := s.Read(DiskBoot)
	if err != nil {
		return nil, err
	}
	if len(b) != 512 || len(core) < 1024 {
		return nil, fmt.Errorf("%s has %s bytes instead of 512, or the core image is too short", s.Path(DiskBoot), strconv.Itoa(len(b)))
	}
	binary.LittleEndian.PutUint64(b[0x5c:], coreSector)
	// Use the drive that the BIOS names; the check that these bytes replace
	// is for floppies.
	b[0x66], b[0x67] = 0x90, 0x90
	binary.LittleEndian.PutUint64(core[0x1f4:], coreSector+1)
	return b[:bootCode], nil
}
