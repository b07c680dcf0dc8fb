package builder

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/internal/config"
	"lifeboat/manifest"
)

func stateOf(t *testing.T, m *manifest.Manifest) *ImageState {
	t.Helper()
	p := filepath.Join(t.TempDir(), "alpha.iso")
	if err := os.WriteFile(p, []byte("image"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &ImageState{Made: m.Made, By: "1", Settings: "s", BuildID: "b", Media: []Medium{{Kind: "iso", Path: p, Bytes: 5}}, Manifest: m}
}

func TestState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "state")
	if s, err := LoadImage(dir); s != nil || err != nil {
		t.Errorf("nothing was noted yet: %v, %v", s, err)
	}
	s := stateOf(t, alpha("6.1.0"))
	b := &BackupState{Made: s.Made, Name: "/srv/x.lba", UUID: "u", Unread: []string{"a"}, Manifest: alpha("6.1.0")}
	for range 2 { // the second time over the first
		if err := s.Save(dir); err != nil {
			t.Fatal(err)
		}
		if err := b.Save(dir); err != nil {
			t.Fatal(err)
		}
	}
	got, err := LoadImage(dir)
	if err != nil || got.BuildID != "b" || !got.Made.Equal(s.Made) || got.Manifest.Fingerprint() != s.Manifest.Fingerprint() || len(got.Media) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	back, err := LoadBackup(dir)
	if err != nil || back.UUID != "u" || len(back.Unread) != 1 || back.Manifest.Fingerprint() != b.Manifest.Fingerprint() {
		t.Errorf("%+v, %v", back, err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
	for _, p := range left {
		if st, err := os.Stat(p); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", p, st.Mode(), err)
		}
	}
}

// TestStateDamaged: a note that is cut short is an error that says what to do,
// not an empty note.
func TestStateDamaged(t *testing.T) {
	dir := t.TempDir()
	s := stateOf(t, alpha("6.1.0"))
	if err := s.Save(dir); err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(dir, imageFile)
	whole, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	for what, data := range map[string][]byte{
		"empty": nil, "cut": whole[:len(whole)/2], "other format": bytes.Replace(whole, []byte("state/1"), []byte("state/9"), 1),
		"no manifest": []byte(`{"format":"lifeboat.state/1"}`), "null": []byte("null"), "list": []byte("[]"),
	} {
		if err := os.WriteFile(p, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := LoadImage(dir); got != nil || err == nil || !strings.Contains(err.Error(), "mkbackup") {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	// A folder that cannot be written to.
	if err := s.Save(filepath.Join(p, "below-a-file")); err == nil || !strings.Contains(err.Error(), "not noted") {
		t.Errorf("%v", err)
	}
}

func FuzzLoadState(f *testing.F) {
	f.Add([]byte(`{"format":"lifeboat.state/1","manifest":{}}`))
	f.Add([]byte(`{"format":"lifeboat.state/1","made":"2026-01-01T00:00:00Z","media":[{"path":"/x"}],"manifest":null}`))
	f.Add([]byte(`{}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, imageFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := LoadImage(dir)
		if (s == nil) == (err == nil) {
			t.Fatalf("%v, %v", s, err)
		}
		if s != nil {
			s.Stale(time.Now(), alpha("1"), "", "", 0)
		}
	})
}

// TestStale: the image is made again for each reason, and for none else.
func TestStale(t *testing.T) {
	const limit = 90 * 24 * time.Hour
	for name, c := range map[string]struct {
		change func(s *ImageState, m *manifest.Manifest, now *time.Time, settings, version *string)
		want   string
	}{
		"nothing":       {func(*ImageState, *manifest.Manifest, *time.Time, *string, *string) {}, ""},
		"observed only": {func(_ *ImageState, m *manifest.Manifest, _ *time.Time, _, _ *string) { m.Storage.Nodes[0].Seen.Used++ }, ""},
		"day 89": {func(_ *ImageState, _ *manifest.Manifest, now *time.Time, _, _ *string) {
			*now = now.Add(limit - time.Hour)
		}, ""},
		"on a stick": {func(s *ImageState, _ *manifest.Manifest, _ *time.Time, _, _ *string) {
			s.Media[0].Path = "alpha on /dev/sdz"
		}, ""},
		"day 91": {func(_ *ImageState, _ *manifest.Manifest, now *time.Time, _, _ *string) {
			*now = now.Add(limit + time.Hour)
		}, "it is of 2026-05-01"},
		"clock": {func(_ *ImageState, _ *manifest.Manifest, now *time.Time, _, _ *string) {
			*now = now.Add(-2 * time.Hour)
		}, "it is of 2026-05-01"},
		"gone":      {func(s *ImageState, _ *manifest.Manifest, _ *time.Time, _, _ *string) { os.Remove(s.Media[0].Path) }, "is gone"},
		"no medium": {func(s *ImageState, _ *manifest.Manifest, _ *time.Time, _, _ *string) { s.Media = nil }, "wrote no rescue image"},
		"cut":       {func(s *ImageState, _ *manifest.Manifest, _ *time.Time, _, _ *string) { os.Truncate(s.Media[0].Path, 1) }, "has 1 bytes instead of 5"},
		"settings":  {func(_ *ImageState, _ *manifest.Manifest, _ *time.Time, s, _ *string) { *s = "t" }, "the settings changed"},
		"version":   {func(_ *ImageState, _ *manifest.Manifest, _ *time.Time, _, v *string) { *v = "2" }, "made by lifeboat 1, this is 2"},
		"mount": {func(_ *ImageState, m *manifest.Manifest, _ *time.Time, _, _ *string) {
			m.Storage.Mounts = m.Storage.Mounts[:1]
		}, "mount /srv is gone"},
	} {
		s, m := stateOf(t, alpha("6.1.0")), alpha("6.1.0")
		now, settings, version := s.Made.Add(time.Hour), "s", "1"
		c.change(s, m, &now, &settings, &version)
		why := s.Stale(now, m, settings, version, limit)
		if (c.want == "") != (len(why) == 0) || !strings.Contains(strings.Join(why, "\n"), c.want) {
			t.Errorf("%s: %q", name, why)
		}
	}
	if why := (*ImageState)(nil).Stale(time.Now(), alpha("1"), "", "", 0); len(why) != 1 {
		t.Errorf("no image yet: %q", why)
	}
}

// TestSettingsDigest: what shapes the image counts, the limits of check and
// where a setting was read do not.
func TestSettingsDigest(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("word"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := func() *config.Config {
		c := config.Default()
		c.Backup.TokenFile = token
		return c
	}
	was := SettingsDigest(base(), "")
	for name, c := range map[string]struct {
		change func(*config.Config)
		counts bool
	}{
		"check": {func(c *config.Config) { c.Check.MaxAgeImage = 0 }, false}, "source": {func(c *config.Config) { c.Set("modules", "modules") }, false},
		"modules": {func(c *config.Config) { c.Modules = "host" }, true}, "url": {func(c *config.Config) { c.Backup.URL = "/x" }, true},
		"keys": {func(c *config.Config) { c.SSH.AuthorizedKeys = "ssh-ed25519 x" }, true},
		"token": {func(*config.Config) {
			if err := os.WriteFile(token, []byte("another word"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		x := base()
		before := SettingsDigest(base(), "")
		c.change(x)
		if got := SettingsDigest(x, ""); (got != before) != c.counts {
			t.Errorf("%s counts: %v", name, got != before)
		}
	}
	if SettingsDigest(base(), "6.1.0") == was {
		t.Error("the kernel does not count")
	}
	asked := Asked{Modules: "host", OutputDir: "/o", Output: []string{"usb"}}
	if c := asked.Over(base()); c.Modules != "host" || c.OutputDir != "/o" || c.Output[0] != "usb" {
		t.Errorf("%+v", c)
	}
	if SettingsDigest((Asked{}).Over(base()), "") != SettingsDigest(base(), "") {
		t.Error("no flags change the settings")
	}
}

// TestWorkFolder: what a killed build left goes with the next one.
func TestWorkFolder(t *testing.T) {
	dir := t.TempDir()
	killed := filepath.Join(dir, ".lifeboat-build-1", "x")
	if err := os.MkdirAll(killed, 0o700); err != nil {
		t.Fatal(err)
	}
	b := &build{o: Options{Config: &config.Config{OutputDir: dir}}}
	done, err := b.workFolder()
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 1 || left[0] != b.work {
		t.Errorf("%v beside %s", left, b.work)
	}
	done()
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
