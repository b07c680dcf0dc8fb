package plan

import (
	"bytes"
	"errors"
	"io"

	"go.yaml.in/yaml/v3"

	"lifeboat/report"
)

// DecodeMapping reads a mapping file, YAML or JSON. Unknown keys are errors:
// a mapping says which disk is erased.
func DecodeMapping(data []byte) (*Mapping, error) {
	m := new(Mapping)
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	err := d.Decode(m)
	if errors.Is(err, io.EOF) {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, report.Errorf(report.CodeMapping, "write disks: [{from: OLD-SERIAL, to: NEW-SERIAL}]", "the mapping file cannot be read: %w", err)
	}
	if d.Decode(new(yaml.Node)) == nil {
		return nil, report.Errorf(report.CodeMapping, "join the documents", "the mapping file holds more than one document")
	}
	return m, nil
}
