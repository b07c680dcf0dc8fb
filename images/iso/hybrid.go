package iso

import (
	"fmt"
	"os"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"lifeboat/internal/diskimg"
	"lifeboat/internal/loaders"
)

const mib = 1 << 20

// tailBytes after the ISO part: readers of CDs read ahead of the end, and the
// second partition table lies there.
const tailBytes = mib

// makeHybrid makes the image start from a stick, too: a GPT that names the EFI
// image as system partition, and boot code that starts the BIOS image. total
// is the length of the whole image.
func makeHybrid(f *os.File, total int64, set loaders.Set, bios, efi *piece, buildID string) error {
	table := gpt.Table{LogicalSectorSize: 512, PhysicalSectorSize: 512, ProtectiveMBR: true, GUID: loaders.MediumGUID(buildID, "disk")}
	if efi != nil {
		start := uint64(efi.extent[0].off / 512)
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index: 1, Start: start, End: start + uint64(efi.size/512) - 1, Size: uint64(efi.size),
			Type: gpt.EFISystemPartition, Name: "EFI system", GUID: loaders.MediumGUID(buildID, "efi"),
		})
	}
	g := &diskimg.File{File: f}
	if err := table.Write(g, total); err != nil {
		return fmt.Errorf("write the partition table: %w", err)
	}
	if bios == nil {
		return nil
	}
	code, err := set.HybridCode(uint64(bios.extent[0].off / 512))
	if err != nil {
		return err
	}
	_, err = f.WriteAt(code, 0)
	return err
}
