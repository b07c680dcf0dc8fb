package iso

import (
	"crypto/sha256"
	"fmt"
	"os"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"lifeboat/internal/loaders"
)

// tailBytes after the ISO part: readers of CDs read ahead of the end, and the
// second partition table lies there.
const tailBytes = mib

// makeHybrid makes the image start from a stick, too: a GPT that names the EFI
// image as system partition, and boot code that starts the BIOS image. total
// is the length of the whole image.
func makeHybrid(f *os.File, total int64, set loaders.Set, bios, efi *piece, buildID string) error {
	table := gpt.Table{LogicalSectorSize: 512, PhysicalSectorSize: 512, ProtectiveMBR: true, GUID: guid(buildID, "disk")}
	if efi != nil {
		start := uint64(efi.extent[0].off / 512)
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index: 1, Start: start, End: start + uint64(efi.size/512) - 1, Size: uint64(efi.size),
			Type: gpt.EFISystemPartition, Name: "EFI system", GUID: guid(buildID, "efi"),
		})
	}
	g := &guard{File: f}
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

// guid makes an identity that follows from the build, so that equal builds
// are equal and different media never clash.
func guid(buildID, what string) string {
	h := sha256.Sum256([]byte("lifeboat medium " + buildID + " " + what))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80 // version 8, RFC 9562
	return fmt.Sprintf("%X-%X-%X-%X-%X", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}
