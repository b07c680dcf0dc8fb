package plan

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"testing"

	"lifeboat/manifest"
)

// mangle changes a few values of a JSON document: numbers to odd ones, words
// to other words of the document, and lists and objects lose members.
type mangler struct {
	*rand.Rand
	words []any
}

func (m *mangler) gather(v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			m.gather(x)
		}
	case []any:
		for _, x := range v {
			m.gather(x)
		}
	case string:
		m.words = append(m.words, v)
	}
}

func (m *mangler) change(v any) any {
	hit := m.IntN(100) < 2
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if m.IntN(400) == 0 {
				delete(v, k)
			} else {
				v[k] = m.change(x)
			}
		}
	case []any:
		for i := range v {
			v[i] = m.change(v[i])
		}
		if hit && len(v) > 0 {
			if i := m.IntN(len(v)); m.IntN(2) == 0 {
				return append(v[:i:i], v[i+1:]...)
			}
			return append(v, v[m.IntN(len(v))])
		}
	case json.Number:
		if hit {
			return []json.Number{"0", "1", "-1", "511", "4096", "9223372036854775807", "-9223372036854775808", "1048576"}[m.IntN(8)]
		}
	case string:
		if hit && len(m.words) > 0 {
			return m.words[m.IntN(len(m.words))]
		}
	}
	return v
}

func mangled(r *rand.Rand, in Input) Input {
	again := func(v, into any) bool {
		data, err := json.Marshal(v)
		if err != nil {
			return false
		}
		var doc any
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		if d.Decode(&doc) != nil {
			return false
		}
		m := &mangler{Rand: r}
		m.gather(doc)
		if data, err = json.Marshal(m.change(doc)); err != nil {
			return false
		}
		return json.Unmarshal(data, into) == nil
	}
	m, d := new(manifest.Manifest), new(manifest.Machine)
	if again(in.Manifest, m) {
		in.Manifest = m
	}
	if again(in.Machine, d) {
		in.Machine = d
	}
	return in
}

func makeMangled(t *testing.T, seed uint64) bool {
	r := rand.New(rand.NewPCG(seed, 7))
	g := gen{r}
	in := g.machine(g.host())
	if g.chance(30) {
		in = scenarios[r.IntN(len(scenarios))].input()
	}
	in = mangled(r, in)
	in.Policy.OwnHardware = g.chance(20)
	p := Make(in)
	if p.Text() == "" || p.ID == "" {
		t.Error("a plan without text or id")
	}
	for _, a := range p.Assignments {
		// Whatever was written, a protected disk is no target.
		for _, d := range in.Machine.Disks {
			if !in.Policy.OwnHardware && !p.Refused() && d.Name == a.Disk.Name && d.DevNo == a.Disk.DevNo && len(d.Protection) > 0 && len(in.Policy.Unprotect) == 0 {
				t.Errorf("seed %d: %s is protected and a target", seed, d.Name)
			}
		}
	}
	if data, err := p.Encode(); err == nil {
		if q, err := Decode(data); err == nil {
			_ = q.Text()
		}
	}
	return in.Manifest.Validate() == nil
}

// TestMangled: manifests and machines that no capture and no probe wrote make
// a plan or a refusal, never a panic.
func TestMangled(t *testing.T) {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("seed %d", s)
	valid := 0
	for i := range uint64(1500) {
		if makeMangled(t, s+i) {
			valid++
		}
	}
	t.Logf("%d of 1500 were still valid", valid)
	if valid < 150 {
		t.Error("hardly any mangled manifest is valid: the planner is not reached")
	}
}

func FuzzMake(f *testing.F) {
	for i := range uint64(20) {
		f.Add(i)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { makeMangled(t, seed) })
}
