//go:build machines

package machines

import (
	"fmt"
	"os"
	"os/exec"
	"sort"
	"strings"
	"testing"
	"time"
)

const provenHead = `# What was seen to work

Each row is one run of a machine test that passed, written by ` + "`make test-deep`" + `: what was proven, when, at which commit, and how
many minutes it took on 2 cores in emulation.

| cell | date | commit | minutes |
|---|---|---|---|
`

// proven notes in docs/proven.md that a cell passed, when the run asks for it.
func proven(t *testing.T, cell string) {
	t.Helper()
	file := os.Getenv("LIFEBOAT_PROVEN")
	if file == "" {
		return
	}
	start := time.Now()
	t.Cleanup(func() {
		if t.Failed() || t.Skipped() {
			return
		}
		commit, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
		if err != nil {
			t.Error("git names no commit:", err)
			return
		}
		row := fmt.Sprintf("| %s | %s | %s | %.1f |", cell, time.Now().UTC().Format("2006-01-02"), strings.TrimSpace(string(commit)), time.Since(start).Minutes())
		if err := addRow(file, cell, row); err != nil {
			t.Error(err)
		}
	})
}

// addRow puts a row in the place of the cell's earlier one.
func addRow(file, cell, row string) error {
	rows := []string{row}
	old, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for _, l := range strings.Split(string(old), "\n") {
		if strings.HasPrefix(l, "| ") && !strings.HasPrefix(l, "| cell ") && !strings.HasPrefix(l, "| "+cell+" |") {
			rows = append(rows, l)
		}
	}
	sort.Strings(rows)
	return os.WriteFile(file, []byte(provenHead+strings.Join(rows, "\n")+"\n"), 0o644)
}
