// Package config reads the settings of a host, each with its source.
// Level 1.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"

	"lifeboat/report"
)

// Path is where the settings lie unless --config says otherwise; conf.d lies
// beside it.
const Path = "/etc/lifeboat/lifeboat.yaml"

// Config is every setting. The zero value of a field never means anything:
// Default fills all.
type Config struct {
	Output    []string `yaml:"output"`     // iso, usb, pxe
	OutputDir string   `yaml:"output_dir"` // HOSTNAME.iso …
	Modules   string   `yaml:"modules"`    // host, universal, all
	Copy      []string `yaml:"copy"`       // more files and folders for the rescue system
	Programs  []string `yaml:"programs"`   // more programs
	Cmdline   string   `yaml:"cmdline"`    // more kernel arguments
	Uncovered []string `yaml:"uncovered"`  // mounts whose loss is accepted by name
	Backup    Backup   `yaml:"backup"`
	Recover   Recover  `yaml:"recover"`
	SSH       SSH      `yaml:"ssh"`
	Server    Server   `yaml:"server"`
	Check     Check    `yaml:"check"`

	// Sources says for each key set where it was set: file:line or flag.
	Sources map[string]string `yaml:"-"`
}

// Backup says how and where the host's files are kept.
type Backup struct {
	Method    string   `yaml:"method"`
	URL       string   `yaml:"url"`
	Exclude   []string `yaml:"exclude"`
	TokenFile string   `yaml:"token_file"` // 0600; bearer token of an HTTP store
	CAFile    string   `yaml:"ca_file"`    // authority of an HTTPS store
}

// Recover is what the medium does when it is started.
type Recover struct {
	Mode    string `yaml:"mode"`   // menu, auto
	Then    string `yaml:"then"`   // reboot, poweroff, stay
	Verify  string `yaml:"verify"` // index, full, "" for the safe default
	Mapping string `yaml:"mapping"`
}

// SSH of the rescue system; off without keys.
type SSH struct {
	AuthorizedKeys string `yaml:"authorized_keys"`
}

// Server is the central server.
type Server struct {
	URL        string   `yaml:"url"`
	TokenFile  string   `yaml:"token_file"`
	SendResult bool     `yaml:"send_result"`
	SendImage  bool     `yaml:"send_image"`
	Tags       []string `yaml:"tags"`
}

// Default are the settings of an empty file.
func Default() *Config {
	return &Config{
		Output: []string{"iso"}, OutputDir: "/var/lib/lifeboat/output", Modules: "universal",
		Backup:  Backup{Method: "archive"},
		Recover: Recover{Mode: "menu", Then: "reboot"},
		Server:  Server{SendResult: true},
		Check:   DefaultCheck,
		Sources: map[string]string{},
	}
}

// Load reads path, which need not exist unless must, and conf.d/*.yaml beside
// it in the order of their names, and validates the whole.
func Load(path string, must bool) (*Config, error) {
	c := Default()
	files := []string{path}
	more, err := filepath.Glob(filepath.Join(filepath.Dir(path), "conf.d", "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("list conf.d: %w", err)
	}
	sort.Strings(more)
	for i, f := range append(files, more...) {
		data, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) && i == 0 && !must {
			continue
		}
		if err != nil {
			return nil, report.Errorf(report.CodeConfig, "name the file with --config, or leave the option out", "read the configuration: %w", err)
		}
		if err := c.merge(f, data); err != nil {
			return nil, err
		}
	}
	return c, c.Validate()
}

// merge puts one file over what is there; lists are replaced, not appended.
func (c *Config) merge(file string, data []byte) error {
	var doc yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(data))
	err := d.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return report.Errorf(report.CodeConfig, "mend the YAML", "%s: %w", file, err)
	}
	if d.Decode(new(yaml.Node)) == nil {
		return report.Errorf(report.CodeConfig, "join the documents", "%s holds more than one YAML document", file)
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind == yaml.ScalarNode && doc.Content[0].Tag == "!!null" {
		return nil
	}
	if err := c.keys(file, "", doc.Content[0], reflect.TypeOf(*c)); err != nil {
		return err
	}
	if err := doc.Decode(c); err != nil {
		return report.Errorf(report.CodeConfig, "mend the value", "%s: %w", file, err)
	}
	return nil
}

// keys checks every key of a mapping against the struct and notes its source.
func (c *Config) keys(file, prefix string, n *yaml.Node, t reflect.Type) error {
	if n.Kind != yaml.MappingNode {
		return report.Errorf(report.CodeConfig, "write KEY: VALUE lines", "%s:%d: %s is no list of keys", file, n.Line, orTop(prefix))
	}
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("yaml"); tag != "-" && tag != "" {
			fields[tag] = t.Field(i).Type
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		name := strings.TrimPrefix(prefix+"."+key.Value, ".")
		ft, ok := fields[key.Value]
		if !ok {
			return report.Errorf(report.CodeConfig, "did you mean "+strings.TrimPrefix(prefix+"."+nearest(key.Value, fields), ".")+"?",
				"%s:%d: the key %s is not known", file, key.Line, name)
		}
		c.Sources[name] = fmt.Sprintf("%s:%d", file, key.Line)
		if ft.Kind() == reflect.Struct {
			if err := c.keys(file, name, val, ft); err != nil {
				return err
			}
		}
	}
	return nil
}

