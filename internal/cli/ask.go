package cli

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"
)

// ErrNoTerminal: there is nobody to be asked.
var ErrNoTerminal = errors.New("standard input is no terminal")

// Ask asks a person on the terminal and returns the line typed, without blanks
// around it.
func (o *Out) Ask(question string) (string, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", ErrNoTerminal
	}
	o.mu.Lock()
	o.endBar()
	fmt.Fprint(o.Stderr, question)
	o.mu.Unlock()
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(line), nil
}
