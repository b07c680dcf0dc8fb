// Package rescue carries a recovery out: order, stop or go on, journal.
// Level 5.
package rescue

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"lifeboat/plan"
	"lifeboat/report"
)

// Act carries one step out. It may emit progress; started, finished and
// failed are said for it.
type Act func(ctx context.Context, s plan.Step, progress func(done, total int64)) error

// Acts is the literal table of what each verb does.
type Acts map[plan.Verb]Act

// Steps runs the plan's steps in order from one stage to another, both
// included; empty means the first and the last. A failed fatal step stops the
// run; the failure of another is a problem of the result.
func (j *Journal) Steps(ctx context.Context, p *plan.Plan, acts Acts, from, to plan.Stage) ([]report.Problem, error) {
	for _, s := range p.Steps { // before the first one runs
		if acts[s.Verb] == nil {
			return nil, fmt.Errorf("step %s: this lifeboat does not know the verb %q; the plan was made by another version", s.ID, s.Verb)
		}
	}
	var problems []report.Problem
	in := from == ""
	for i, s := range p.Steps {
		if s.Stage == from {
			in = true
		}
		if !in {
			continue
		}
		if to != "" && s.Stage != to && i > 0 && p.Steps[i-1].Stage == to {
			break
		}
		if err := j.step(ctx, p, s, acts[s.Verb]); err != nil {
			prob := report.ProblemOf(err)
			if s.Fatal || ctx.Err() != nil {
				return append(problems, prob), fmt.Errorf("%s: %w", s.Text(&p.Target, p), err)
			}
			prob.Severity = report.Warning
			problems = append(problems, prob)
		}
	}
	return problems, nil
}

func (j *Journal) step(ctx context.Context, p *plan.Plan, s plan.Step, act Act) (err error) {
	text := s.Text(&p.Target, p)
	start := time.Now()
	base := report.Event{Stage: string(s.Stage), Step: s.ID, Text: text}
	begin := base
	begin.Kind, begin.Total = report.Started, s.Bytes
	j.Emit(begin)
	last := time.Time{}
	progress := func(done, total int64) {
		if now := time.Now(); now.Sub(last) >= 500*time.Millisecond {
			last = now
			e := base
			e.Kind, e.Done, e.Total = report.Progress, done, total
			j.Emit(e)
		}
	}
	defer func() {
		if r := recover(); r != nil {
			err = &panicked{value: r, stack: string(debug.Stack())}
		}
		e := base
		e.Kind, e.Millis = report.Finished, time.Since(start).Milliseconds()
		if err != nil {
			prob := report.ProblemOf(err)
			e.Kind, e.Problem = report.Failed, &prob
			e.Text = text + ": " + err.Error()
		}
		j.Emit(e)
	}()
	if err := ctx.Err(); err != nil {
		return report.Errorf(report.CodeInterrupted, "", "stopped before the step: %w", err)
	}
	return act(ctx, s, progress)
}

// panicked is a fault of Lifeboat itself inside a step: it ends the step, not
// the worker, and the stack goes to the log only.
type panicked struct {
	value any
	stack string
}

func (p *panicked) Error() string {
	return fmt.Sprintf("a fault in lifeboat itself: %v; the log holds the details, please report it", p.value)
}

// Stack returns the stack of a panic in err's chain, for the log.
func Stack(err error) string {
	var p *panicked
	if errors.As(err, &p) {
		return p.stack
	}
	return ""
}
