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

	"lifeboat/images/usb"
)

// Medium is what the rescue system was started from.
type Medium struct {
	Device string   // kernel name of what is mounted
	Path   string   // mount point, read only
	Data   bool     // the data partition of a stick: for backups and journals
	Others []string // device nodes that carry the same build
}

const mediumRoot = "/run/lifeboat/medium"

// findMedium looks on every block device for the file that holds this build's
// id. Labels and names are never asked: two sticks may have the same. A
// medium may take its time to appear; an image from the network has none.
// Where several carry the build, a stick with a data partition is taken.
func (w *Worker) findMedium(ctx context.Context, patience time.Duration) *Medium {
	if m := mountedMedium(w.Order.BuildID); m != nil {
		return m
	}
	var m *Medium
	waitFor(ctx, patience, func() bool {
		m = lookForMedium(w.Order.BuildID)
		return m != nil
	})
	return m
}

// waitFor tries until it is done, patience is over or ctx ends.
func waitFor(ctx context.Context, patience time.Duration, try func() bool) {
	for end := time.Now().Add(patience); !try() && time.Now().Before(end) && ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// carrier is a device with a rescue system of a build.
type carrier struct{ name, fstype string }

func lookForMedium(id string) *Medium {
	names, err := filepath.Glob("/sys/class/block/*")
	if err != nil {
		return nil
	}
	var found []carrier
	for _, n := range names {
		c := carrier{name: filepath.Base(n)}
		if c.fstype = mediumType(nodeOf(c.name)); carries(c, id) {
			found = append(found, c)
		}
	}
	var m *Medium
	for _, data := range []bool{true, false} {
		for _, c := range found {
			if (c.fstype == "ext4") != data {
				continue
			}
			if m == nil {
				m = takeMedium(c, id)
			}
			if m != nil && m.Device != c.name {
				m.Others = append(m.Others, nodeOf(c.name))
			}
		}
	}
	return m
}

// nodeOf is the device node of a name below /sys/class/block.
func nodeOf(name string) string { return "/dev/" + strings.ReplaceAll(name, "!", "/") }

// carries tells whether a device holds the build. A stick's data partition is
// read without being mounted.
func carries(c carrier, id string) bool {
	switch c.fstype {
	case "":
		return false
	case "ext4":
		i, err := usb.OpenData(nodeOf(c.name))
		if err != nil {
			return false
		}
		defer i.Close()
		return i.Carries(id)
	}
	if mountMedium(c, mediumRoot) != nil {
		return false
	}
	defer unix.Unmount(mediumRoot, 0)
	return holds(mediumRoot, id)
}

// mountMedium mounts read only. What carries a journal is only mounted when it
// is known to be a stick of ours, and then may be brought in order; when it
// cannot be written, it is read as it is.
func mountMedium(c carrier, at string) error {
	if err := os.MkdirAll(at, 0o700); err != nil {
		return err
	}
	const flags = unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOSUID
	err := unix.Mount(nodeOf(c.name), at, c.fstype, flags, "")
	if err != nil && c.fstype == "ext4" {
		err = unix.Mount(nodeOf(c.name), at, c.fstype, flags, "noload")
	}
	return err
}

func takeMedium(c carrier, id string) *Medium {
	if mountMedium(c, mediumRoot) != nil {
		return nil
	}
	if (c.fstype == "ext4" || holds(mediumRoot, id)) && os.WriteFile(mediumRoot+".device", []byte(c.name), 0o600) == nil {
		return &Medium{Device: c.name, Path: mediumRoot, Data: c.fstype == "ext4"}
	}
	_ = unix.Unmount(mediumRoot, 0)
	return nil
}

// mountedMedium is one that was found earlier in this boot. Others that carry
// the build are looked for again: they come and go.
func mountedMedium(id string) *Medium {
	data := id != "" && isExt(mediumRoot) && lstat(mediumRoot, "lifeboat/id-"+id) == nil
	if !data && !holds(mediumRoot, id) {
		return nil
	}
	b, err := os.ReadFile(mediumRoot + ".device")
	if err != nil {
		return nil
	}
	m := &Medium{Device: strings.TrimSpace(string(b)), Path: mediumRoot, Data: data}
	names, _ := filepath.Glob("/sys/class/block/*")
	for _, n := range names {
		c := carrier{name: filepath.Base(n)}
		// Only sticks: other kinds would have to be mounted to be known.
		if c.fstype = mediumType(nodeOf(c.name)); c.fstype == "ext4" && c.name != m.Device && carries(c, id) {
			m.Others = append(m.Others, nodeOf(c.name))
		}
	}
	return m
}

func lstat(root, name string) error {
	_, err := os.Lstat(filepath.Join(root, name))
	return err
}

func isExt(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.EXT4_SUPER_MAGIC
}

func holds(root, id string) bool {
	b, err := os.ReadFile(filepath.Join(root, "lifeboat", "build-id"))
	return err == nil && id != "" && strings.TrimSpace(string(b)) == id
}

// paths are all that must not be written because the medium lies on it.
func (m *Medium) paths() []string {
	if m == nil {
		return nil
	}
	return append([]string{m.Path}, m.Others...)
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
	if _, err := f.ReadAt(b, 1024); err == nil && bytes.Equal(b[0x38:0x3a], []byte{0x53, 0xef}) {
		return "ext4"
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