func orTop(p string) string {
	if p == "" {
		return "the file"
	}
	return p
}

// nearest is the key with the smallest edit distance.
func nearest(word string, keys map[string]reflect.Type) string {
	best, dist := "", 1<<30
	for k := range keys {
		if d := distance(word, k); d < dist || d == dist && k < best {
			best, dist = k, d
		}
	}
	return best
}

func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := prev
			if a[i] != b[j] {
				cost++
			}
			prev = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// Validate checks values against each other and against what is known.
func (c *Config) Validate() error {
	oneOf := func(key, v string, ok ...string) error {
		for _, x := range ok {
			if v == x {
				return nil
			}
		}
		return report.Errorf(report.CodeConfig, "write one of "+strings.Join(ok, ", "), "%s%s is %q", c.where(key), key, v)
	}
	if len(c.Output) == 0 {
		return report.Errorf(report.CodeConfig, "name at least one of iso, usb, pxe, or leave the key out", "%soutput is empty: no rescue image would be made", c.where("output"))
	}
	for i, o := range c.Output {
		if err := oneOf("output", o, "iso", "usb", "pxe"); err != nil {
			return err
		}
		if slices.Contains(c.Output[:i], o) { // both would be written at the same time, to the same file
			return report.Errorf(report.CodeConfig, "name it once", "%soutput names %s twice", c.where("output"), o)
		}
	}
	for _, e := range []error{
		oneOf("modules", c.Modules, "host", "universal", "all"),
		oneOf("backup.method", c.Backup.Method, "archive", "none"),
		oneOf("recover.mode", c.Recover.Mode, "menu", "auto"),
		oneOf("recover.then", c.Recover.Then, "reboot", "poweroff", "stay"),
		oneOf("recover.verify", c.Recover.Verify, "", "index", "full"),
	} {
		if e != nil {
			return e
		}
	}
	return c.validatePaths()
}

func (c *Config) validatePaths() error {
	for _, x := range c.Backup.Exclude {
		// An empty pattern would match everything, and so lose everything.
		if !strings.HasPrefix(x, "/") || x == "/" {
			return report.Errorf(report.CodeConfig, "write an absolute path below /", "%sbackup.exclude holds %q", c.where("backup.exclude"), x)
		}
	}
	for _, u := range c.Uncovered {
		if u == "" {
			return report.Errorf(report.CodeConfig, "name a mount point", "%suncovered holds an empty name", c.where("uncovered"))
		}
	}
	if strings.Contains(c.Recover.Mapping, "://") {
		return report.Errorf(report.CodeConfig, "name a file; it is packed into the image", "%srecover.mapping is %q: mappings are not fetched yet", c.where("recover.mapping"), c.Recover.Mapping)
	}
	if !filepath.IsAbs(c.OutputDir) || filepath.Clean(c.OutputDir) == "/" { // no backup holds what is in it
		return report.Errorf(report.CodeConfig, "write an absolute path below /", "%soutput_dir is %q", c.where("output_dir"), c.OutputDir)
	}
	return nil
}

func (c *Config) where(key string) string {
	if s := c.Sources[key]; s != "" {
		return s + ": "
	}
	return ""
}

// Set notes that a flag set a key; the caller has changed the field.
func (c *Config) Set(key, flag string) { c.Sources[key] = "--" + flag }

// Text is the result with its sources, as `lifeboat config` prints it.
func (c *Config) Text() string {
	var b strings.Builder
	c.print(&b, "", reflect.ValueOf(*c))
	return b.String()
}

func (c *Config) print(b *strings.Builder, prefix string, v reflect.Value) {
	t := v.Type()
	for i := range t.NumField() {
		tag := t.Field(i).Tag.Get("yaml")
		if tag == "-" || tag == "" {
			continue
		}
		name := strings.TrimPrefix(prefix+"."+tag, ".")
		indent := strings.Repeat("  ", strings.Count(name, "."))
		if v.Field(i).Kind() == reflect.Struct {
			fmt.Fprintf(b, "%s%s:\n", indent, tag)
			c.print(b, name, v.Field(i))
			continue
		}
		out, err := yaml.Marshal(v.Field(i).Interface())
		text := strings.TrimSpace(string(out))
		if err != nil || strings.Contains(text, "\n") {
			text = flow(v.Field(i))
		}
		src := c.Sources[name]
		if src == "" {
			src = "default"
		}
		fmt.Fprintf(b, "%-46s # %s\n", indent+tag+": "+text, src)
	}
}

func flow(v reflect.Value) string {
	var parts []string
	for i := range v.Len() {
		parts = append(parts, fmt.Sprintf("%q", v.Index(i).Interface()))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}
