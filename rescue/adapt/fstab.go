package adapt

import (
	"errors"
	"fmt"
	"os"

	"lifeboat/internal/hostconf/fstab"
	"lifeboat/report"
)

// dropUncovered comments out the fstab lines of mounts whose loss was
// accepted: nothing of them was rebuilt, and the boot would wait for them.
func (a *Adapter) dropUncovered() error {
	gone := map[string]string{}
	for _, u := range a.Plan.Uncovered {
		if u.Accepted {
			gone[string(u.Path)] = u.Reason
		}
	}
	if len(gone) == 0 {
		return nil
	}
	const name = "/etc/fstab"
	text, err := a.Root.FS.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("adapt: %w", err)
	}
	f := fstab.Parse(text)
	dropped := 0
	for _, e := range f.Entries() {
		// A swap has no mount point: it is named by what fstab calls it.
		key := e.Path
		if e.IsSwap() {
			key = e.Spec
		}
		if why, ok := gone[key]; ok {
			f.Disable(e.Line, "not recovered by Lifeboat: "+why)
			dropped++
		}
	}
	if dropped == 0 {
		return nil
	}
	a.stale = true
	if err := a.Root.FS.WriteFile(name, f.Bytes(), 0o644); err != nil {
		return fmt.Errorf("adapt: %w", err)
	}
	a.Sink.Emit(report.Event{Kind: report.Note, Text: fmt.Sprintf("%s: %d lines of mounts that were not recovered are commented out", name, dropped)})
	return nil
}
