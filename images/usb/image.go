package usb

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/internal/diskimg"
	"lifeboat/internal/loaders"
	"lifeboat/internal/run"
	"lifeboat/report"
)

type runner = run.Runner

// Result tells what was written.
type Result struct {
	Path     string            `json:"path"`
	Bytes    int64             `json:"bytes"` // of the medium; the file itself may be sparse
	Modes    []loaders.Mode    `json:"modes"` // in which it boots
	Files    int               `json:"files"`
	Problems []report.Problem  `json:"problems,omitempty"`
	Missing  []loaders.Missing `json:"missing,omitempty"` // why other modes are not possible
}

// roomLeft is kept free on every image for journals of recoveries.
const roomLeft = 64 * mib

// Write writes the image of a stick for one host to file. Nothing is mounted;
// the file appears complete, readable by its owner alone, or not at all. r
// starts grub-mkimage, mke2fs and debugfs.
func Write(ctx context.Context, file string, s Spec, r run.Runner) (Result, error) {
	res, err := write(ctx, file, &s, r)
	if err != nil {
		return res, fmt.Errorf("write the stick's image %s: %w", file, err)
	}
	return res, nil
}

func write(ctx context.Context, file string, s *Spec, r run.Runner) (Result, error) {
	modes, missing, notes, err := s.Loaders.Judge(s.Kernel)
	res := Result{Path: file, Modes: modes, Missing: missing, Problems: notes}
	if err != nil {
		return res, err
	}
	work, err := os.MkdirTemp(filepath.Dir(file), ".lifeboat-usb-")
	if err != nil {
		return res, err
	}
	defer os.RemoveAll(work)
	id := loaders.MediumGUID(s.Menu.BuildID, "stick")
	files, note, err := imageFiles(ctx, s, id, work)
	if err != nil {
		return res, err
	}
	if note != nil {
		res.Problems = append(res.Problems, *note)
	}
	size, err := imageSize(files, s.Room, work)
	if err != nil {
		return res, err
	}
	parts, err := boot(ctx, s, id, work, r)
	if err != nil {
		return res, err
	}
	img := filepath.Join(work, "image")
	f, err := os.OpenFile(img, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return res, err
	}
	defer f.Close()
	if err := frame(f, id, size, parts); err != nil {
		return res, err
	}
	if err := fill(ctx, r, work, s, id, size, files); err != nil {
		return res, err
	}
	if err := check(ctx, img, files); err != nil {
		return res, fmt.Errorf("read back what was written: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return res, err
	}
	if err := os.Rename(img, file); err != nil {
		return res, err
	}
	res.Bytes, res.Files = size, len(files)
	return res, syncDir(filepath.Dir(file))
}

// imageFiles are all files of the data partition, sorted by name.
func imageFiles(ctx context.Context, s *Spec, id, work string) ([]source, *report.Problem, error) {
	files, err := s.collect(ctx, work)
	if err != nil {
		return nil, nil, err
	}
	note, err := checkInitrd(files)
	if err != nil {
		return nil, nil, err
	}
	mark, err := json.MarshalIndent(Mark{Format: Format, ID: id, OS: s.OS, Boots: s.Loaders.Supports()}, "", "  ")
	if err != nil {
		return nil, nil, err
	}
	menu, err := menuOf(id, []Host{{Name: s.Menu.Host, Dir: s.Menu.Dir, Menu: s.Menu}})
	if err != nil {
		return nil, nil, err
	}
	for name, text := range map[string]string{
		MarkPath: string(mark) + "\n", menuPath: menu, loaders.IDFile(id): id + "\n", loaders.IDFile(s.Menu.BuildID): s.Menu.BuildID + "\n",
	} {
		files = append(files, source{name: name, data: []byte(text), size: int64(len(text))})
	}
	for _, a := range s.Archives {
		if host, _, ok := strings.Cut(a.Name, "/"); !ok || CheckHost(host) != nil || CheckHost(path.Base(a.Name)) != nil || strings.Count(a.Name, "/") != 1 {
			return nil, nil, fmt.Errorf("archive %q: its name is not HOST/DATE.lba", a.Name)
		}
		st, err := os.Stat(a.Path)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, source{name: "/" + a.Name, path: a.Path, size: st.Size()})
	}
	sort.Slice(files, func(i, j int) bool { return files[i].name < files[j].name })
	return files, note, nil
}

// imageSize is how large the image must be, and whether the disk has room.
func imageSize(files []source, room int64, dir string) (int64, error) {
	need := int64(0)
	for _, f := range files {
		need += (f.size + 4095) / 4096 * 4096
	}
	// The filesystem's own journal, tables and bitmaps.
	data := max(need+need/64+max(room, roomLeft)+48*mib, minDataSize)
	size := (DataStart + data + mib - 1) / mib * mib
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("look for free space in %s: %w", dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < need+64*mib {
		return 0, report.Errorf(report.CodeNoSpace, "make room, or set output_dir to another disk",
			"%s has %d MiB free and the stick's image needs %d MiB", filepath.Dir(dir), free/mib, (need+64*mib)/mib)
	}
	return size + tailBytes, nil
}

// frame writes table and boot loaders into the empty file.
func frame(f *os.File, id string, size int64, parts *bootParts) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := table(id, size).Write(f, size, 512); err != nil {
		return err
	}
	return parts.put(&diskimg.File{File: f}, 0, coreStart, efiStart)
}

