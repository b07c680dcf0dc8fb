package drill

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"lifeboat/backup"
	"lifeboat/drill/qemu"
	"lifeboat/report"
)

// serveBackup hands the one archive to the guest, whatever store it lies in:
// the guest's network is closed.
func (d *drill) serveBackup(ctx context.Context) (done func(), err error) {
	raw := d.o.Backup
	if d.onStick {
		return func() {}, nil
	}
	if raw == "" || backup.IsUSB(raw) {
		return nil, report.Errorf(report.CodeUsage, "name a store, a directory or an archive with --backup", "the drill needs the backup")
	}
	var o backup.Object
	opt := backup.Options{TokenFile: d.o.Token}
	if st, serr := os.Stat(raw); serr == nil && st.Mode().IsRegular() {
		o, err = backup.OpenFile(ctx, raw, opt)
	} else {
		if serr == nil {
			if raw, err = filepath.Abs(raw); err != nil {
				return nil, err
			}
		}
		o, err = backup.OpenURL(ctx, raw, d.m.Host.Name, opt)
	}
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		o.Close()
		return nil, err
	}
	name := d.m.Host.Name + "/" + filepath.Base(strings.TrimSuffix(o.Name(), "/"))
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`,%?#"\`, r) }) {
		name = d.m.Host.Name + "/backup" // one word of the order, and no part of a URL that means something
	}
	if !strings.HasSuffix(name, backup.Suffix) {
		name += backup.Suffix
	}
	srv := &http.Server{ReadHeaderTimeout: 30 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.TrimPrefix(r.URL.Path, "/") != name {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", `"drill"`)
		w.Header().Set("Content-Type", "application/zstd")
		http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(counted{o, &d.served}, 0, o.Size()))
	})}
	go func() { _ = srv.Serve(l) }()
	d.server = l.Addr().String()
	d.url = "http://" + backupAt + "/" + name
	return func() { srv.Close(); o.Close() }, nil
}

// counted counts the bytes that are read.
type counted struct {
	io.ReaderAt
	n *atomic.Int64
}

func (c counted) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.n.Add(int64(n))
	return n, err
}

// chooseAuto presses the menu's keys for the automatic recovery until the
// rescue system speaks its first word after mark. Keys that come too early are
// nobody's, and the rescue system drops what was typed before it asked.
func (d *drill) chooseAuto(ctx context.Context, vm *qemu.VM, mark int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	for {
		if err := vm.Type(ctx, d.keys); err != nil {
			return fmt.Errorf("press a key in the boot menu: %w", err)
		}
		// The first event of a boot: what came before a reset may still follow.
		second, cancel := context.WithTimeout(ctx, time.Second)
		_, _, err := vm.Port(PortEvents).Wait(second, mark, firstEvent)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("the rescue system did not speak within 10 minutes of the boot")
		case qemu.Ended(err):
			return fmt.Errorf("the machine stopped before the rescue system spoke: %w", err)
		}
	}
}

var firstEvent = regexp.MustCompile(`"seq":1,`)
