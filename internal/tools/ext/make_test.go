package ext

import (
	"context"
	"errors"
	"slices"
	"testing"

	"lifeboat/internal/run"
	"lifeboat/manifest"
)

func TestMakeArgv(t *testing.T) {
	for name, want := range map[string][]string{
		"all.txt": {
			"mke2fs -q -F -O none,64bit,casefold,dir_index,dir_nlink,ext_attr,extent,extra_isize,fast_commit,filetype,flex_bg,has_journal,huge_file,large_file," +
				"metadata_csum,metadata_csum_seed,orphan_file,project,quota,resize_inode,sparse_super -b 1024 -I 256 -N 76912 -m 0 -G 16 -J size=8 " +
				"-U ccc32557-dc7d-430a-9232-b9d2714d1cf9 -L 'lab el' -M '/mnt/x y' " +
				"-E nodiscard,hash_seed=1b35403b-0de0-49ba-9eab-64baa7332284,stride=16,stripe_width=64,resize=33947648,encoding=utf8-12.1,encoding_flags=strict,quotatype=usrquota:grpquota:prjquota /dev/x 307200",
			"tune2fs -c 20 -i 432000s -r 15360 -u 0 -g 0 -e continue " +
				"-o ^debug,^bsdgroups,^uid16,^nobarrier,^block_validity,^discard,^nodelalloc,journal_data,user_xattr,acl -E stride=16,stripe_width=64,hash_alg=half_md4,mount_opts=nodelalloc /dev/x",
		},
		"rev0.txt": {
			"mke2fs -q -F -O none -r 0 -b 1024 -N 5136 -m 0 -U 2b6f2b19-5d3c-4a52-9d80-6a3d9b2f6a01 -E nodiscard,hash_seed=1b35403b-0de0-49ba-9eab-64baa7332284 /dev/x 20480",
			"tune2fs -c -1 -i 0s -r 1024 -u 0 -g 0 -e continue -o ^debug,^bsdgroups,^user_xattr,^acl,^uid16,^nobarrier,^block_validity,^discard,^nodelalloc -E stride=0,stripe_width=0,hash_alg=half_md4 /dev/x",
		},
	} {
		fs, err := parse(recorded(t, name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "rev0.txt" {
			fs.UUID, fs.Ext.HashSeed = "2b6f2b19-5d3c-4a52-9d80-6a3d9b2f6a01", "1b35403b-0de0-49ba-9eab-64baa7332284"
		}
		if name == "all.txt" {
			fs.Ext.Strict = true // not in dumpe2fs's output
		}
		f := &run.Fake{}
		if err := Make(context.Background(), f, "/dev/x", fs); err != nil {
			t.Fatal(err)
		}
		if got := f.Calls(); !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", name, got, want)
		}
	}
}

func TestMakeRefuses(t *testing.T) {
	for _, e := range []manifest.Ext{
		{Features: []string{"FEATURE_I31", "filetype"}}, {Features: []string{"has_journal"}, JournalUUID: "5c3c6b2e-7a52-4f0e-9b5c-000000000001"},
	} {
		f := &run.Fake{}
		if err := Make(context.Background(), f, "/dev/x", &manifest.FS{Type: "ext4", Ext: &e}); !errors.Is(err, ErrUnsupported) || len(f.Calls()) > 0 {
			t.Errorf("%+v: %v, calls %q", e, err, f.Calls())
		}
	}
}

func TestCheckStatus(t *testing.T) {
	for code, good := range map[int]bool{0: true, 1: true, 2: false, 4: false} {
		f := &run.Fake{Answer: func(run.Cmd) (run.Result, error) { return run.Result{Code: code}, nil }}
		if err := Check(context.Background(), f, "/dev/x"); (err == nil) != good || f.Calls()[0] != "e2fsck -p /dev/x" {
			t.Errorf("status %d: %v, %q", code, err, f.Calls())
		}
	}
}
