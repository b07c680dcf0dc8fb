package archive

import (
	"bytes"
	"context"
	"math"
	"strings"
	"testing"
	"time"
)

func FuzzRecords(f *testing.F) {
	h := head{uuid: UUID{1, 2}, started: time.Unix(5, 6), host: "host"}
	x := prefix{kind: KindContinuation, seq: 7, stored: 100, tar: 512, owner: 3, skip: 4096, uuid: h.uuid}
	ft := foot{index: 1000, size: 50, uuid: h.uuid}
	f.Add(h.encode())
	f.Add(x.encode())
	f.Add(ft.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := decodeHead(b); err == nil && !bytes.Equal(h.encode(), b[:headBytes]) {
			t.Errorf("a head that would be written in another way: %+v", h)
		}
		if x, ok := decodePrefix(b, UUID{1, 2}); ok && (x.stored < 0 || x.tar > maxFrame || x.owner < 0) {
			t.Errorf("prefix %+v", x)
		}
		if ft, err := decodeFoot(b, 1058+footBytes-skipHeader); err == nil && (ft.index < headBytes || ft.size < 0) {
			t.Errorf("foot %+v", ft)
		}
	})
}

func TestRecordsRoundTrip(t *testing.T) {
	h := head{uuid: UUID{1, 2}, started: time.Unix(5, 6), host: strings.Repeat("h", maxHostID)}
	if got, err := decodeHead(h.encode()); err != nil || *got != h {
		t.Errorf("head: %+v, %v", got, err)
	}
	x := prefix{kind: KindContinuation, flags: 3, mount: 65535, seq: 1 << 40, stored: maxStored, tar: maxFrame, owner: 1<<40 - 1, skip: 1 << 60, uuid: h.uuid, sha: [32]byte{9}}
	if got, ok := decodePrefix(x.encode(), h.uuid); !ok || *got != x {
		t.Errorf("prefix: %+v, %v", got, ok)
	}
	if _, ok := decodePrefix(x.encode(), UUID{}); ok {
		t.Error("the prefix of another archive was taken")
	}
	ft := foot{index: 1 << 50, size: 1<<32 - 1, sha: [32]byte{7}, uuid: h.uuid}
	if got, err := decodeFoot(ft.encode(), ft.index+ft.size+footBytes); err != nil || *got != ft {
		t.Errorf("foot: %+v, %v", got, err)
	}
}

func FuzzIndex(f *testing.F) {
	x := index{head: []byte("head"), ended: time.Unix(1, 2), mounts: []Mount{{Path: "/", Files: 3, Bytes: 1 << 40}},
		splits: []splitFile{{path: "/big", owner: 0, size: 1 << 30}}, change: []Changed{{0, "/x", "grew"}},
		rows: []row{{kind: KindEntries, offset: 360, stored: 10, tar: 512, first: "/", split: 1},
			{kind: KindContinuation, offset: 474, stored: 10, tar: 1024, split: 1, skip: 5, ranges: []Range{{512, 100}, {4096, 900}}}}}
	payload, err := x.encode()
	if err != nil {
		f.Fatal(err)
	}
	body := unzstd(f, payload[len(indexTag):])
	if got, err := decodeIndexBody(body, 10_000); err != nil || len(got.rows) != 2 || got.rows[1].ranges[1] != (Range{4096, 900}) {
		f.Fatalf("%+v, %v", got, err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := decodeIndexBody(b, 1<<20)
		if err != nil {
			return
		}
		payload, err := x.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeIndex(payload, 1<<20)
		if err != nil || len(again.rows) != len(x.rows) || len(again.splits) != len(x.splits) {
			t.Errorf("written again it reads as %+v, %v", again, err)
		}
	})
}

func unzstd(t testing.TB, b []byte) []byte { return tarStream(t, b) }

func FuzzTar(f *testing.F) {
	var w tarWriter
	for _, e := range []Entry{
		{Path: "/etc/fstab", Type: '0', Mode: 0644, UID: math.MaxUint32 - 1, Nsec: 5, Xattrs: []Xattr{{"user.a=b%", []byte("x\n\x00y")}}, ACL: "user::rwx"},
		{Path: "/" + strings.Repeat("long/", 60), Type: '5', Flags: fsImmutable},
		{Path: "/s", Type: '0', Size: 1 << 40, Sparse: []Range{{512, 10}}, stored: 522},
		{Path: "/l", Type: '2', Link: strings.Repeat("\xff", 200), SELinux: "a:b:c:s0"},
	} {
		b, err := w.appendHeader(nil, &e)
		if err != nil {
			f.Fatal(err)
		}
		if e.Sparse != nil {
			b = appendZeros(appendSparseMap(b, e.Sparse, e.Size), block)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := tarReader{rest: b}
		for range len(b)/block + 1 {
			e, data, _, err := r.next()
			if err != nil || e == nil {
				return
			}
			if !strings.HasPrefix(e.Path, "/") || strings.Contains(e.Path, "/../") || len(data) > len(b) {
				t.Fatalf("path %q, %d bytes", e.Path, len(data))
			}
			end := int64(0)
			for _, r := range e.Sparse {
				if r.Off < end || r.Len <= 0 || r.Off+r.Len > e.Size {
					t.Fatalf("sparse map %v of a file of %d bytes", e.Sparse, e.Size)
				}
				end = r.Off + r.Len
			}
		}
		if len(r.rest) > 0 {
			t.Fatal("the reader does not come to an end")
		}
	})
}

