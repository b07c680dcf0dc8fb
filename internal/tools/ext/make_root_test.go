//go:build root

package ext

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"lifeboat/internal/run"
)

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func file(t *testing.T, name string, bytes int64) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(p, bytes); err != nil {
		t.Fatal(err)
	}
	return p
}

// passing are lines of dumpe2fs that tell of time and of what was written,
// not of what was made.
var passing = regexp.MustCompile(`(?m)^(Filesystem created|Last (mount|write) time|Last checked|Next check after|Lifetime writes|Checksum|Mount count|Journal checksum|    mmp_update_date|    mmp_update_time).*\n`)

func dump(t *testing.T, dev string) string {
	out, err := exec.Command("dumpe2fs", "-h", dev).Output()
	if err != nil {
		t.Fatalf("dumpe2fs: %v", err)
	}
	return passing.ReplaceAllString(string(out), "")
}

// Filesystems that e2fsprogs makes with options far from the defaults are
// made again; dumpe2fs must print the same for both, and e2fsck find nothing.
func TestMadeAgainTheSame(t *testing.T) {
	cases := map[string]struct {
		mke, tune string
		mib       int64
	}{
		"ext4":             {mke: "-t ext4", mib: 300},
		"ext3":             {mke: "-t ext3 -L alt", mib: 100},
		"ext2 of 1 KiB":    {mke: "-t ext2 -b 1024", mib: 20},
		"revision 0":       {mke: "-t ext2 -r 0", mib: 20},
		"old ext4":         {mke: "-t ext4 -O ^metadata_csum,^64bit,uninit_bg,^orphan_file -I 128", mib: 200},
		"new features":     {mke: "-t ext4 -O metadata_csum_seed,orphan_file,64bit,large_dir,inline_data", mib: 300},
		"casefold":         {mke: "-t ext4 -O casefold,encrypt,verity,stable_inodes", mib: 300},
		"casefold, strict": {mke: "-t ext4 -O casefold -E encoding=utf8-12.1,encoding_flags=strict", mib: 300},
		"quota of users":   {mke: "-t ext4 -O quota -E quotatype=usrquota", mib: 300},
		"quota of two":     {mke: "-t ext4 -O quota,project -E quotatype=grpquota:prjquota", mib: 300},
		"quota":            {mke: "-t ext4 -O quota,project", mib: 300},
		"fast commit":      {mke: "-t ext4 -O fast_commit -J size=16", mib: 600},
		"no journal":       {mke: "-t ext4 -O ^has_journal", mib: 100},
		"no resize inode":  {mke: "-t ext4 -O ^resize_inode,meta_bg,^64bit", mib: 300},
		"few inodes":       {mke: "-t ext4 -N 777 -m 1.5", mib: 300},
		"many inodes":      {mke: "-t ext4 -i 2048 -m 0", mib: 300},
		"journal of 64":    {mke: "-t ext4 -J size=64", mib: 600},
		"stripes":          {mke: "-t ext4 -E stride=16,stripe_width=48,resize=200000000", mib: 300},
		"flex 64":          {mke: "-t ext4 -G 64 -b 2048", mib: 300},
		"bigalloc":         {mke: "-t ext4 -O bigalloc -C 65536", mib: 600},
		"small groups":     {mke: "-t ext4 -g 16384", mib: 600},
		"sparse_super2":    {mke: "-t ext4 -O sparse_super2,^resize_inode", mib: 300},
		"mmp":              {mke: "-t ext4 -O mmp", mib: 300},
		"ea_inode":         {mke: "-t ext4 -O ea_inode -b 1024", mib: 300},
		"last mounted":     {mke: "-t ext4 -M /srv/a:b", mib: 300},
		"odd block count":  {mke: "-t ext4 -b 4096 @ 70001", mib: 300},
		"tuned":            {mke: "-t ext4", tune: "-c 33 -i 7d -r 1234 -u 1 -g 2 -e panic -o ^acl,journal_data_writeback,nodelalloc -E hash_alg=tea", mib: 300},
		"options by hand":  {mke: "-t ext4", tune: "-o ^user_xattr,bsdgroups,block_validity -e remount-ro -c -1", mib: 300},
		"grown":            {mke: "-t ext4 @ 60M", tune: "grow", mib: 3000},
		"seed of old UUID": {mke: "-t ext4 -O metadata_csum_seed -U 5c3c6b2e-7a52-4f0e-9b5c-000000000001", mib: 100},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			made, again := file(t, "made", c.mib<<20), file(t, "again", c.mib<<20)
			args := append([]string{"-q", "-F"}, strings.Fields(strings.Replace(c.mke, "@", made, 1))...)
			if !strings.Contains(c.mke, "@") {
				args = append(args, made)
			}
			tool(t, "mke2fs", args...)
			switch {
			case c.tune == "grow":
				tool(t, "resize2fs", made)
			case c.tune != "":
				tool(t, "tune2fs", append(strings.Fields(c.tune), made)...)
			}
			fs, err := Read(context.Background(), run.Exec{}, made)
			if err != nil {
				t.Fatal(err)
			}
			// Over another filesystem, as after an earlier try.
			tool(t, "mkfs.vfat", again)
			if err := Make(context.Background(), run.Exec{Log: t.Logf}, again, fs); err != nil {
				t.Fatal(err)
			}
			a, b := dump(t, made), dump(t, again)
			if c.tune == "grow" {
				// resize2fs leaves the hint of the overhead empty.
				b = regexp.MustCompile("Overhead clusters.*\n").ReplaceAllString(b, "")
			}
			if a != b {
				t.Errorf("dumpe2fs differs:\n%s", diff(a, b))
			}
			if a, b := encoding(t, made), encoding(t, again); a != b {
				t.Errorf("encoding and its flags: %x, not %x", b, a)
			}
			tool(t, "e2fsck", "-fn", again)
		})
	}
}

// encoding are the superblock's s_encoding and s_encoding_flags, which dumpe2fs
// prints in part only.
func encoding(t *testing.T, dev string) string {
	t.Helper()
	b, err := os.ReadFile(dev)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[1024+0x27c : 1024+0x280])
}

// diff shows lines that only one text has.
func diff(a, b string) string {
	var out strings.Builder
	in := func(text, line string) bool { return strings.Contains("\n"+text, "\n"+line) }
	for l := range strings.Lines(a) {
		if !in(b, l) {
			out.WriteString("- " + l)
		}
	}
	for l := range strings.Lines(b) {
		if !in(a, l) {
			out.WriteString("+ " + l)
		}
	}
	return out.String()
}
