package run

import (
	"context"
	"testing"
)

// TestRunLeavesChild: a program that ended well did its work, whatever it left
// running; that is ended.
func TestRunLeavesChild(t *testing.T) {
	r, err := Exec{}.Run(context.Background(), Cmd{Path: "sh", Args: []string{"-c", "echo done; sleep 300 & exit 0"}})
	if err != nil || string(r.Stdout) != "done\n" || r.Code != 0 {
		t.Errorf("%q, exit %d, %v", r.Stdout, r.Code, err)
	}
}
