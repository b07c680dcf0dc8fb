package netup

import (
	"strings"
	"testing"
)

func TestParseIP(t *testing.T) {
	for in, want := range map[string]string{
		"dhcp":      "invalid Prefix",
		"eth0:dhcp": "invalid Prefix dev=eth0",
		"192.168.1.5::192.168.1.1:255.255.255.0:web:eth0:none": "192.168.1.5/24 gw=192.168.1.1 dev=eth0",
		"10.0.0.2::10.0.0.1:255.255.255.255::52:54:00":         "error",
		"10.0.0.2/8::10.0.0.1":                                 "10.0.0.2/8 gw=10.0.0.1",
		"10.0.0.2:::255.0.0.0:::off:1.1.1.1:8.8.8.8:9.9.9.9":   "10.0.0.2/8",
		"[2001:db8::5]::[2001:db8::1]:64::eth0:none":           "2001:db8::5/64 gw=2001:db8::1 dev=eth0",
		"10.0.0.2": "error", "10.0.0.2:::255.0.255.0": "error", "x": "error", "10.0.0.2:::99": "error", "10.0.0.2:::0": "error",
		":::::eth1:dhcp": "invalid Prefix dev=eth1", "off": "invalid Prefix",
	} {
		s, err := ParseIP(in)
		got := s.Address.String()
		if s.Gateway.IsValid() {
			got += " gw=" + s.Gateway.String()
		}
		if s.Device != "" {
			got += " dev=" + s.Device
		}
		if err != nil {
			got = "error"
			if !strings.Contains(err.Error(), "write ip=") {
				t.Errorf("%s: error without a next step: %v", in, err)
			}
		}
		if got != want {
			t.Errorf("ip=%s: %s, want %s (%v)", in, got, want, err)
		}
	}
}

func FuzzParseIP(f *testing.F) {
	f.Add("192.168.1.5::192.168.1.1:255.255.255.0:web:eth0:none")
	f.Add("[2001:db8::5]::[::1]:64")
	f.Fuzz(func(t *testing.T, v string) {
		if s, err := ParseIP(v); err == nil && s.Address.IsValid() && s.Address.Bits() < 1 {
			t.Errorf("%q: %v", v, s.Address)
		}
	})
}
