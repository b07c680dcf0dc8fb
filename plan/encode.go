package plan

import (
	"bytes"
	"encoding/json"

	"lifeboat/manifest"
	"lifeboat/report"
)

// Encode writes the plan as JSON, two-space indent, final newline.
func (p *Plan) Encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(p); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Decode reads a plan that Encode wrote and checks its target graph, so that
// its texts can be made.
func Decode(data []byte) (*Plan, error) {
	p := new(Plan)
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		return nil, report.Errorf(report.CodeManifest, "make the plan again", "the plan does not fit its format: %w", err)
	}
	if p.Format != Format {
		return nil, report.Errorf(report.CodeManifest, "make the plan again", "the plan's format is %q, not %s", p.Format, Format)
	}
	if faults := p.Target.Check(); len(faults) > 0 {
		f := report.Errorf(report.CodeManifest, "make the plan again", "the plan's target graph is not valid: %s", faults[0])
		f.Details = faults[1:]
		return nil, f
	}
	for _, n := range p.Target.OfKind(manifest.KindDisk) {
		if p.Assigned(n.ID) == nil && !p.Refused() {
			return nil, report.Errorf(report.CodeManifest, "make the plan again", "the plan gives %s no disk", n.ID)
		}
	}
	return p, nil
}
