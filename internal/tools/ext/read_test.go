package ext

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"lifeboat/internal/run"
	"lifeboat/manifest"
)

func recorded(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestReadRecorded(t *testing.T) {
	for name, want := range map[string]*manifest.FS{
		"ext4.txt": {Type: "ext4", UUID: "5c3c6b2e-7a52-4f0e-9b5c-000000000001", Label: "root", Ext: &manifest.Ext{
			Features: []string{"64bit", "dir_index", "dir_nlink", "ext_attr", "extent", "extra_isize", "filetype", "flex_bg", "has_journal",
				"huge_file", "large_file", "metadata_csum", "resize_inode", "sparse_super"},
			BlockSize: 4096, Blocks: 524288, InodeSize: 256, Inodes: 131072, Reserved: 1234, ReservedUID: 7, ReservedGID: 8,
			Journal: 64 << 20, HashAlg: "half_md4", MountOptions: []string{"user_xattr", "acl"}, Errors: "remount-ro",
			MaxMounts: -1, FlexBG: 16, Revision: "1", ReservedGDT: 255, GroupBlocks: 32768,
		}},
		"ext3.txt": {Type: "ext3", Ext: &manifest.Ext{
			Features:  []string{"dir_index", "ext_attr", "filetype", "has_journal", "large_file", "resize_inode", "sparse_super"},
			BlockSize: 1024, Blocks: 65536, InodeSize: 128, Inodes: 5056, Journal: 4 << 20, HashAlg: "half_md4",
			MountOptions: []string{"user_xattr", "acl"}, Errors: "continue", MaxMounts: -1, Revision: "1", ReservedGDT: 255, GroupBlocks: 8192,
		}},
		"rev0.txt": {Type: "ext2", Ext: &manifest.Ext{
			BlockSize: 1024, Blocks: 20480, InodeSize: 128, Inodes: 5136, Reserved: 1024, HashAlg: "half_md4", MountOptions: []string{},
			Errors: "continue", MaxMounts: -1, Revision: "0", GroupBlocks: 8192,
		}},
		"all.txt": {Type: "ext4", Label: "lab el", Ext: &manifest.Ext{
			Features: []string{"64bit", "casefold", "dir_index", "dir_nlink", "ext_attr", "extent", "extra_isize", "fast_commit", "filetype", "flex_bg",
				"has_journal", "huge_file", "large_file", "metadata_csum", "metadata_csum_seed", "orphan_file", "project", "quota", "resize_inode", "sparse_super"},
			BlockSize: 1024, Blocks: 307200, InodeSize: 256, Inodes: 76912, Reserved: 15360, Journal: 8 << 20, HashAlg: "half_md4", Stride: 16, StripeWidth: 64,
			MountOptions: []string{"journal_data", "user_xattr", "acl"}, MoreOptions: "nodelalloc", Errors: "continue", MaxMounts: 20, CheckSeconds: 432000, FlexBG: 16,
			Revision: "1", ReservedGDT: 256, GroupBlocks: 8192, LastMounted: "/mnt/x y", Encoding: "utf8-12.1", Strict: true, Quotas: []string{"usrquota", "grpquota", "prjquota"},
		}},
	} {
		r := &run.Fake{Answer: func(run.Cmd) (run.Result, error) { return run.Result{Stdout: []byte(recorded(t, name))}, nil }}
		// dumpe2fs does not print whether an encoding is strict: that is read
		// from the superblock, of which this holds magic and flags.
		b := make([]byte, 2048)
		b[1024+0x38], b[1024+0x39], b[1024+0x27e] = 0x53, 0xef, 1
		dev := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(dev, b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Read(context.Background(), r, dev)
		if err != nil {
			t.Fatal(name, err)
		}
		if name != "ext4.txt" {
			got.UUID = ""
		}
		got.Ext.HashSeed, got.Ext.ChecksumSeed = "", ""
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\n     %+v\nwant %+v\n     %+v", name, got, got.Ext, want, want.Ext)
		}
	}
}

func TestReadNone(t *testing.T) {
	r := &run.Fake{Answer: func(c run.Cmd) (run.Result, error) {
		return run.Result{}, &run.Error{Argv: c.Args, Code: 1, Stderr: "dumpe2fs: Bad magic number in super-block while trying to open /dev/x", Cause: errors.New("exit status 1")}
	}}
	if _, err := Read(context.Background(), r, "/dev/x"); !errors.Is(err, ErrNone) {
		t.Errorf("error is %v, not ErrNone", err)
	}
}

// A last mounted path or label may hold a colon or look like a key.
func TestReadOddLabel(t *testing.T) {
	h := split("Filesystem volume name:   a: b \nLast mounted on:          <not available>\nInode size:\t          128\n")
	if h["Filesystem volume name"] != "a: b " || h.text("Last mounted on") != "" || h["Inode size"] != "128" {
		t.Errorf("%q", h)
	}
}

func FuzzParse(f *testing.F) {
	for _, n := range []string{"ext4.txt", "ext3.txt", "rev0.txt", "all.txt"} {
		f.Add(recorded(f, n))
	}
	f.Fuzz(func(t *testing.T, s string) {
		if fs, err := parse(s); err == nil && fs.Ext == nil {
			t.Error("no parameters and no error")
		}
	})
}
