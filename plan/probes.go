package plan

import (
	"maps"
	"slices"
)

// Probes are the programs that plans may need, each with the argument with
// which it is known to do nothing but answer. A rescue system tries them, so
// that Needs can be checked.
func Probes() map[string]string { return maps.Clone(probes) }

// MayNeed are the programs and kernel modules of everything that plans can
// build, whatever this host has now: the manifest inside a newer backup may
// name volumes and filesystems that the medium never saw (rule 15). Both are
// sorted.
func MayNeed() (tools, modules []string) {
	tools, modules = []string{"blkid", "wipefs", "lvm", "mkswap"}, []string{"dm_mod"}
	for _, f := range fsNeeds {
		tools, modules = append(tools, f.tools...), append(modules, f.modules...)
	}
	slices.Sort(tools)
	slices.Sort(modules)
	return slices.Compact(tools), slices.Compact(modules)
}
