package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// smallArchive has a frame of every kind, two mounts and a split file.
func smallArchive(t testing.TB) ([]byte, string) {
	return smallArchiveOf(t, noise(2*frameTar+1000))
}

func smallArchiveOf(t testing.TB, big []byte) ([]byte, string) {
	t.Helper()
	src, boot := t.TempDir(), t.TempDir()
	write(t, src+"/a/first", []byte("first"))
	write(t, src+"/m/big", big)
	write(t, src+"/z/last", []byte("last"))
	must(t, os.Mkdir(src+"/boot", 0750))
	must(t, os.Link(src+"/a/first", src+"/z/link"))
	must(t, os.Chmod(src+"/a", 0701))
	write(t, boot+"/kernel", noise(1000))
	b, _ := packAll(t, Options{HostID: "h", Manifest: []byte("manifest")}, Source{Path: "/", At: src}, Source{Path: "/boot", At: boot})
	return b, src
}

// check is what a caller does with a file before it trusts it.
func check(b []byte) error {
	a, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	return a.Verify(context.Background(), true, nil)
}

func known(err error) bool {
	return errors.Is(err, ErrNotArchive) || errors.Is(err, ErrCutShort) || errors.Is(err, ErrDamaged) || errors.Is(err, ErrVersion)
}

// TestEveryByteIsProtected flips one bit in every byte of an archive: no change goes
// unseen, and none is taken for something else than damage.
func TestEveryByteIsProtected(t *testing.T) {
	b, _ := smallArchiveOf(t, make([]byte, 2*frameTar+1000))
	must(t, check(b))
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1 << (i % 8)
		if err := check(c); err == nil || !known(err) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
	}
	t.Logf("%d bytes", len(b))
}

func TestQuickVerifyReadsFirstAndLastFrame(t *testing.T) {
	b, _ := smallArchive(t)
	rows := open(t, b).x.rows
	for i, want := range map[int]bool{0: true, 1: true, 2: false, len(rows) - 1: true} {
		c := bytes.Clone(b)
		c[rows[i].offset+9] ^= 4
		err := open(t, c).Verify(context.Background(), false, nil)
		if (err != nil) != want {
			t.Errorf("frame %d damaged: %v", i, err)
		}
		var fe *FrameError
		if want && (!errors.As(err, &fe) || fe.Frame != i) {
			t.Errorf("frame %d damaged: the error does not say so: %v", i, err)
		}
	}
}

func TestCutAnywhere(t *testing.T) {
	b, _ := smallArchive(t)
	rows := open(t, b).x.rows
	cuts := []int{0, 1, 8, 100, headBytes - 1, headBytes, len(b) - 1, len(b) - footBytes, len(b) - footBytes/2}
	for _, r := range rows {
		cuts = append(cuts, int(r.offset)-prefixBytes+3, int(r.offset), int(r.offset)+r.stored/2, int(r.offset)+r.stored)
	}
	for _, n := range cuts {
		_, err := Open(bytes.NewReader(b[:n]), int64(n))
		want := ErrCutShort
		if n < skipHeader+len(headTag) {
			want = ErrNotArchive
		}
		if !errors.Is(err, want) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
		a, losses, err := Salvage(context.Background(), bytes.NewReader(b[:n]), int64(n), nil)
		if err != nil {
			if n > int(rows[0].offset) || !errors.Is(err, ErrNotArchive) {
				t.Errorf("cut to %d bytes: Salvage: %v", n, err)
			}
			continue
		}
		// An index or footer that is lost takes no data with it.
		if last := rows[len(rows)-1]; (len(losses) == 0) != (n >= int(last.offset)+last.stored) {
			t.Errorf("cut to %d bytes: losses %v", n, losses)
		}
		if _, err := a.Restore(context.Background(), t.TempDir(), RestoreOptions{}); err != nil {
			t.Errorf("cut to %d bytes: restoring what is left: %v", n, err)
		}
	}
}

