package xfs

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"lifeboat/internal/run"
)

// mkfs is a Runner that prints usage when asked and answers the n-th making
// by errs[n].
func mkfs(usage string, errs ...string) *run.Fake {
	n := 0
	return &run.Fake{Answer: func(c run.Cmd) (run.Result, error) {
		if len(c.Args) == 0 {
			return run.Result{Code: 1, Stderr: []byte(usage)}, nil
		}
		n++
		if n <= len(errs) && errs[n-1] != "" {
			return run.Result{Code: 1}, &run.Error{Argv: []string{"mkfs.xfs"}, Code: 1, Stderr: errs[n-1], Cause: errors.New("exit status 1")}
		}
		return run.Result{}, nil
	}}
}

func TestMakeArgv(t *testing.T) {
	usage := recorded(t, "usage-6.1.txt")
	for name, want := range map[string]string{
		"v5.txt": `mkfs.xfs -q -f -K -b size=4096 -s size=512 -m crc=1,finobt=1,rmapbt=0,reflink=1,inobtcount=1,bigtime=1,uuid=U ` +
			`-d size=419430400,agsize=104857600,noalign -i size=512,maxpct=25,sparse=1,nrext64=0 -n size=4096,version=2 -l version=2,size=67108864,sectsize=512 -L 'a"b\cé' /dev/x`,
		"v4-stripe.txt": `mkfs.xfs -q -f -K -b size=4096 -s size=4096 -m crc=0,finobt=0,rmapbt=0,reflink=0,inobtcount=0,bigtime=0,uuid=U ` +
			`-d size=943194112,agsize=117899264,su=65536,sw=2 -i size=256,maxpct=25,attr=2,projid32bit=1,sparse=0,nrext64=0 ` +
			`-n size=4096,version=2,ftype=1 -l version=2,lazy-count=1,size=67108864,sectsize=4096 /dev/x`,
	} {
		fs, err := parse(recorded(t, name))
		if err != nil {
			t.Fatal(err)
		}
		fs.UUID = "U"
		f := mkfs(usage)
		if err := Make(context.Background(), f, "/dev/x", fs); err != nil {
			t.Fatal(err)
		}
		if got := f.Calls(); !slices.Equal(got, []string{"mkfs.xfs", want}) {
			t.Errorf("%s:\n got %q\nwant %q", name, got, want)
		}
	}
}

// An older mkfs.xfs hears nothing of options that came later; a filesystem
// that needs one is not made without it.
func TestMakeByOlderTool(t *testing.T) {
	old := recorded(t, "usage-6.1.txt")
	for _, o := range []string{"inobtcount", "bigtime", "nrext64", "reflink"} {
		old = strings.ReplaceAll(old, o+"=", "")
	}
	fs, err := parse(recorded(t, "v4-stripe.txt"))
	if err != nil {
		t.Fatal(err)
	}
	f := mkfs(old)
	if err := Make(context.Background(), f, "/dev/x", fs); err != nil {
		t.Fatal(err)
	}
	if c := f.Calls()[1]; strings.Contains(c, "bigtime") || strings.Contains(c, "reflink") || !strings.Contains(c, "finobt=0") {
		t.Errorf("called %s", c)
	}
	if fs, err = parse(recorded(t, "v5.txt")); err != nil {
		t.Fatal(err)
	}
	f = mkfs(old)
	if err := Make(context.Background(), f, "/dev/x", fs); !errors.Is(err, ErrUnsupported) || len(f.Calls()) != 1 {
		t.Errorf("%v, calls %q", err, f.Calls())
	}
}

// Refused stripes are left out once; any other refusal is the end, and its
// reason is in the message.
func TestMakeRefused(t *testing.T) {
	fs, err := parse(recorded(t, "v4-stripe.txt"))
	if err != nil {
		t.Fatal(err)
	}
	usage := recorded(t, "usage-6.1.txt")
	f := mkfs(usage, "agsize not a multiple of stripe unit\n"+usage)
	if err := Make(context.Background(), f, "/dev/x", fs); err != nil {
		t.Fatal(err)
	}
	if c := f.Calls(); len(c) != 3 || !strings.Contains(c[1], "su=65536") || strings.Contains(c[2], "su=") || !strings.Contains(c[2], "noalign") {
		t.Errorf("calls %q", c)
	}
	f = mkfs(usage, "no good\n"+usage, "no good either\n"+usage)
	if err := Make(context.Background(), f, "/dev/x", fs); err == nil || !strings.Contains(err.Error(), "no good either") || len(f.Calls()) != 3 {
		t.Errorf("%v, calls %q", err, f.Calls())
	}
	f = mkfs(usage, "Filesystem must be larger than 300MB.\n"+usage)
	if err := Make(context.Background(), f, "/dev/x", fs); err != nil || !strings.Contains(f.Calls()[2], "--unsupported") {
		t.Errorf("%v, calls %q", err, f.Calls())
	}
}
