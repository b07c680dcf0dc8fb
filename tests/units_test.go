package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// unitFiles are the systemd units by name.
func unitFiles(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("../packaging/systemd/lifeboat-*")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no units: %v", err)
	}
	out := map[string]string{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(p)] = string(b)
	}
	return out
}

// namespacing are directives that give a service a mount namespace of its own,
// in which the host looks other than it is (systemd.exec(5)).
var namespacing = []string{"ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateMounts", "PrivateIPC", "PrivateNetwork",
	"PrivateUsers", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc", "ProtectHostname",
	"ProcSubset", "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths", "BindPaths", "BindReadOnlyPaths",
	"TemporaryFileSystem", "RootDirectory", "RootImage", "MountFlags", "DynamicUser", "StateDirectory", "RuntimeDirectory", "LogsDirectory",
	"ProtectClock", "DeviceAllow", "DevicePolicy", "MountAPIVFS", "LoadCredential", "SetCredential"}

// TestUnits: what captures the host sees it as it is; timers catch up and do
// not all come at once.
func TestUnits(t *testing.T) {
	for name, text := range unitFiles(t) {
		keys := map[string]string{}
		for line := range strings.Lines(text) {
			if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(k, "#") {
				keys[k] = v
			}
		}
		for _, k := range namespacing {
			if v, is := keys[k]; is {
				t.Errorf("%s: %s=%s: the service would capture another system than the host", name, k, v)
			}
		}
		want := []string{"ExecStart", "NoNewPrivileges", "CapabilityBoundingSet", "UMask"}
		if strings.HasSuffix(name, ".timer") {
			want = []string{"OnCalendar", "RandomizedDelaySec", "FixedRandomDelay", "Persistent", "WantedBy"}
		}
		for _, k := range want {
			if keys[k] == "" {
				t.Errorf("%s: no %s", name, k)
			}
		}
	}
}
