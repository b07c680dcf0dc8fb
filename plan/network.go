package plan

// networkModules are what the rescue system needs to bring the network up as
// the host had it. That it lacks one is no reason to refuse: the backup may
// lie elsewhere, or DHCP may do.
var networkModules = map[string]string{"vlan": "8021q", "bond": "bonding", "team": "bonding"}

func (k *maker) networkNeeds() {
	for _, l := range k.m.Network.Links {
		if m := networkModules[l.Kind]; m != "" && l.Up {
			k.p.Needs.Modules = addOnce(k.p.Needs.Modules, m)
		}
	}
}

func forNetwork(module string) bool { return module == "8021q" || module == "bonding" }
