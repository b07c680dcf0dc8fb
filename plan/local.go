package plan

import (
	"strings"
	"time"

	"lifeboat/manifest"
	"lifeboat/report"
)

// Local names the system on this machine's disks that an automatic recovery
// must leave alone and that should run instead: one that this order restored,
// or one of this host that was used after since, the time of the backup. nil
// when there is none.
//
// Unlike a plan's refusals it looks at every disk: a machine that was restored
// onto a disk without a serial is refused because that disk is not blank, and
// still the reason is that the order is done.
func Local(m *manifest.Manifest, machine *manifest.Machine, order string, since time.Time) *report.Problem {
	found := func(code, format string, args ...any) *report.Problem {
		p := report.Errorf(code, "the installed system is started; to erase it all the same, type the host's name at the console", format, args...).Problem
		return &p
	}
	var living *report.Problem
	for i := range machine.Disks {
		d := &machine.Disks[i]
		for _, mark := range d.Marks {
			if cutOff(mark) || order != "" && mark.Order == order && incomplete(mark) {
				continue
			}
			if order != "" && mark.Order == order && mark.Lost == 0 {
				return found(report.CodeOrderDone, "%s holds what this order restored already (on %s)", diskText(ref(d)), mark.Device)
			}
			newest, err := time.Parse(time.RFC3339, mark.Newest)
			if !ofHost(m, mark) || err != nil || !newest.After(since) || living != nil {
				continue
			}
			living = found(report.CodeLiving, "%s holds a system of %s (on %s) that was used after the backup of %s (last sign of life %s)",
				diskText(ref(d)), m.Host.Name, mark.Device, since.UTC().Format(time.RFC3339), quote(mark.Newest))
		}
	}
	return living
}

// ofHost tells whether a root is the captured host's.
func ofHost(m *manifest.Manifest, mark manifest.Mark) bool {
	return mark.MachineID != "" && mark.MachineID == m.Host.MachineID || mark.Host != "" && strings.EqualFold(mark.Host, m.Host.Name)
}
