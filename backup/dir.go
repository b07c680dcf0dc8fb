package backup

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lifeboat/internal/scratch"
	"lifeboat/report"
)

// dir is a mounted directory.
type dir struct{ path string }

func openDir(p string) (*dir, error) {
	st, err := os.Stat(p)
	if err != nil {
		return nil, missing(err, "backup directory")
	}
	if !st.IsDir() {
		return nil, report.Errorf(report.CodeConfig, "name a directory", "backup URL %s is no directory", p)
	}
	return &dir{path: p}, nil
}

func (d *dir) String() string { return d.path }

// List returns the complete archives of a host, oldest first.
func (d *dir) List(_ context.Context, host string) ([]Item, error) {
	if err := checkName(host + "/x"); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(d.path, host))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, missing(err, "list archives of "+host)
	}
	var items []Item
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), Suffix) || !e.Type().IsRegular() {
			continue
		}
		st, err := e.Info()
		if err != nil {
			continue // removed while we read
		}
		items = append(items, Item{Name: host + "/" + e.Name(), Size: st.Size(), Time: st.ModTime()})
	}
	sortItems(items)
	return items, nil
}

type file struct {
	*os.File
	size int64
}

func (f *file) Size() int64 { return f.size }

// Open opens an archive for reading.
func (d *dir) Open(_ context.Context, name string) (Object, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	f, err := openFile(filepath.Join(d.path, name))
	if err != nil {
		return nil, err
	}
	return f, nil
}

func openFile(path string) (*file, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, missing(err, "open the archive")
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", f.Name())
	}
	if err != nil {
		f.Close()
		return nil, missing(err, "open the archive")
	}
	return &file{File: f, size: st.Size()}, nil
}

// partialIdle is how long nobody wrote to a partial archive that counts as
// left behind: a store may be shared by machines that do not see each other's
// locks.
const partialIdle = time.Hour

// Create begins an archive of mode 0600 beside its final name.
func (d *dir) Create(_ context.Context, name string) (Upload, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	final := filepath.Join(d.path, name)
	if err := os.MkdirAll(filepath.Dir(final), 0o700); err != nil {
		return nil, fmt.Errorf("create the archive: %w", err)
	}
	if _, err := os.Lstat(final); err == nil {
		return nil, fmt.Errorf("create the archive: %s is there already; wait a second and start again", final)
	}
	// What a killed upload of this host left would take its room for ever.
	scratch.Sweep(filepath.Dir(final), ".*"+Suffix+".partial-*", partialIdle)
	f, err := os.CreateTemp(filepath.Dir(final), "."+filepath.Base(final)+".partial-*") // 0600 by itself
	if err != nil {
		return nil, fmt.Errorf("create the archive: %w", err)
	}
	scratch.Hold(f) // nobody removes it so soon
	return &dirUpload{File: f, final: final}, nil
}

type dirUpload struct {
	*os.File
	final string
	done  bool
}

func (u *dirUpload) Name() string    { return u.final }
func (u *dirUpload) Local() *os.File { return u.File }

// Commit makes the archive durable and visible.
func (u *dirUpload) Commit() error {
	if err := u.File.Sync(); err != nil {
		u.Abort()
		return fmt.Errorf("write %s to disk: %w", u.final, err)
	}
	// Link, not rename: a second writer of the same name must not be replaced.
	err := os.Link(u.File.Name(), u.final)
	if err != nil && !os.IsExist(err) { // filesystems without hard links
		err = os.Rename(u.File.Name(), u.final)
	}
	if err != nil {
		u.Abort()
		return fmt.Errorf("give the archive its name: %w", err)
	}
	os.Remove(u.File.Name())
	u.done = true
	if err := u.File.Close(); err != nil {
		return fmt.Errorf("close %s: %w", u.final, err)
	}
	return syncDir(filepath.Dir(u.final))
}

// Abort removes what was written.
func (u *dirUpload) Abort() {
	if u.done {
		return
	}
	u.done = true
	u.File.Close()
	os.Remove(u.File.Name())
}

func syncDir(p string) error {
	d, err := os.Open(p)
	if err != nil {
		return fmt.Errorf("open %s to make its names durable: %w", p, err)
	}
	defer d.Close()
	// Some network filesystems do not know fsync of directories.
	if err := d.Sync(); err != nil && !isInvalid(err) {
		return fmt.Errorf("make the names in %s durable: %w", p, err)
	}
	return nil
}

// hostDirs lists the hosts of a store, for the server's listing.
func hostDirs(p string) ([]string, error) {
	entries, err := os.ReadDir(p)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if e.Type()&fs.ModeType == fs.ModeDir && checkName(e.Name()+"/x") == nil {
			out = append(out, e.Name())
		}
	}
	return out, nil
}