func TestStrangeFiles(t *testing.T) {
	for name, b := range map[string][]byte{"empty": {}, "text": []byte(strings.Repeat("hello ", 100)), "zeros": make([]byte, 1000)} {
		if _, err := Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrNotArchive) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := Salvage(context.Background(), bytes.NewReader(b), int64(len(b)), nil); !errors.Is(err, ErrNotArchive) {
			t.Errorf("%s: Salvage: %v", name, err)
		}
	}
	b, _ := smallArchive(t)
	b[skipHeader+8] = 2 // the version
	if _, err := Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrVersion) {
		t.Errorf("version 2: %v", err)
	}
	// Two archives mixed: head of one, rest of the other.
	x, _ := smallArchive(t)
	y, _ := smallArchive(t)
	copy(x, y[:headBytes])
	if _, err := Open(bytes.NewReader(x), int64(len(x))); !errors.Is(err, ErrDamaged) {
		t.Errorf("another archive's head: %v", err)
	}
}

// salvaged restores what is left of b and lists the losses.
func salvaged(t *testing.T, b []byte) (string, string, *Restored) {
	t.Helper()
	a, losses, err := Salvage(context.Background(), bytes.NewReader(b), int64(len(b)), nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	res, err := a.Restore(context.Background(), dir, RestoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, l := range losses {
		if l.Why == nil {
			t.Errorf("a loss without a reason: %+v", l)
		}
		said = append(said, l.What())
	}
	return dir, strings.Join(said, "; "), res
}

func TestSalvageNothingLost(t *testing.T) {
	b, src := smallArchive(t)
	dir, said, _ := salvaged(t, b)
	if said != "" {
		t.Errorf("losses of a whole archive: %s", said)
	}
	rows := open(t, b).x.rows
	last := rows[len(rows)-1]
	dir2, said, _ := salvaged(t, b[:int(last.offset)+last.stored]) // no index, no footer
	if said != "" {
		t.Errorf("losses without an index: %s", said)
	}
	same(t, dir, dir2)
	if got := find(t, dir+"/a", `%p %m %n %T@\n`); got != find(t, src+"/a", `%p %m %n %T@\n`) {
		t.Errorf("restored: %s", got)
	}
}

func TestSalvageWithIndex(t *testing.T) {
	b, src := smallArchive(t)
	big, err := os.ReadFile(src + "/m/big")
	must(t, err)
	rows := open(t, b).x.rows
	for i, r := range rows {
		c := bytes.Clone(b)
		c[r.offset+int64(r.stored)/2] ^= 1
		dir, said, res := salvaged(t, c)
		got, _ := os.ReadFile(dir + "/m/big")
		want := map[Kind]string{
			KindManifest: "the manifest", KindHardLinks: `hard links from "/z/link" on`, KindEnd: "the end of the tar stream",
		}[r.kind]
		switch {
		case r.kind == KindContinuation:
			g := r.ranges[0]
			want = fmt.Sprintf(`bytes %d to %d of "/m/big"`, g.Off, g.Off+g.Len)
			hole := bytes.Clone(big)
			clear(hole[g.Off : g.Off+g.Len])
			if !bytes.Equal(got, hole) {
				t.Errorf("frame %d: the file with a lost piece is not what it should be", i)
			}
		case r.kind == KindDirectories:
			if st, err := os.Stat(dir + "/a"); err != nil || st.Mode().Perm() != 0701 {
				t.Errorf("frame %d: directory metadata did not come from the walk: %v %v", i, st, err)
			}
			want = map[int]string{0: `owners and modes of directories from "/a" up to "/boot"`, 1: `owners and modes of directories from "/boot" on`}[r.mount]
		case r.kind == KindEntries && r.split > 0:
			want = `the large file "/m/big" and what is packed from "/" up to "/z"`
			if res.Problems.Count() == 0 {
				t.Errorf("frame %d: no problem with the file that has no header", i)
			}
		case r.kind == KindEntries && r.first == "/z":
			want = `what is packed from "/z" up to "/boot"`
		case r.kind == KindEntries:
			want = `what is packed from "/boot" on`
		}
		if said != want {
			t.Errorf("frame %d (%s): losses: %s\nwanted: %s", i, r.kind, said, want)
		}
		if r.kind != KindContinuation && r.split == 0 && !bytes.Equal(got, big) {
			t.Errorf("frame %d (%s): the large file did not come back", i, r.kind)
		}
	}
}

// TestSalvageWithoutIndex also damages a prefix, so the next has to be searched.
func TestSalvageWithoutIndex(t *testing.T) {
	b, src := smallArchive(t)
	big, err := os.ReadFile(src + "/m/big")
	must(t, err)
	rows := open(t, b).x.rows
	for i, r := range rows[1 : len(rows)-1] {
		for _, place := range []int64{r.offset + int64(r.stored)/2, r.offset - 50} {
			c := bytes.Clone(b[:len(b)-10])
			c[place] ^= 1
			dir, said, _ := salvaged(t, c)
			// With the header of a large file goes all of it, whose name nobody knows then.
			want := 1
			if r.split > 0 && r.kind == KindEntries {
				want = 3
			}
			if n := strings.Count(said, ";") + 1; said == "" || n != want {
				t.Errorf("frame %d, byte %d: losses: %q", i+1, place, said)
			}
			got, _ := os.ReadFile(dir + "/m/big")
			if r.kind != KindContinuation && r.split == 0 && !bytes.Equal(got, big) {
				t.Errorf("frame %d (%s), byte %d: the large file did not come back", i+1, r.kind, place)
			}
		}
	}
	c := bytes.Clone(b[:len(b)-10])
	c[3] ^= 1 // the head as well
	if _, said, _ := salvaged(t, c); said != "" {
		t.Errorf("head and footer damaged: losses: %q", said)
	}
}

// TestArchiveInArchive hides whole frames of another archive in the data.
func TestArchiveInArchive(t *testing.T) {
	inner, _ := smallArchive(t)
	src := t.TempDir()
	write(t, src+"/backup.lba", inner)
	write(t, src+"/zz", []byte("after"))
	b := pack(t, src)
	stored := 0
	for _, r := range open(t, inner).x.rows {
		if bytes.Contains(b, inner[r.offset-prefixBytes:r.offset]) {
			stored++
		}
	}
	if stored == 0 {
		t.Fatal("the inner archive is not stored as it is: this test shows nothing")
	}
	r := open(t, b).x.rows[1]
	c := bytes.Clone(b[:len(b)-10])
	c[r.offset-50] ^= 1
	a, _, err := Salvage(context.Background(), bytes.NewReader(c), int64(len(c)), nil)
	must(t, err)
	if len(a.x.rows) > len(open(t, b).x.rows) {
		t.Errorf("frames of the packed archive were taken for ours: %d", len(a.x.rows))
	}
}

func TestDamagedFrameStopsRestore(t *testing.T) {
	b, _ := smallArchive(t)
	r := open(t, b).x.rows[1]
	b[r.offset+20] ^= 1
	_, err := open(t, b).Restore(context.Background(), t.TempDir(), RestoreOptions{})
	var fe *FrameError
	if !errors.As(err, &fe) || fe.Frame != 1 || !errors.Is(err, ErrDamaged) {
		t.Errorf("Restore: %v", err)
	}
}

type brokenStore struct {
	b    *bytes.Reader
	from int64
}

func (s *brokenStore) ReadAt(b []byte, off int64) (int, error) {
	if off < s.from+1000 && off+int64(len(b)) > s.from {
		return 0, unix.EIO
	}
	return s.b.ReadAt(b, off)
}

func TestStoreFails(t *testing.T) {
	b, _ := smallArchive(t)
	r := open(t, b).x.rows[2]
	store := &brokenStore{bytes.NewReader(b), r.offset}
	a, err := Open(store, int64(len(b)))
	must(t, err)
	if _, err := a.Restore(context.Background(), t.TempDir(), RestoreOptions{}); !errors.Is(err, unix.EIO) {
		t.Errorf("Restore: %v", err)
	}
	if err := a.Verify(context.Background(), true, nil); err == nil {
		t.Error("Verify saw nothing")
	}
	_, losses, err := Salvage(context.Background(), store, int64(len(b)), nil)
	if err != nil || len(losses) != 1 || losses[0].Frame != 2 {
		t.Errorf("Salvage: %v, %v", losses, err)
	}
}
