package main

import (
	_ "embed"
	"fmt"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

//go:embed tools.go
var toolsGo string

// aliases are further names of commands. The binary maps them itself, because
// a shell hands on only the bare name that it was called by.
var aliases = map[string]string{"sh": "gosh", "less": "more"}

// tags leave out line editing of gosh: bash, which hosts have, does it better.
var tags = []string{"goshsmall"}

// packages are the import paths of the commands.
func packages() ([]string, error) {
	f, err := parser.ParseFile(token.NewFileSet(), "tools.go", toolsGo, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, im := range f.Imports {
		p, err := strconv.Unquote(im.Path.Value)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// names are the names that the binary answers to, sorted.
func names(pkgs []string) []string {
	out := slices.Collect(maps.Keys(aliases))
	for _, p := range pkgs {
		out = append(out, path.Base(p))
	}
	slices.Sort(out)
	return out
}

// aliasSource is a file added to the generated program: it runs before its
// main function and turns aliases, and the "-sh" of a login shell, into names
// of commands.
func aliasSource() string {
	var cases strings.Builder
	for _, a := range slices.Sorted(maps.Keys(aliases)) {
		fmt.Fprintf(&cases, "\tcase %q:\n\t\tos.Args[0] = %q\n", a, aliases[a])
	}
	return fmt.Sprintf(`package main

import (
	"os"
	"path/filepath"
	"strings"
)

func init() {
	switch strings.TrimPrefix(filepath.Base(os.Args[0]), "-") {
%s	}
}
`, cases.String())
}
