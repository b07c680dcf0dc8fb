package rescue

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"slices"
	"time"

	"lifeboat/internal/handoff"
	"lifeboat/internal/sysroot"
	"lifeboat/report"
	"lifeboat/rescue/restore"
)

// Mark is left in the restored system: which order made it, so that the same
// order never erases it, and whether it is whole.
type Mark struct {
	Order   string    `json:"order"`
	PlanID  string    `json:"plan_id"`
	Host    string    `json:"host"`
	Time    time.Time `json:"time"`
	Backup  string    `json:"backup"`
	Attempt int       `json:"attempt"`
	Resumed bool      `json:"resumed"`
	State   string    `json:"state"`          // done, or handoff.MarkFailed
	Lost    int64     `json:"lost,omitempty"` // files that could not be brought back
}

// writeReport leaves log, plan, events and the order's mark in the restored
// system (plan.VerbReport). lost is what the run will end with though it goes
// on: the report must not say more than that.
func (s *session) writeReport(res *report.Result, lost error) error {
	fs, err := sysroot.Open(s.w.Target)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	defer fs.Close()
	dir := path.Join(TargetLogs, "recover-"+s.began.UTC().Format("20060102T150405Z"))
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	now := s.soFar(*res)
	if now.State = "done"; lost != nil {
		now.State, now.Exit = "failed", report.ExitOf(lost)
	}
	docs := map[string]any{"report.json": now, "plan.json": s.plan, "machine.json": s.machine, "order.json": s.order.Redacted()}
	for name, v := range docs {
		data, err := json.MarshalIndent(v, "", "  ")
		if err == nil {
			err = fs.WriteFile(path.Join(dir, name), append(data, '\n'), 0o600)
		}
		if err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	if err := fs.WriteFile(path.Join(dir, "plan.txt"), []byte(s.plan.Text()), 0o600); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	var events []byte
	for _, e := range s.w.J.Events() {
		b, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
		events = append(append(events, b...), '\n')
	}
	if err := fs.WriteFile(path.Join(dir, "events.jsonl"), events, 0o600); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if log, err := os.ReadFile(LogPath); err == nil {
		if err := fs.WriteFile(path.Join(dir, "log.txt"), log, 0o600); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	return s.mark(fs, res, lost)
}

// soFar is a result with all that the session knows by now: the report in the
// restored system is written before the run has ended.
func (s *session) soFar(res report.Result) report.Result {
	res.Ended, res.Phases, res.Attempt = time.Now().UTC(), s.phases, s.attempt
	res.Problems = slices.Concat(res.Problems, s.problems)
	if s.w != nil && s.w.J != nil {
		res.Problems = slices.Concat(res.Problems, s.w.J.Problems(0, s.w.boot.until), s.w.J.Problems(s.from, s.w.J.Seq()))
	}
	res.Problems = distinct(res.Problems)
	if s.plan != nil {
		res.PlanID = s.plan.ID
	}
	return res
}

// distinct keeps the first of equal problems: some are told on the way and are
// the end of the run as well.
func distinct(list []report.Problem) (out []report.Problem) {
	for _, p := range list {
		same := func(o report.Problem) bool { return o.Code == p.Code && o.Object == p.Object && o.Text == p.Text }
		if !slices.ContainsFunc(out, same) {
			out = append(out, p)
		}
	}
	return out
}

func (s *session) mark(fs *sysroot.Root, res *report.Result, lost error) error {
	m := Mark{Order: s.w.Order.ID, PlanID: s.plan.ID, Host: s.manifest.Host.Name, Time: time.Now().UTC(),
		Backup: s.archive.Info().UUID.String(), Attempt: s.attempt, Resumed: res.Resumed, State: "done"}
	if lost != nil {
		m.State, m.Lost = handoff.MarkFailed, restore.LostFiles(lost)
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		if err = fs.MkdirAll(path.Dir(handoff.MarkInTarget), 0o700); err == nil {
			err = fs.WriteFile(handoff.MarkInTarget, append(data, '\n'), 0o600)
		}
	}
	if err != nil {
		return fmt.Errorf("mark the order as done: %w", err)
	}
	s.markForMenu(fs, lost == nil)
	if s.w.Order.Drill {
		return installReporter(fs)
	}
	return nil
}

// The unit by which a drilled system reports once. It takes itself away
// before it speaks, so that the restored system is left as it was.
const (
	reporterUnit = "/etc/systemd/system/lifeboat-drill.service"
	reporterLink = "/etc/systemd/system/multi-user.target.wants/lifeboat-drill.service"
	reporterFile = "/etc/systemd/system/lifeboat-drill.sh"
)

const reporterService = `[Unit]
Description=Report to the drill of Lifeboat, once
After=multi-user.target
ConditionPathExists=/etc/systemd/system/lifeboat-drill.sh

[Service]
Type=exec
ExecStart=/bin/sh /etc/systemd/system/lifeboat-drill.sh
StandardOutput=null
`

const reporterScript = `rm -f /etc/systemd/system/multi-user.target.wants/lifeboat-drill.service
rm -f /etc/systemd/system/lifeboat-drill.service /etc/systemd/system/lifeboat-drill.sh
port=
for n in /sys/class/virtio-ports/*/name; do
	[ "$(cat "$n")" = ` + reportPort + ` ] && port=/dev/$(basename "$(dirname "$n")")
done
[ -n "$port" ] || exit 0
quote() { printf '"'; printf %s "$1" | sed 's/["\\]/\\&/g' | tr -d '\n\t'; printf '"'; }
list() { first=1; printf '['; while IFS= read -r l; do [ -n "$l" ] || continue; [ $first = 1 ] || printf ','; first=0; quote "$l"; done; printf ']'; }
i=0
state=$(systemctl is-system-running 2>/dev/null)
while [ "$state" = starting ] && [ $i -lt 300 ]; do
	sleep 1; i=$((i+1)); state=$(systemctl is-system-running 2>/dev/null)
done
{
	printf '{"hostname":%s,"kernel":%s,"state":%s,"uptime":%s,' "$(quote "$(cat /proc/sys/kernel/hostname)")" "$(quote "$(uname -r)")" "$(quote "$state")" "$(quote "$(cut -d' ' -f1 /proc/uptime)")"
	printf '"failed":'; systemctl list-units --failed --no-legend --plain 2>/dev/null | awk '{print $1}' | list
	printf ',"mounts":'; awk '{print $5}' /proc/self/mountinfo | list
	printf ',"swaps":'; awk 'NR>1{print $1}' /proc/swaps | list
	printf '}\nEND\n'
} >"$port"
`

// installReporter puts the drill's unit into a restored system that systemd
// starts; another init system shows itself by its login prompt only.
func installReporter(fs *sysroot.Root) error {
	if !fs.Exists("/etc/systemd/system") {
		return nil
	}
	if err := fs.MkdirAll(path.Dir(reporterLink), 0o755); err != nil {
		return fmt.Errorf("prepare the drill's report: %w", err)
	}
	for name, text := range map[string]string{reporterUnit: reporterService, reporterFile: reporterScript} {
		if err := fs.WriteFile(name, []byte(text), 0o644); err != nil {
			return fmt.Errorf("prepare the drill's report: %w", err)
		}
	}
	if err := fs.Symlink("../lifeboat-drill.service", reporterLink); err != nil {
		return fmt.Errorf("prepare the drill's report: %w", err)
	}
	return nil
}
