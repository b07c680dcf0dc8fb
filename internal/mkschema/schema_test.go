package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

const schemaFile = "../../docs/manifest.schema.json"

// TestUpToDate: the file in docs is what the types say now.
func TestUpToDate(t *testing.T) {
	want, err := Schema("../../manifest")
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Error("docs/manifest.schema.json is not what the types say; run: go run ./internal/mkschema docs/manifest.schema.json")
	}
}

// checker validates by the part of JSON Schema that the file uses.
type checker struct{ defs map[string]any }

func (c checker) check(at string, schema map[string]any, v any) []string {
	if ref, ok := schema["$ref"].(string); ok {
		def, ok := c.defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		if !ok {
			return []string{at + ": the schema has no " + ref}
		}
		return c.check(at, def, v)
	}
	if want, ok := schema["const"]; ok && v != want {
		return []string{fmt.Sprintf("%s: %v is not %v", at, v, want)}
	}
	if !typeFits(schema["type"], v) {
		return []string{fmt.Sprintf("%s: %v is no %v", at, v, schema["type"])}
	}
	if enum, ok := schema["enum"].([]any); ok {
		found := false
		for _, e := range enum {
			found = found || e == v
		}
		if !found {
			return []string{fmt.Sprintf("%s: %v is not in %v", at, v, enum)}
		}
	}
	var out []string
	switch x := v.(type) {
	case []any:
		for i, e := range x {
			out = append(out, c.check(fmt.Sprintf("%s[%d]", at, i), schema["items"].(map[string]any), e)...)
		}
	case map[string]any:
		out = c.object(at, schema, x)
	}
	return out
}

func (c checker) object(at string, schema map[string]any, x map[string]any) []string {
	var out []string
	props, _ := schema["properties"].(map[string]any)
	required, _ := schema["required"].([]any)
	for _, r := range required {
		if _, ok := x[r.(string)]; !ok {
			out = append(out, fmt.Sprintf("%s: %v is missing", at, r))
		}
	}
	for k, e := range x {
		if p, ok := props[k].(map[string]any); ok {
			out = append(out, c.check(at+"."+k, p, e)...)
		} else if more, ok := schema["additionalProperties"].(map[string]any); ok {
			out = append(out, c.check(at+"."+k, more, e)...)
		} else {
			out = append(out, at+": "+k+" is not known")
		}
	}
	return out
}

func typeFits(want, v any) bool {
	if list, ok := want.([]any); ok {
		for _, w := range list {
			if typeFits(w, v) {
				return true
			}
		}
		return false
	}
	switch x := v.(type) {
	case string:
		return want == "string"
	case bool:
		return want == "boolean"
	case json.Number:
		return want == "integer" && !strings.ContainsAny(x.String(), ".eE")
	case []any:
		return want == "array"
	case map[string]any:
		return want == "object"
	}
	return v == nil && want == "null"
}

func decode(t *testing.T, data []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestGolden validates the frozen manifest, and mutations that must not pass.
func TestGolden(t *testing.T) {
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	schema := decode(t, text)
	c := checker{schema["$defs"].(map[string]any)}
	data, err := os.ReadFile("../../manifest/testdata/v1.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range c.check("manifest", schema, decode(t, data)) {
		t.Error(f)
	}
	for _, m := range []struct{ old, new, want string }{
		{`"by": `, `"surprise": 1, "by": `, "surprise is not known"},
		{`"kind": "disk"`, `"kind": "drum"`, "drum is not in"},
		{`"bytes": `, `"bytes": 1.5, "x": `, "is no integer"},
		{`"transport": `, `"transport": 5, "x": `, "is no string"},
		{`"start": `, `"begin": `, "start is missing"},
		{`lifeboat.manifest/1`, `lifeboat.manifest/2`, "is not lifeboat.manifest/1"},
	} {
		got := strings.Join(c.check("manifest", schema, decode(t, bytes.Replace(data, []byte(m.old), []byte(m.new), 1))), "\n")
		if !strings.Contains(got, m.want) {
			t.Errorf("%s → %s: %q does not hold %q", m.old, m.new, got, m.want)
		}
	}
}
