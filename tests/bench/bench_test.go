package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestMeasure runs a shell whose child holds memory and computes: figures of
// the shell alone would be small.
func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	// tail keeps all that it reads until wc, which starts late, takes it.
	s, err := measure(t.Context(), dir, "bash", "-c", "head -c 64M /dev/zero | tail -c 64M | { sleep 0.3; wc -c; } >"+dir+"/length")
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "length")); string(b) != "67108864\n" {
		t.Fatalf("the child read %q bytes", b)
	}
	if s.memory < 64<<20 || s.memory > 256<<20 {
		t.Errorf("the child holds 64 MiB, measured were %d bytes", s.memory)
	}
	if s.cpu <= 0 || s.wall < 300*time.Millisecond || s.synced < s.wall {
		t.Errorf("wall %v, synced %v, CPU %v", s.wall, s.synced, s.cpu)
	}
	if _, err := measure(t.Context(), dir, "bash", "-c", "echo broken >&2; exit 3"); err == nil {
		t.Error("a program that failed was measured")
	}
}

func TestMedian(t *testing.T) {
	m := median([]*sample{{wall: 3, cpu: 10}, {wall: 1, cpu: 30}, {wall: 2, cpu: 20}})
	if m.wall != 2 || m.cpu != 20 {
		t.Errorf("median is %v and %v", m.wall, m.cpu)
	}
}

func TestParseTime(t *testing.T) {
	real, cpu, err := parseTime("83.250 60.5 2.25\n")
	if err != nil || real != 83250*time.Millisecond || cpu != 62750*time.Millisecond {
		t.Errorf("%v %v %v", real, cpu, err)
	}
	for _, bad := range []string{"", "1 2", "1 2 x"} {
		if _, _, err := parseTime(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestTable(t *testing.T) {
	x := table{head: []string{"what", "s"}}
	x.add("a", "12.5")
	x.add("größer", "3")
	want := "| what   |    s |\n|:-------|-----:|\n| a      | 12.5 |\n| größer |    3 |\n"
	if got := x.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