// FuzzHeaders writes any entry and reads it back.
func FuzzHeaders(f *testing.F) {
	f.Add("/etc/fstab", "target", "user.x", []byte("v"), int64(1), int64(2), uint32(0), uint32(1<<21), byte('0'))
	f.Add("/"+strings.Repeat("x", 150)+"/"+strings.Repeat("y", 100), "t", "", []byte{}, int64(-1), int64(999999999), uint32(math.MaxUint32), uint32(1<<21-1), byte('5'))
	f.Add("/"+strings.Repeat("x", 155)+"/"+strings.Repeat("y", 99)+"/z", strings.Repeat("t", 101), "a=%3D", []byte("=\n"), int64(math.MinInt64/4), int64(1), uint32(8), uint32(9), byte('2'))
	f.Fuzz(func(t *testing.T, path, link, attr string, value []byte, sec, nsec int64, mode, id uint32, kind byte) {
		clean, err := cleanName(path)
		if err != nil || strings.IndexByte("02356", kind) < 0 || strings.IndexByte(link+attr, 0) >= 0 || len(link) > 4096 || sec > 1<<61 || sec < -(1<<61) {
			return
		}
		e := Entry{Path: clean, Type: kind, Mode: mode & 07777, UID: id, GID: id ^ 1, Sec: sec, Nsec: max(nsec, -nsec, 0) % 1e9, Flags: mode & ourFlags}
		if kind == '2' {
			e.Link = link
		}
		if attr != "" {
			e.Xattrs = []Xattr{{attr, value}}
		}
		var w tarWriter
		b, err := w.appendHeader(nil, &e)
		if err != nil {
			t.Fatal(err)
		}
		got, data, cut, err := (&tarReader{rest: b}).next()
		if err != nil || len(data) > 0 || cut {
			t.Fatalf("%+v: %v", e, err)
		}
		if got.Path != e.Path || got.Link != e.Link || got.Mode != e.Mode || got.UID != e.UID || got.GID != e.GID || got.Sec != e.Sec || got.Nsec != e.Nsec || got.Flags != e.Flags {
			t.Fatalf("wrote %+v\nread  %+v", e, got)
		}
		if attr != "" && (len(got.Xattrs) != 1 || got.Xattrs[0].Name != attr || !bytes.Equal(got.Xattrs[0].Value, value)) {
			t.Fatalf("attributes: wrote %q, read %q", e.Xattrs, got.Xattrs)
		}
	})
}

func FuzzACL(f *testing.F) {
	f.Add("user::rwx,user:1000:r-x,group::r--,group:4294967294:---,mask::rwx,other::---", []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, text string, b []byte) {
		if bin, err := aclBinary(text); err == nil {
			again, err := aclText(bin)
			if err != nil {
				t.Fatalf("%q became %x: %v", text, bin, err)
			}
			if bin2, err := aclBinary(again); err != nil || !bytes.Equal(bin, bin2) {
				t.Fatalf("%q became %q", text, again)
			}
		}
		if s, err := aclText(b); err == nil && s != "" {
			if _, err := aclBinary(s); err != nil {
				t.Fatalf("%x became %q: %v", b, s, err)
			}
		}
	})
}

func FuzzMountinfo(f *testing.F) {
	f.Add("22 27 0:21 / /srv/a\\040b rw - proc proc rw\n1 2 0:3 / /srv rw\nshort\n", "/srv")
	f.Fuzz(func(t *testing.T, text, at string) {
		for p := range parseMountinfo(text, at) {
			if p == "" {
				t.Error("an empty path")
			}
		}
		appendChildren(nil, []byte(text))
	})
}

func TestMountinfo(t *testing.T) {
	got := parseMountinfo("22 27 0:21 / /srv/a\\040b rw - x x rw\n1 2 0:3 / /srv rw - y y rw\n1 2 0:3 / /srv/c/d rw - y y rw\n1 2 0:3 / /srvX rw - y y rw\n", "/srv")
	if len(got) != 2 || !got["a b"] || !got["c/d"] {
		t.Errorf("below /srv: %v", got)
	}
	if got := parseMountinfo("1 2 0:3 / / rw\n1 2 0:3 / /proc rw\n", "/"); len(got) != 1 || !got["proc"] {
		t.Errorf("below /: %v", got)
	}
}

// FuzzFile damages a small archive and does everything with it.
func FuzzFile(f *testing.F) {
	b, _ := smallArchiveOf(f, make([]byte, frameTar+10))
	f.Add(uint32(5), byte(1), uint32(0))
	f.Add(uint32(len(b)-70), byte(8), uint32(0))
	f.Add(uint32(300), byte(8), uint32(100))
	f.Fuzz(func(t *testing.T, at uint32, xor byte, cut uint32) {
		c := bytes.Clone(b[:len(b)-int(cut)%len(b)])
		c[int(at)%len(c)] ^= xor
		a, err := Open(bytes.NewReader(c), int64(len(c)))
		if err != nil && !known(err) {
			t.Fatal(err)
		}
		if err == nil {
			a.Manifest()
			a.List(context.Background(), func(*Entry) error { return nil })
		}
		a, _, err = Salvage(context.Background(), bytes.NewReader(c), int64(len(c)), nil)
		if err == nil {
			a.List(context.Background(), func(*Entry) error { return nil })
		} else if !known(err) {
			t.Fatal(err)
		}
	})
}