type writerAt interface {
	WriteAt([]byte, int64) (int, error)
}

// put writes the boot loaders to a whole disk.
func (b *bootParts) put(w writerAt, sector, core, efi int64) error {
	for _, x := range []struct {
		b  []byte
		at int64
	}{{b.sector, sector}, {b.core, core}, {b.efi, efi}} {
		if len(x.b) > 0 {
			if _, err := w.WriteAt(x.b, x.at); err != nil {
				return fmt.Errorf("write the boot loaders: %w", err)
			}
		}
	}
	return nil
}

// makeEFI is the whole second partition.
func makeEFI(s *Spec, id, work string) ([]byte, error) {
	files, err := s.Loaders.EFIFiles(id)
	if err != nil {
		return nil, err
	}
	h := sha256.Sum256([]byte(id))
	img, err := diskimg.FAT(work, files, efiBytes, le.Uint32(h[:]), s.Menu.Built)
	if err == nil && int64(len(img)) != efiBytes {
		err = fmt.Errorf("the loaders for UEFI have %d bytes and do not fit into their partition", len(img))
	}
	return img, err
}

// fill makes the data filesystem inside the image and writes the files into
// it. E2fsprogs is told the time, so that equal input gives equal bytes.
func fill(ctx context.Context, r run.Runner, work string, s *Spec, id string, size int64, files []source) error {
	data, _ := dataOf(table(id, size))
	env := append(append([]string(nil), run.HostEnv...), fixedTime(s.Menu.Built))
	args := append(MkfsArgs(id), "-J", "size=16", "-N", "4096",
		"-E", fmt.Sprintf("nodiscard,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,hash_seed=%s,offset=%d",
			strings.ToLower(loaders.MediumGUID(id, "hash")), data.Start), "image", fmt.Sprint(data.Size/4096))
	if _, err := r.Run(ctx, run.Cmd{Path: "mke2fs", Args: args, Env: env, Dir: work}); err != nil {
		return fmt.Errorf("make the data filesystem: %w", err)
	}
	script, err := writeScript(work, files)
	if err != nil {
		return err
	}
	res, err := r.Run(ctx, run.Cmd{Path: "debugfs", Args: []string{"-w", "-f", script, fmt.Sprintf("image?offset=%d", data.Start)}, Env: env, Dir: work})
	if err != nil {
		return fmt.Errorf("fill the data filesystem: %w", err)
	}
	// Debugfs goes on after a command that failed, and still ends with 0.
	for _, l := range strings.Split(strings.TrimSpace(string(res.Stderr)), "\n") {
		if l != "" && !strings.HasPrefix(l, "debugfs ") {
			return fmt.Errorf("fill the data filesystem: debugfs: %s", l)
		}
	}
	return nil
}

// writeScript writes debugfs's commands. Sources are links with plain names,
// since paths of this host may hold anything.
func writeScript(work string, files []source) (string, error) {
	var b strings.Builder
	made := map[string]bool{"/": true}
	var folder func(string)
	folder = func(dir string) {
		if !made[dir] {
			folder(path.Dir(dir))
			made[dir] = true
			fmt.Fprintf(&b, "mkdir %s\n", dir)
		}
	}
	for i, f := range files {
		from := fmt.Sprintf("f%d", i)
		var err error
		if f.path == "" {
			err = os.WriteFile(filepath.Join(work, from), f.data, 0o600)
		} else {
			var abs string
			if abs, err = filepath.Abs(f.path); err == nil {
				err = os.Symlink(abs, filepath.Join(work, from))
			}
		}
		if err != nil {
			return "", err
		}
		folder(path.Dir(f.name))
		fmt.Fprintf(&b, "write %s %s\nsif %s mode 0100600\nsif %s uid 0\nsif %s gid 0\n", from, f.name, f.name, f.name, f.name)
	}
	return "script", os.WriteFile(filepath.Join(work, "script"), []byte(b.String()), 0o600)
}

// check reads the image by our own reader.
func check(ctx context.Context, img string, files []source) error {
	i, err := Open(img)
	if err != nil {
		return err
	}
	defer i.Close()
	for _, f := range files {
		e, err := i.Stat(f.name)
		if err != nil {
			return err
		}
		if e.Size != f.size {
			return fmt.Errorf("%s has %d bytes instead of %d", f.name, e.Size, f.size)
		}
	}
	return i.Verify(ctx)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
