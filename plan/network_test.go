package plan

import (
	"slices"
	"testing"

	"lifeboat/manifest"
	"lifeboat/report"
)

// The image carries what the captured network needs; a rescue system without
// it warns and goes on, since the backup may be reached otherwise.
func TestNetworkModules(t *testing.T) {
	s := scenario{host: biosHost, disks: disks(blank("NEW-1", 12*gib))}
	in := s.input()
	in.Manifest.Network.Links = []manifest.Link{{Name: "bond0", Kind: "bond", Up: true}, {Name: "bond0.7", Kind: "vlan", Up: true}, {Name: "v9", Kind: "vlan"}}
	p := Make(in)
	if !slices.Contains(p.Needs.Modules, "8021q") || !slices.Contains(p.Needs.Modules, "bonding") {
		t.Errorf("needs %v", p.Needs.Modules)
	}
	if p.Refused() || !slices.Contains(codes(p.Warnings), report.CodeModuleMissing) {
		t.Errorf("refusals %v, warnings %v", codes(p.Refusals), codes(p.Warnings))
	}
	in.Machine.Kernel.Modules = append(in.Machine.Kernel.Modules, "8021q", "bonding")
	if p := Make(in); p.Refused() || slices.Contains(codes(p.Warnings), report.CodeModuleMissing) {
		t.Errorf("refusals %v, warnings %v", codes(p.Refusals), codes(p.Warnings))
	}
}
