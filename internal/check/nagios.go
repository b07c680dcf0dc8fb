package check

import (
	"fmt"
	"slices"
	"strings"
)

// Line is the one line that monitoring systems show, with the figures behind
// the bar.
func (r *Result) Line() string {
	return "LIFEBOAT " + r.State.String() + " - " + clean(r.summary()) + r.figures()
}

// Long are the lines behind the first: every finding with what to do, and its
// details.
func (r *Result) Long() (out []string) {
	for _, f := range r.sorted() {
		l := f.State.String() + ": " + f.Text
		if f.Next != "" {
			l += "; " + f.Next
		}
		out = append(out, clean(l)+" ["+f.Code+"]")
		for _, d := range f.Details {
			out = append(out, "    "+clean(d))
		}
	}
	return out
}

// sorted has the worst first.
func (r *Result) sorted() []Finding {
	l := slices.Clone(r.Findings)
	slices.SortStableFunc(l, func(a, b Finding) int { return b.State.weight() - a.State.weight() })
	return l
}

func (r *Result) summary() string {
	var parts []string
	for _, f := range r.sorted() {
		parts = append(parts, f.Text)
	}
	if len(parts) == 0 {
		parts = r.good()
	}
	return strings.Join(parts, "; ")
}

// good says what was seen when nothing is wrong.
func (r *Result) good() []string {
	var parts []string
	if t := r.Image; t != nil {
		parts = append(parts, "rescue image "+t.words())
	}
	if t := r.Backup; t != nil {
		parts = append(parts, "backup "+t.words())
	} else {
		parts = append(parts, "no backup of Lifeboat's is configured")
	}
	return append(parts, "this host has not changed since")
}

func (t *Thing) words() string {
	age := span(secs(t.Age)) + " old"
	switch t.Read {
	case readAll:
		return age + ", all of it read"
	case readEnds:
		return age + ", readable"
	}
	return age + ", not looked at"
}

// figures is the performance data: 'label'=value[unit];warn;crit;min;max.
func (r *Result) figures() string {
	var out []string
	thing := func(label string, t *Thing) {
		limit := ";;"
		if t.Limit > 0 {
			limit = fmt.Sprintf(";%d;%d", t.Limit, 2*t.Limit)
		}
		out = append(out, fmt.Sprintf("%s_age=%ds%s;0", label, max(t.Age, 0), limit), fmt.Sprintf("%s_size=%dB;;;0", label, t.Bytes),
			fmt.Sprintf("%s_changes=%d;;;0", label, len(t.Changes)))
	}
	if r.Image != nil {
		thing("image", r.Image)
	}
	if r.Backup != nil {
		thing("backup", r.Backup)
	}
	if len(out) == 0 {
		return ""
	}
	return " | " + strings.Join(out, " ")
}

// clean takes out what ends a line or begins the figures.
func clean(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '|':
			return '/'
		case c < ' ' || c == 0x7f:
			return ' '
		}
		return c
	}, s)
}
