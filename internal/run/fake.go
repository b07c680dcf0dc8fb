package run

import (
	"context"
	"fmt"
	"sync"
)

// Fake is a Runner for tests: it logs argv and answers by a function.
type Fake struct {
	Answer func(Cmd) (Result, error) // nil: everything succeeds with no output

	mu   sync.Mutex
	argv [][]string
}

// Run logs and answers.
func (f *Fake) Run(_ context.Context, c Cmd) (Result, error) {
	f.mu.Lock()
	f.argv = append(f.argv, append([]string{c.Path}, c.Args...))
	f.mu.Unlock()
	if f.Answer == nil {
		return Result{}, nil
	}
	r, err := f.Answer(c)
	if err == nil && !okCode(c.OK, r.Code) {
		err = &Error{Argv: append([]string{c.Path}, c.Args...), Code: r.Code, Stderr: string(r.Stderr), Cause: fmt.Errorf("exit status %d", r.Code)}
	}
	return r, err
}

// Calls are the command lines so far, quoted.
func (f *Fake) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var s []string
	for _, a := range f.argv {
		s = append(s, Quote(a))
	}
	return s
}
