package check

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"lifeboat/builder"
	"lifeboat/internal/config"
	"lifeboat/manifest"
	"lifeboat/report"
)

// State is a state of Nagios, whose number is the exit code of `check`.
type State int

const (
	OK State = iota
	Warning
	Critical
	Unknown
)

// String is the state as monitoring systems write it.
func (s State) String() string { return [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[s] }

// MarshalText is String.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// weight orders states by how much they matter: what is known to be bad
// outweighs what is not known.
func (s State) weight() int { return [...]int{OK: 0, Unknown: 1, Warning: 2, Critical: 3}[s] }

// Finding is one thing that is not as it should be.
type Finding struct {
	State   State    `json:"state"`
	Code    string   `json:"code"`
	Text    string   `json:"text"` // one line
	Next    string   `json:"next,omitempty"`
	Details []string `json:"details,omitempty"`
}

// Thing is image or backup in numbers.
type Thing struct {
	Name    string    `json:"name"`
	Made    time.Time `json:"made"`
	Age     int64     `json:"age_seconds"`
	Limit   int64     `json:"max_age_seconds,omitempty"` // 0: none
	Bytes   int64     `json:"bytes"`
	Read    string    `json:"read"`    // what was read of it: all, ends, nothing
	Changes []string  `json:"changes"` // of the host since then
}

// Result is what check says.
type Result struct {
	State    State     `json:"state"`
	Exit     int       `json:"exit"`
	Host     string    `json:"host,omitempty"`
	Image    *Thing    `json:"image,omitempty"`
	Backup   *Thing    `json:"backup,omitempty"`
	Findings []Finding `json:"findings"`
}

// What was read of a thing.
const (
	readAll     = "all"
	readEnds    = "ends"
	readNothing = "nothing"
)

// clockSlack is how far two clocks may differ before a date from the future is
// a finding.
const clockSlack = 10 * time.Minute

// Judge turns facts into findings. It is pure: the clock is a fact.
func Judge(f *Facts, limits config.Check) *Result {
	r := &Result{Findings: []Finding{}}
	r.host(f)
	r.image(f, limits)
	r.backup(f, limits)
	for _, x := range r.Findings {
		if x.State.weight() > r.State.weight() {
			r.State = x.State
		}
	}
	r.Exit = int(r.State)
	return r
}

func (r *Result) add(s State, code, next string, details []string, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{State: s, Code: code, Next: next, Details: details, Text: fmt.Sprintf(format, args...)})
}

// fault notes an error with its own code and remedy.
func (r *Result) fault(s State, err error) {
	p := report.ProblemOf(err)
	r.Findings = append(r.Findings, Finding{State: s, Code: p.Code, Text: p.Text, Next: p.Next, Details: p.Details})
}

func (r *Result) host(f *Facts) {
	if f.HostErr != nil {
		r.fault(Unknown, fmt.Errorf("this host cannot be looked at: %w", f.HostErr))
	}
	if f.Host == nil {
		return
	}
	r.Host = f.Host.Host.Name
	var list []string
	for _, u := range f.Host.Uncovered {
		if !u.Accepted {
			list = append(list, fmt.Sprintf("%s: %s", u.Path, u.Reason))
		}
	}
	if len(list) > 0 {
		r.add(Critical, report.CodeUncovered, "change the storage, or accept the loss by name with uncovered:", list, "this host cannot be recovered as it is: %s", some(list))
	}
}

