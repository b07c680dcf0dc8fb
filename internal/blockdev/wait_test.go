package blockdev

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestWaitForLooksAgain(t *testing.T) {
	n := 0
	err := WaitFor(context.Background(), "the third look", func() (bool, error) {
		n++
		return n == 3, nil
	})
	if err != nil || n != 3 {
		t.Errorf("%d looks, %v", n, err)
	}
}

// TestWaitPartitionTells: the error names what is there instead (C18).
func TestWaitPartitionTells(t *testing.T) {
	s := recordedSystem(t, "mixed")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		disk         string
		num          int
		start, bytes int64
		want         string
	}{
		{"nvme0n1", 2, 0, 1, "no such number on nvme0n1"},
		{"nvme0n1", 4, 1048576, 4194304, "still shows it at byte 5242880"},
		{"nvme9n1", 1, 0, 1, "nvme9n1 is not there"},
	} {
		_, err := s.WaitPartition(ctx, c.disk, c.num, c.start, c.bytes)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %d: error %v does not hold %q", c.disk, c.num, err, c.want)
		}
	}
}

func TestWaitEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*recheck)
	defer cancel()
	last := errors.New("still closed")
	err := WaitFor(ctx, "the door", func() (bool, error) { return false, last })
	if !errors.Is(err, last) || !strings.Contains(err.Error(), "the door") {
		t.Errorf("error %v", err)
	}
}
