package vfat

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"lifeboat/internal/run"
)

func TestMakeArgv(t *testing.T) {
	for name, want := range map[string]string{
		"fat32.gz": "mkfs.vfat -I -a -F 32 -S 512 -s 1 -R 32 -f 2 -h 0 -i 1234ABCD -M 0xf8 -n 'EFI SYS' -g 8/32 -D 0x80 /dev/x 40960",
		"fat16.gz": "mkfs.vfat -I -a -F 16 -S 512 -s 4 -R 4 -f 2 -h 0 -i 15C738A2 -r 512 -M 0xf8 -n BOOT -g 8/32 -D 0x80 /dev/x 65536",
	} {
		fs, size, err := parse(bytes.NewReader(recorded(t, name)))
		if err != nil {
			t.Fatal(err)
		}
		f := &run.Fake{}
		if err := Make(context.Background(), f, "/dev/x", fs, size); err != nil {
			t.Fatal(err)
		}
		if got := f.Calls(); len(got) != 1 || got[0] != want {
			t.Errorf("%s:\n got %q\nwant %q", name, got, want)
		}
		fs.Label = "Müll"
		if err := Make(context.Background(), f, "/dev/x", fs, size); !errors.Is(err, ErrUnsupported) || len(f.Calls()) != 1 {
			t.Errorf("a label that mkfs.vfat would recode: %v", err)
		}
	}
}

// TestOldTool: mkfs.vfat before 4.2 has no option for the geometry. The
// filesystem is made all the same; any other failure is one.
func TestOldTool(t *testing.T) {
	fs, size, err := parse(bytes.NewReader(recorded(t, "fat16.gz")))
	if err != nil {
		t.Fatal(err)
	}
	old := func(c run.Cmd) (run.Result, error) {
		if slices.Contains(c.Args, "-g") {
			return run.Result{Code: 1}, &run.Error{Code: 1, Stderr: "mkfs.vfat: invalid option -- 'g'", Cause: errors.New("exit status 1")}
		}
		return run.Result{}, nil
	}
	f := &run.Fake{Answer: old}
	if err := Make(context.Background(), f, "/dev/x", fs, size); err != nil || len(f.Calls()) != 2 {
		t.Errorf("%v, %q", err, f.Calls())
	}
	f = &run.Fake{Answer: func(run.Cmd) (run.Result, error) {
		return run.Result{Code: 1}, &run.Error{Code: 1, Stderr: "no space", Cause: errors.New("exit status 1")}
	}}
	if err := Make(context.Background(), f, "/dev/x", fs, size); err == nil || len(f.Calls()) != 1 {
		t.Errorf("%v, %q", err, f.Calls())
	}
}
