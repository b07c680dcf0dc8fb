package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"lifeboat/report"
)

// Check are the limits of `lifeboat check`. Beyond a limit it warns, beyond
// twice the limit it is critical.
type Check struct {
	MaxAgeImage  Age `yaml:"max_age_image"`  // since the rescue image was made
	MaxAgeBackup Age `yaml:"max_age_backup"` // since the newest backup began
}

// DefaultCheck fits a nightly backup of which one may fail, and a rescue image
// that is made again when something changed.
var DefaultCheck = Check{MaxAgeImage: 90 * Day, MaxAgeBackup: 2 * Day}

// Age is a span of time, written like 2d, 36h or 6w. Zero, written never, is no
// limit.
type Age time.Duration

// Day is 24 hours.
const Day = Age(24 * time.Hour)

// units of an age, the largest first. A month has no fixed length.
var units = []struct {
	letter string
	age    Age
}{{"w", 7 * Day}, {"d", Day}, {"h", Age(time.Hour)}, {"m", Age(time.Minute)}}

// ParseAge reads what String writes, and any other number with one unit.
func ParseAge(s string) (Age, error) {
	if s == "never" {
		return 0, nil
	}
	for _, u := range units {
		num, ok := strings.CutSuffix(s, u.letter)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(num, 10, 64)
		if err == nil && n > 0 && n <= math.MaxInt64/int64(u.age)/2 { // twice of it is a limit too
			return u.age * Age(n), nil
		}
	}
	return 0, fmt.Errorf("%q is no age", s)
}

// String is the age in its largest whole unit.
func (a Age) String() string {
	if a == 0 {
		return "never"
	}
	for _, u := range units {
		if a%u.age == 0 && u.letter != "w" { // people count days
			return fmt.Sprintf("%d%s", a/u.age, u.letter)
		}
	}
	return time.Duration(a).String()
}

// MarshalText is String.
func (a Age) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// MarshalYAML is String.
func (a Age) MarshalYAML() (any, error) { return a.String(), nil }

// UnmarshalYAML reads an age.
func (a *Age) UnmarshalYAML(n *yaml.Node) (err error) {
	if *a, err = ParseAge(n.Value); err != nil {
		return report.Errorf(report.CodeConfig, "write it like 2d, 36h or never", "line %d: %w", n.Line, err)
	}
	return nil
}