func (r *Result) image(f *Facts, limits config.Check) {
	switch {
	case f.ImageErr != nil:
		r.fault(Unknown, f.ImageErr)
		return
	case f.Image == nil:
		r.add(Critical, CodeNoImage, "run `lifeboat mkrescue`", nil, "no rescue image was made")
		return
	}
	t := &Thing{Made: f.Image.Made, Read: readNothing, Changes: []string{}}
	r.Image = t
	if len(f.Image.Media) == 0 {
		r.add(Critical, CodeNoImage, "run `lifeboat mkrescue`, and look at output: in its settings", nil, "no rescue image was made: the last run wrote no medium")
	}
	for _, m := range f.Media {
		if t.Name == "" {
			t.Name, t.Bytes = m.Path, m.Bytes
		}
		r.medium(f, m)
	}
	r.age(t, "rescue image", f.Now, limits.MaxAgeImage, "run `lifeboat mkrescue`")
	if f.Settings != f.Image.Settings {
		r.add(Warning, CodeChanged, "run `lifeboat mkrescue`", nil, "the settings changed since the rescue image was made")
	}
	if f.Host == nil {
		return
	}
	if t.Changes = changes(f.Image.Manifest, f.Host); len(t.Changes) > 0 {
		r.add(Warning, CodeChanged, "run `lifeboat mkrescue`", t.Changes, "changed since the rescue image was made: %s", some(t.Changes))
	}
}

func (r *Result) medium(f *Facts, m MediumFact) {
	switch {
	case m.Stick:
		return
	case m.Err != nil:
		p := report.ProblemOf(m.Err)
		r.add(Critical, CodeImageBad, "run `lifeboat mkrescue`", p.Details, "%s", p.Text)
		return
	case m.BuildID != f.Image.BuildID:
		r.add(Warning, CodeImageBad, "run `lifeboat mkrescue`", nil, "%s is not the rescue image that this host made last", m.Path)
	}
	r.Image.Read = readAll
}

func (r *Result) backup(f *Facts, limits config.Check) {
	if f.Method == "none" {
		return
	}
	if f.BackupErr != nil {
		r.fault(Unknown, f.BackupErr)
	}
	if f.Unread != nil {
		r.fault(Critical, f.Unread)
	}
	next := "run `lifeboat mkbackup`, and look why its timer did not"
	var since *manifest.Manifest
	switch {
	case f.Archive != nil:
		r.Backup = &Thing{Name: f.Archive.Name, Made: f.Archive.Started, Bytes: f.Archive.Bytes, Read: readEnds}
		if f.Archive.Full {
			r.Backup.Read = readAll
		}
		if f.Unread != nil {
			r.Backup.Read = readNothing
		}
		since = f.Archive.Manifest
		r.lost(f)
	case f.Backup != nil && f.Unread == nil:
		r.Backup = &Thing{Name: f.Backup.Name, Made: f.Backup.Made, Bytes: f.Backup.Bytes, Read: readNothing}
		since = f.Backup.Manifest
	case f.Unread == nil && f.BackupErr == nil:
		r.add(Critical, report.CodeBackupMissing, next, nil, "no backup was made")
		return
	default:
		return
	}
	r.Backup.Changes = []string{}
	r.age(r.Backup, "backup", f.Now, limits.MaxAgeBackup, next)
	r.unread(f)
	if since == nil || f.Host == nil {
		return
	}
	r.Backup.Changes = changes(since, f.Host)
	if list := unkept(since, f.Host); len(list) > 0 {
		r.add(Warning, report.CodeBackupMounts, "run `lifeboat mkbackup`", list, "not in the backup: %s", some(list))
	}
}

// lost tells when the store no longer has what this host wrote last: something
// expires backups, or the store is another.
func (r *Result) lost(f *Facts) {
	if b := f.Backup; b != nil && b.UUID != f.Archive.UUID && b.Made.After(f.Archive.Started) {
		r.add(Warning, report.CodeBackupMissing, "look for what removes backups from the store", []string{b.Name},
			"the backup that this host wrote on %s is not in the store; the newest there is of %s", date(b.Made), date(f.Archive.Started))
	}
}

