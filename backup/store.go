// Package backup knows where backups lie and by which method they are read:
// methods and stores.
// Level 3.
package backup

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"regexp"
	"sort"
	"strings"
	"time"

	"lifeboat/report"
)

// Suffix of archives in a store.
const Suffix = ".lba"

// Item is one archive in a store.
type Item struct {
	Name string    `json:"name"` // HOST/DATE.lba
	Size int64     `json:"size"`
	Time time.Time `json:"time"`
}

// Object is an archive opened for reading by ranges.
type Object interface {
	io.ReaderAt
	io.Closer
	Size() int64
	Name() string // for people: URL or path
}

// Upload is an archive being written. Nothing is visible under its name
// before Commit; Abort, also after a failure, leaves nothing behind.
type Upload interface {
	io.Writer
	Commit() error
	Abort()
	Name() string
	// Local is the file being written when it lies on this machine, or nil:
	// the walker leaves it out by device and inode.
	Local() *os.File
}

// Store holds archives as HOST/DATE.lba.
type Store interface {
	List(ctx context.Context, host string) ([]Item, error)
	Open(ctx context.Context, name string) (Object, error)
	Create(ctx context.Context, name string) (Upload, error)
	String() string
}

// Options of a store.
type Options struct {
	TokenFile string // file of mode 0600 with a bearer token
	Token     string // the token itself; wins over TokenFile
	CAFile    string // PEM of the authority of the server's certificate
	// Tries of every request to a server. 0 has the patience of a rescue system,
	// whose only hope the server is; a check wants to know soon.
	Tries int
}

var safeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$`)

// checkName refuses names that are not HOST/FILE: they come from the network
// and from manifests.
func checkName(name string) error {
	if !safeName.MatchString(name) || strings.Contains(name, "..") {
		return fmt.Errorf("%q is no archive name of the form HOST/NAME%s", name, Suffix)
	}
	return nil
}

// OpenStore opens the store that a URL names: a path or file://, http://,
// https://. A URL that names one archive (…/HOST/DATE.lba) gives the store
// that it lies in, and the archive's name.
func OpenStore(raw string, opt Options) (s Store, name string, err error) {
	base, name := raw, ""
	if strings.HasSuffix(raw, Suffix) {
		dir, file := path.Split(strings.TrimSuffix(raw, "/"))
		host := path.Base(dir)
		base, name = path.Dir(strings.TrimSuffix(dir, "/")), path.Join(host, file)
		if strings.Contains(raw, "://") { // path.Dir folds the slashes of a scheme
			base = strings.TrimSuffix(strings.TrimSuffix(raw, "/"+name), "/")
		}
	}
	if strings.HasPrefix(base, "/") {
		s, err = openDir(base)
		return s, name, err
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, "", report.Errorf(report.CodeConfig, "write it as /DIR, file:///DIR or https://SERVER/DIR", "backup URL %q: %w", raw, err)
	}
	switch u.Scheme {
	case "file":
		s, err = openDir(u.Path)
	case "http", "https":
		s, err = openHTTP(u, opt)
	default:
		err = report.Errorf(report.CodeConfig, "use a mounted directory, http:// or https://",
			"backup URL %q: the scheme %q cannot be read by byte ranges", raw, u.Scheme)
	}
	return s, name, err
}

// NameFor is the archive's name for a host and a start time; names sort by
// time.
func NameFor(host string, start time.Time) string {
	return host + "/" + start.UTC().Format("20060102T150405Z") + Suffix
}

// Newest returns the newest archive of a host.
func Newest(ctx context.Context, s Store, host string) (Item, error) {
	items, err := s.List(ctx, host)
	if err != nil {
		return Item{}, err
	}
	if len(items) == 0 {
		return Item{}, report.Errorf(report.CodeBackupMissing, "check the host's name and that mkbackup ran", "%s holds no archive of %s", s, host)
	}
	return items[len(items)-1], nil
}

// OpenURL opens the archive that raw names, or the newest of host in the
// store that raw names.
func OpenURL(ctx context.Context, raw, host string, opt Options) (Object, error) {
	s, name, err := OpenStore(raw, opt)
	if err != nil {
		return nil, err
	}
	if name == "" {
		it, err := Newest(ctx, s, host)
		if err != nil {
			return nil, err
		}
		name = it.Name
	}
	return s.Open(ctx, name)
}

func sortItems(items []Item) {
	sort.Slice(items, func(i, j int) bool { return items[i].Name < items[j].Name })
}

func missing(err error, what string) error {
	return report.Errorf(report.CodeBackupMissing, "check that the backup store is reachable from this machine", "%s: %w", what, err)
}

// OpenFile opens the archive that a path or URL names, wherever it lies: a
// local file need not be in a store.
func OpenFile(ctx context.Context, raw string, opt Options) (Object, error) {
	if !strings.Contains(raw, "://") {
		f, err := openFile(raw)
		if err != nil {
			return nil, err
		}
		return f, nil
	}
	s, name, err := OpenStore(raw, opt)
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, report.Errorf(report.CodeUsage, "name it as URL/HOST/DATE"+Suffix, "%s names no archive", raw)
	}
	return s.Open(ctx, name)
}
