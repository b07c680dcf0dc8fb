package config

import (
	"strings"
	"testing"
	"time"

	"lifeboat/report"
)

func TestAge(t *testing.T) {
	for s, want := range map[string]Age{"2d": 2 * Day, "36h": Age(36 * time.Hour), "6w": 42 * Day, "90m": Age(90 * time.Minute), "never": 0} {
		if a, err := ParseAge(s); err != nil || a != want {
			t.Errorf("%s: %v, %v", s, a, err)
		}
	}
	for _, s := range []string{"", "d", "2", "-2d", "0d", "1.5d", "2y", "2 d", "99999999w", "9223372036854775807d"} {
		if a, err := ParseAge(s); err == nil {
			t.Errorf("%q: %v", s, a)
		}
	}
	for a, want := range map[Age]string{42 * Day: "42d", Age(36 * time.Hour): "36h", Age(90 * time.Minute): "90m", 0: "never", Age(time.Second): "1s"} {
		if a.String() != want {
			t.Errorf("%s instead of %s", a, want)
		}
	}
}

func TestCheckSettings(t *testing.T) {
	c, err := Load(write(t, t.TempDir(), "a.yaml", "check: {max_age_backup: 36h}\n"), true)
	if err != nil || c.Check.MaxAgeBackup != Age(36*time.Hour) || c.Check.MaxAgeImage != DefaultCheck.MaxAgeImage {
		t.Errorf("%+v, %v", c, err)
	}
	if text := c.Text(); !strings.Contains(text, "max_age_backup: 36h") || !strings.Contains(text, "max_age_image: 90d") {
		t.Errorf("%s", text)
	}
	_, err = Load(write(t, t.TempDir(), "a.yaml", "check:\n  max_age_backup: soon\n"), true)
	if report.ExitOf(err) != report.ExitUsage || err == nil || !strings.Contains(err.Error(), `line 2: "soon" is no age`) || !strings.Contains(err.Error(), "2d, 36h or never") {
		t.Errorf("%v", err)
	}
}

// FuzzParseAge: what is read is positive, or never, and is written so that it
// is read the same.
func FuzzParseAge(f *testing.F) {
	for _, s := range []string{"2d", "36h", "6w", "never", "", "0d", "9223372036854775807m", "-1h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAge(s)
		if err != nil {
			return
		}
		if a < 0 || 2*a < 0 {
			t.Fatalf("%q: %d", s, a)
		}
		if b, err := ParseAge(a.String()); err != nil || b != a {
			t.Errorf("%q: %v is read back as %v, %v", s, a, b, err)
		}
	})
}
