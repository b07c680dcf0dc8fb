package plan

import "maps"

// Probes are the programs that plans may need, each with the argument with
// which it is known to do nothing but answer. A rescue system tries them, so
// that Needs can be checked.
func Probes() map[string]string { return maps.Clone(probes) }
