// Command mkschema writes the JSON Schema of the manifest from the types of
// package manifest and their comments.
// Level 7: build time: the JSON Schema.
//
//	go run ./internal/mkschema docs/manifest.schema.json
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./internal/mkschema docs/manifest.schema.json")
		os.Exit(2)
	}
	text, err := Schema("manifest")
	if err == nil {
		err = os.WriteFile(os.Args[1], text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mkschema:", err)
		os.Exit(1)
	}
}
