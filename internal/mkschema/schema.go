package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"lifeboat/manifest"
)

// object keeps the order of its members, so that the file is the same every
// time and reads like the types.
type object []member

type member struct {
	key   string
	value any
}

// MarshalJSON writes the members in their order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:", m.key)
		v, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		b.Write(v)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// docs are the comments of a package: of types by "Type", of fields by
// "Type.Field", and the constants of string types.
type docs struct {
	text  map[string]string
	enums map[string][]string
}

// Schema makes the schema from the manifest package, whose sources lie in
// dir.
func Schema(dir string) ([]byte, error) {
	d, err := readDocs(dir)
	if err != nil {
		return nil, err
	}
	b := &builder{docs: d, seen: map[string]bool{}}
	root := b.structure(reflect.TypeFor[manifest.Manifest]())
	out := object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"title", "Lifeboat manifest, " + manifest.Format},
	}
	out = append(append(out, root...), member{"$defs", b.defs})
	text, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, text, "", "  "); err != nil {
		return nil, err
	}
	pretty.WriteByte('\n')
	return pretty.Bytes(), nil
}

type builder struct {
	docs *docs
	seen map[string]bool
	defs object
}

// structure describes the fields of a struct as encoding/json writes them.
func (b *builder) structure(t reflect.Type) object {
	props, required := object{}, []string{}
	for i := range t.NumField() {
		f := t.Field(i)
		tag := strings.Split(f.Tag.Get("json"), ",")
		if tag[0] == "-" || !f.IsExported() {
			continue
		}
		name := tag[0]
		if name == "" {
			name = f.Name
		}
		optional, quoted := false, false
		for _, o := range tag[1:] {
			optional = optional || o == "omitempty"
			quoted = quoted || o == "string"
		}
		s := b.of(f.Type, !optional)
		if quoted {
			s = object{{"type", "string"}}
		}
		if text := b.docs.text[t.Name()+"."+f.Name]; text != "" {
			s = append(s, member{"description", text})
		}
		if f.Name == "Format" && t.Name() == "Manifest" {
			s = append(s, member{"const", manifest.Format})
		}
		props = append(props, member{name, s})
		if !optional {
			required = append(required, name)
		}
	}
	out := object{{"type", "object"}}
	if text := b.docs.text[t.Name()]; text != "" {
		out = append(out, member{"description", text})
	}
	return append(out, member{"properties", props}, member{"required", required}, member{"additionalProperties", false})
}

// of describes a type. always: the field is written even when empty, so that
// an empty list is null.
func (b *builder) of(t reflect.Type, always bool) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{{"type", "string"}, {"format", "date-time"}}
	case t == reflect.TypeFor[[]byte]():
		return object{{"type", "string"}, {"contentEncoding", "base64"}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return b.of(t.Elem(), false)
	case reflect.String:
		s := object{{"type", "string"}}
		if e := b.docs.enums[t.Name()]; len(e) > 0 {
			s = append(s, member{"enum", e})
		}
		return s
	case reflect.Bool:
		return object{{"type", "boolean"}}
	case reflect.Int, reflect.Int64, reflect.Uint32, reflect.Uint64:
		return object{{"type", "integer"}}
	case reflect.Slice:
		var typ any = "array"
		if always {
			typ = []string{"array", "null"}
		}
		return object{{"type", typ}, {"items", b.of(t.Elem(), false)}}
	case reflect.Map:
		return object{{"type", "object"}, {"additionalProperties", b.of(t.Elem(), false)}}
	case reflect.Struct:
		if !b.seen[t.Name()] {
			b.seen[t.Name()] = true
			i := len(b.defs)
			b.defs = append(b.defs, member{t.Name(), nil})
			b.defs[i].value = b.structure(t)
		}
		return object{{"$ref", "#/$defs/" + t.Name()}}
	}
	panic("mkschema: the manifest has a field of type " + t.String() + ", which the schema cannot express")
}

// readDocs reads comments and constants of the sources.
func readDocs(dir string) (*docs, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s holds no Go files; run it at the top of the module", dir)
	}
	d := &docs{text: map[string]string{}, enums: map[string][]string{}}
	for _, n := range names {
		if strings.HasSuffix(n, "_test.go") {
			continue
		}
		src, err := os.ReadFile(n)
		if err != nil {
			return nil, err
		}
		f, err := parser.ParseFile(token.NewFileSet(), n, src, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, decl := range f.Decls {
			if g, ok := decl.(*ast.GenDecl); ok {
				d.declaration(g)
			}
		}
	}
	return d, nil
}

func (d *docs) declaration(g *ast.GenDecl) {
	for _, spec := range g.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			d.text[s.Name.Name] = oneLine(g.Doc)
			if st, ok := s.Type.(*ast.StructType); ok {
				for _, f := range st.Fields.List {
					text := oneLine(f.Doc)
					if text == "" {
						text = oneLine(f.Comment)
					}
					for _, n := range f.Names {
						d.text[s.Name.Name+"."+n.Name] = text
					}
				}
			}
		case *ast.ValueSpec:
			if typ, ok := s.Type.(*ast.Ident); ok && len(s.Values) == 1 {
				if lit, ok := s.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if v, err := strconv.Unquote(lit.Value); err == nil {
						d.enums[typ.Name] = append(d.enums[typ.Name], v)
					}
				}
			}
		}
	}
}

func oneLine(c *ast.CommentGroup) string {
	if c == nil {
		return ""
	}
	return strings.Join(strings.Fields(c.Text()), " ")
}
