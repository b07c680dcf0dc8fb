package rescue

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Medium is what the rescue system was started from.
type Medium struct {
	Device string // kernel name of what is mounted
	Path   string // mount point, read only
}

const mediumRoot = "/run/lifeboat/medium"

// findMedium looks on every block device for the file that holds this build's
// id. Labels and names are never asked: two sticks may have the same. A
// medium may take its time to appear; an image from the network has none.
func (w *Worker) findMedium(ctx context.Context, patience time.Duration) *Medium {
	if m := mountedMedium(w.Order.BuildID); m != nil {
		return m
	}
	end := time.Now().Add(patience)
	for {
		names, err := filepath.Glob("/sys/class/block/*")
		if err != nil {
			return nil
		}
		for _, n := range names {
			if m := tryMedium(filepath.Base(n), w.Order.BuildID); m != nil {
				return m
			}
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func mountedMedium(id string) *Medium {
	if !holds(mediumRoot, id) {
		return nil
	}
	b, err := os.ReadFile(mediumRoot + ".device")
	if err != nil {
		return nil
	}
	return &Medium{Device: strings.TrimSpace(string(b)), Path: mediumRoot}
}

func holds(root, id string) bool {
	b, err := os.ReadFile(filepath.Join(root, "lifeboat", "build-id"))
	return err == nil && id != "" && strings.TrimSpace(string(b)) == id
}

// tryMedium mounts a device read only when it carries iso9660 or FAT; nothing
// that has a journal is touched.
func tryMedium(name, id string) *Medium {
	dev := "/dev/" + strings.ReplaceAll(name, "!", "/")
	fstype := mediumType(dev)
	if fstype == "" {
		return nil
	}
	if err := os.MkdirAll(mediumRoot, 0o700); err != nil {
		return nil
	}
	if err := unix.Mount(dev, mediumRoot, fstype, unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID, ""); err != nil {
		return nil
	}
	if holds(mediumRoot, id) && os.WriteFile(mediumRoot+".device", []byte(name), 0o600) == nil {
		return &Medium{Device: name, Path: mediumRoot}
	}
	_ = unix.Unmount(mediumRoot, 0)
	return nil
}

// mediumType recognises what a medium of ours can be.
func mediumType(dev string) string {
	f, err := os.Open(dev)
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, 512)
	if _, err := f.ReadAt(b[:6], 32768); err == nil && bytes.Equal(b[1:6], []byte("CD001")) {
		return "iso9660"
	}
	if _, err := f.ReadAt(b, 0); err == nil && (bytes.Equal(b[82:87], []byte("FAT32")) || bytes.Equal(b[54:57], []byte("FAT"))) {
		return "vfat"
	}
	return ""
}

// mediumNote says where the medium is.
func mediumNote(m *Medium) string {
	if m == nil {
		return "The medium of this rescue system is not seen any more (started from the network, or taken out)"
	}
	return fmt.Sprintf("The rescue medium is %s", m.Device)
}
