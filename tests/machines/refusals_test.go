//go:build machines

package machines

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/archive"
	"lifeboat/drill/qemu"
	"lifeboat/report"
)

// Names in the test's store, besides the archive itself.
const (
	cutName    = "/harbour-7/cut.lba"
	harmedName = "/harbour-7/harmed.lba"
	otherName  = "/harbour-7/other.lba"
	wholeName  = "/harbour-7/whole.lba"
)

// harmed is a file with one byte changed.
type harmed struct {
	io.ReaderAt
	at int64
}

func (h harmed) ReadAt(p []byte, off int64) (int, error) {
	n, err := h.ReaderAt.ReadAt(p, off)
	if i := h.at - off; i >= 0 && i < int64(n) {
		p[i] ^= 0x40
	}
	return n, err
}

// badStore serves one archive whole and in all the ways in which it can be
// bad, and one of another host.
func badStore(ctx context.Context, t *testing.T, whole string) (addr string) {
	t.Helper()
	f, err := os.Open(whole)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	n := st.Size()
	other, err := os.Create(filepath.Join(t.TempDir(), "other.lba"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	sum, err := archive.Create(ctx, other, archive.Options{HostID: "lighthouse-3"}, []archive.Source{{Path: "/", At: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*io.SectionReader{
		wholeName: io.NewSectionReader(f, 0, n),
		cutName:   io.NewSectionReader(f, 0, n/2),
		// The footer has the last 64 bytes, the index lies before it.
		harmedName: io.NewSectionReader(harmed{f, n - 64 - 100}, 0, n),
		otherName:  io.NewSectionReader(other, 0, sum.Bytes),
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", `"`+r.URL.Path+`"`)
		http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(s, 0, s.Size()))
	})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}

// refusals runs tries in one boot of the rescue system, and after each looks
// at all disks from outside.
type refusals struct {
	*rescueVM
	sums  map[string]string // disk → its bytes before
	lines []string          // what people must have seen
}

// disk remembers a disk that must never change.
func (r *refusals) disk(path string) string {
	r.sums[path] = contentSum(r.t, path)
	return path
}

// try expects a refusal with that code and these texts, and every disk as it
// was.
func (r *refusals) try(name, args, code string, during func(report.Event), texts ...string) {
	r.t.Helper()
	began := time.Now()
	res, events := r.recoverAuto(args, during)
	defer func() { r.t.Logf("%6.1f s  %s", time.Since(began).Seconds(), name) }()
	if len(res.Problems) == 0 {
		r.t.Errorf("%s: it ended with exit code %d and no problem", name, res.Exit)
		return
	}
	p := res.Problems[0]
	if p.Code != code || res.Exit != report.ExitOfCode(code) || res.Exit == report.ExitOK || res.State != "refused" {
		r.t.Errorf("%s: %s, exit code %d, state %s; want %s and exit code %d", name, p.Line(), res.Exit, res.State, code, report.ExitOfCode(code))
	}
	for _, s := range texts {
		if !strings.Contains(p.Line(), s) {
			r.t.Errorf("%s: the text does not say %q: %s", name, s, p.Line())
		}
	}
	if p.Next == "" {
		r.t.Errorf("%s: it does not say what to do next: %s", name, p.Line())
	}
	for _, l := range r.lines {
		if l == p.Line() {
			r.t.Errorf("%s: the same message as for another cause: %s", name, l)
		}
	}
	r.lines = append(r.lines, p.Line())
	for _, e := range events {
		if e.Kind == report.Started {
			r.t.Errorf("%s: a step began: %s", name, e.Text)
		}
	}
	for path, sum := range r.sums {
		if contentSum(r.t, path) != sum {
			r.t.Errorf("%s: %s was written to", name, filepath.Base(path))
		}
	}
}

// Scenario 2: everything that must stop a recovery before anything is erased,
// one after the other in one boot, each with its own message and exit code.
// The disks' bytes are compared outside after each.
func TestRefusals(t *testing.T) {
	proven(t, "refused before anything is erased: backup unreachable, missing, cut short, damaged, of another host; disk too small, ambiguous, not blank, with the backup on it; a twin while planning and before the first write; a tool missing")
	ctx, cancel := soon(t.Context(), 25*time.Minute)
	defer cancel()
	phase := phases(t)
	m := recoveryFixture(ctx, t)
	archives, err := filepath.Glob(filepath.Join(m.store, "harbour-7", "*.lba"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("the store holds %v, %v", archives, err)
	}
	const size = 4 << 30
	dir := t.TempDir()
	full := filepath.Join(dir, "full.raw") // the server's own disk, as it still is
	if err := m.source.Copy(ctx, full); err != nil {
		t.Fatal(err)
	}
	vault := blankDisk(t, dir, "vault.raw", size+1<<30)
	tool(t, "mke2fs", "-q", "-F", "-t", "ext4", "-d", m.store, vault)
	phase("a server that backed itself up, and its disks")

	addr := badStore(ctx, t, archives[0])
	vm := bootRescue(ctx, t, m.iso, "lifeboat.recover=menu lifeboat.then=stay lifeboat.verify=index lifeboat.backup=http://"+storeAt+wholeName,
		qemu.Config{Name: "refusals", Dir: pictures(t), Memory: 1 << 30, HotplugSlots: 10, NoReboot: true, Log: t.Logf,
			NICs: []qemu.NIC{{Services: []qemu.GuestService{{Address: storeAt, To: addr}}}}})
	phase("the rescue system waits in its menu")
	r := &refusals{rescueVM: vm, sums: map[string]string{}}
	r.openShell()
	console := r.Console().Mark()
	r.backups(dir, size)
	r.blankDisks(dir, size)
	r.usedDisks(full, vault)
	r.seen(console)
}

// least is the smallest disk for the server, bytes: partition 9 begins at
// sector 411648; data begins 4 MiB into it; 384 extents of 8 MiB hold files and
// 8 are half of the swap, for neither free extents nor the other half must
// stop a recovery; then 33 sectors of the table's copy.
const least = (411648+33)*512 + 4<<20 + (384+8)*(8<<20)

// backups: what is wrong with the backup stops everything, with a disk there
// that could be erased.
func (r *refusals) backups(dir string, size int64) {
	r.plug("small", r.disk(blankDisk(r.t, dir, "small.raw", least-1<<20)), "")
	r.disks(1)
	r.try("the backup is not there", "--backup http://"+storeAt+"/harbour-7/gone.lba", report.CodeBackupMissing, nil, "gone.lba")
	r.try("the backup is cut short", "--backup http://"+storeAt+cutName, report.CodeBackupShort, nil, "cut.lba")
	r.try("the backup's index is damaged", "--backup http://"+storeAt+harmedName, report.CodeBackupDamaged, nil, "harmed.lba")
	r.try("the backup is of another host", "--backup http://"+storeAt+otherName, report.CodeBackupHost, nil, "lighthouse-3", "harbour-7")
	r.try("the backup server does not answer", "--backup http://10.0.2.77:8080"+wholeName, report.CodeBackupMissing, nil, "10.0.2.77")
}

// blankDisks: a disk that is too small, a twin at each moment, and a tool.
func (r *refusals) blankDisks(dir string, size int64) {
	one, twin := r.disk(blankDisk(r.t, dir, "one.raw", size)), r.disk(blankDisk(r.t, dir, "twin.raw", size))
	r.try("the disk is 1 MiB too small", "", report.CodeDiskTooSmall, nil, "has 3502260736 bytes", "needs 3503309312")

	r.plug("one", one, "")
	r.disks(2)
	came := 0
	// Events come as they happen: the disk is plugged in during the wait.
	r.try("a twin appears while planning", "", report.CodeDiskAmbiguous, func(e report.Event) {
		if strings.HasPrefix(e.Text, "Waiting until no new disk") {
			came++
			r.plug("twin1", twin, "")
		}
	}, "more than one assignment")
	r.lines = r.lines[:len(r.lines)-1] // the next one has the same cause
	r.try("two equal blank disks", "", report.CodeDiskAmbiguous, nil, "more than one assignment")
	r.lines = r.lines[:len(r.lines)-1]
	r.pull("twin1")
	r.disks(2)

	r.sh("tool=$(command -v mkfs.xfs) && mv $tool $tool.away")
	r.try("a tool is missing", "", report.CodeToolMissing, nil, "mkfs.xfs", "is not in the image")
	r.sh("mv $tool.away $tool")

	r.try("a twin appears just before the first write", "", report.CodeDiskAmbiguous, func(e report.Event) {
		if asks(e, "key") {
			came++
			r.plug("twin2", twin, "")
		}
	}, "more than one assignment")
	if came != 2 {
		r.t.Errorf("the twin came %d times instead of twice", came)
	}
	r.pull("twin2")
	r.pull("one")
	r.disks(1)
}

// usedDisks: a disk with data, and the disk that holds the backup itself.
func (r *refusals) usedDisks(full, vault string) {
	r.plug("full", r.disk(full), "")
	r.disks(2)
	r.try("the disk is not blank", "", report.CodeDiskNotBlank, nil, "it is not blank")
	r.pull("full")

	r.plug("vault", r.disk(vault), "VAULT-1")
	r.disks(2)
	r.sh("mkdir -p /mnt/vault && mount -t ext4 -o ro,noload /dev/$(basename $(dirname $(grep -l VAULT-1 /sys/block/vd*/serial))) /mnt/vault")
	r.try("the only large disk holds the backup", "--backup file:///mnt/vault", report.CodeDiskProtected, nil, "VAULT-1", "it carries the backup in use")
}

// seen: the console, back in the menu, shows each message.
func (r *refusals) seen(mark int) {
	if _, err := r.Console().Write([]byte("exit\n")); err != nil {
		r.t.Fatal(err)
	}
	// It tells everything since the start, the last of which is the menu.
	ctx, cancel := soon(r.ctx, time.Minute)
	defer cancel()
	last := r.lines[len(r.lines)-1]
	if err := waitAfter(ctx, r.VM, mark, last); err != nil {
		r.t.Fatal(err)
	}
	text := r.Console().Text()[mark:]
	for _, l := range r.lines {
		if !strings.Contains(text, l) {
			r.t.Errorf("the console does not show: %s", l)
		}
	}
	for _, s := range []string{"exit code 5", "exit code 4", "exit code 1", "Nothing was erased"} {
		if !strings.Contains(text, s) {
			r.t.Errorf("the console does not show %q", s)
		}
	}
}
