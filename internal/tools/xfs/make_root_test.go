//go:build root

package xfs

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

// passing are words of the superblock that tell of what was written, and the
// trace of a UUID that was changed after mkfs.
var passing = regexp.MustCompile(`(?m)^(crc|lsn|icount|ifree|fdblocks|meta_uuid|uquotino|gquotino|pquotino) = .*\n`)

func superblock(t *testing.T, dev string) string {
	return passing.ReplaceAllString(tool(t, "xfs_db", "-r", "-c", "sb 0", "-c", "print", dev), "")
}

func info(t *testing.T, dev string) string {
	return strings.ReplaceAll(tool(t, "xfs_db", "-r", "-c", "info", dev), dev, strings.Repeat("x", 8))
}

// Filesystems that mkfs.xfs makes with options far from its defaults are made
// again: xfs_db must print the same superblock and geometry for both, and
// xfs_repair find nothing.
func TestMadeAgainTheSame(t *testing.T) {
	for name, c := range map[string]struct {
		mkfs, change string
		mib          int64
	}{
		"default":            {mib: 400},
		"label and UUID":     {mkfs: "-L x,=l -m uuid=5c3c6b2e-7a52-4f0e-9b5c-000000000001", mib: 400},
		"as on EL7":          {mkfs: "-m crc=1,finobt=0,reflink=0,rmapbt=0,bigtime=0,inobtcount=0 -i sparse=0,nrext64=0", mib: 400},
		"as on EL8":          {mkfs: "-m bigtime=0,inobtcount=0", mib: 400},
		"everything on":      {mkfs: "-m rmapbt=1,reflink=1,bigtime=1,inobtcount=1 -i nrext64=1", mib: 500},
		"version 4":          {mkfs: "-m crc=0 -i attr=2,projid32bit=0 -n ftype=0 -l lazy-count=0", mib: 400},
		"version 4, old log": {mkfs: "-m crc=0 -i attr=1 -l version=1", mib: 400},
		"version 4, ftype":   {mkfs: "-m crc=0 -n ftype=1", mib: 400},
		"sectors of 4096":    {mkfs: "-s size=4096", mib: 400},
		"stripes":            {mkfs: "-d su=64k,sw=3 -l su=64k", mib: 900},
		"log stripes only":   {mkfs: "-d noalign -l su=32k", mib: 900},
		"stripes, 4096":      {mkfs: "-d sunit=512,swidth=1024 -s size=4096", mib: 900},
		"log of 100 MiB":     {mkfs: "-l size=100m", mib: 900},
		"eleven groups":      {mkfs: "-d agcount=11", mib: 1200},
		"blocks of 1024":     {mkfs: "-b size=1024 -n size=8192", mib: 500},
		"blocks of 65536":    {mkfs: "-b size=65536", mib: 1500},
		"inodes of 2048":     {mkfs: "-i size=2048,maxpct=7", mib: 400},
		"case-insensitive":   {mkfs: "-n version=ci", mib: 400},
		"odd size":           {mkfs: "-d size=419434496", mib: 500},
		"small, by force":    {mkfs: "--unsupported -d size=64m", mib: 100},
		"UUID changed":       {change: "uuid", mib: 400},
	} {
		t.Run(name, func(t *testing.T) {
			made, again := file(t, "made", c.mib<<20), file(t, "again", c.mib<<20)
			tool(t, "mkfs.xfs", append(append([]string{"-q"}, strings.Fields(c.mkfs)...), made)...)
			if c.change == "uuid" {
				tool(t, "xfs_admin", "-U", "5c3c6b2e-7a52-4f0e-9b5c-000000000002", made)
			}
			fs, err := Read(context.Background(), run.Exec{}, made)
			if err != nil {
				t.Fatal(err)
			}
			tool(t, "mkfs.xfs", "-q", "--unsupported", again) // over which mkfs does not go without being told
			if err := Make(context.Background(), run.Exec{Log: t.Logf}, again, fs); err != nil {
				t.Fatal(err)
			}
			a, b := superblock(t, made), superblock(t, again)
			if c.change == "uuid" {
				// The feature that says "the UUID was changed" is gone with it.
				a = strings.Replace(a, "features_incompat = 0xf\n", "features_incompat = 0xb\n", 1)
			}
			if a != b {
				t.Errorf("the superblock differs:\n%s", diff(a, b))
			}
			if a, b := info(t, made), info(t, again); a != b {
				t.Errorf("xfs_info differs:\n%s\n%s", a, b)
			}
			tool(t, "xfs_repair", "-n", again)
		})
	}
}

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