// unread tells of files that the backup lacks because they could not be read.
func (r *Result) unread(f *Facts) {
	n := int64(0)
	var list []string
	if f.Backup != nil && (f.Archive == nil || f.Archive.UUID == f.Backup.UUID) {
		list = f.Backup.Unread
		n = int64(len(list))
	}
	if f.Archive != nil {
		n = f.Archive.Problems
	}
	if n > 0 {
		r.add(Warning, report.CodeFilesUnread, "repair what cannot be read, or accept its loss with backup.exclude", list, "files are missing from the backup because they could not be read (%d)", n)
	}
}

// age judges how old something is. The first limit warns, twice of it is
// critical.
func (r *Result) age(t *Thing, what string, now time.Time, limit config.Age, next string) {
	age := now.Sub(t.Made)
	t.Age, t.Limit = int64(age/time.Second), int64(time.Duration(limit)/time.Second)
	switch l := time.Duration(limit); {
	case age < -clockSlack:
		r.add(Warning, report.CodeClock, "set the clock; until then nothing can be said about ages", nil, "the %s is of %s, which is in the future", what, date(t.Made))
	case l > 0 && age > 2*l:
		r.add(Critical, CodeOld, next, nil, "the %s is %s old, the limit is %s", what, span(age), limit)
	case l > 0 && age > l:
		r.add(Warning, CodeOld, next, nil, "the %s is %s old, the limit is %s", what, span(age), limit)
	}
}

// changes is never nil, so that JSON has a list.
func changes(a, b *manifest.Manifest) []string {
	if a == nil {
		return []string{}
	}
	if d := manifest.Differences(a, b); d != nil {
		return d
	}
	return []string{}
}

// unkept are mounts whose files should be in a backup that was made when they
// were not there. Other changes are taken in by the next backup, and losing
// them costs less.
func unkept(then, now *manifest.Manifest) (list []string) {
	have := map[manifest.ID]bool{}
	for _, m := range then.Storage.Mounts {
		if m.Backup == manifest.ScopeFull {
			have[m.Node] = true
		}
	}
	for _, m := range now.Storage.Mounts {
		if m.Backup == manifest.ScopeFull && m.Path != "none" && m.Bind == "" && !have[m.Node] {
			list = append(list, m.Path.String())
		}
	}
	return list
}

// Codes of findings that no other verb has.
const (
	CodeNoImage  = "image-missing"
	CodeImageBad = "image-damaged"
	CodeOld      = "too-old"
	CodeChanged  = "host-changed"
)

// Hung is the result when reading did not end in time.
func Hung(doing string, limit time.Duration) *Result {
	r := &Result{State: Unknown, Exit: int(Unknown), Findings: []Finding{}}
	r.add(Unknown, report.CodeFailed, "look whether it answers; --timeout gives more time", nil, "no answer within %s while looking at %s", limit, doing)
	return r
}

// Failed is the result when nothing could be looked at.
func Failed(err error) *Result {
	r := &Result{State: Unknown, Exit: int(Unknown), Findings: []Finding{}}
	r.fault(Unknown, err)
	return r
}

// some tells the first of a list, and how many there are more.
func some(list []string) string {
	const most = 2
	if more := len(list) - most; more > 0 {
		return fmt.Sprintf("%s; and %d more", strings.Join(list[:most], "; "), more)
	}
	return strings.Join(list, "; ")
}

func secs(n int64) time.Duration { return time.Duration(n) * time.Second }

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") + " UTC" }

// span is a length of time as people say it: two units at most.
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d >= 72*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d < time.Minute:
		return "less than a minute"
	case d < 2*time.Minute:
		return "1 minute"
	default:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
}

// redacted is a URL without its password.
func redacted(raw string) string {
	if u, err := url.Parse(raw); err == nil {
		return u.Redacted()
	}
	return "the configured store"
}

// Drift is what `checklayout` says: what changed since the image was made.
func Drift(s *builder.ImageState, host *manifest.Manifest) []string {
	if s == nil {
		return []string{"no rescue image was made, so nothing is there to compare with"}
	}
	return changes(s.Manifest, host)
}
