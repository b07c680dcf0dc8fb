package builder

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lifeboat/internal/config"
	"lifeboat/internal/sysroot"
	"lifeboat/manifest"
	"lifeboat/report"
)

// StateDir is where a host keeps what it last made.
const StateDir = "/var/lib/lifeboat"

// Image and backup have a file each, so that neither is lost when both are
// written at the same time.
const (
	imageFile  = "image.json"
	backupFile = "backup.json"
	// StateFormat names this version of both files. A file of another version
	// counts as damaged: the next run writes it anew.
	StateFormat = "lifeboat.state/1"
)

// ImageState is the rescue image that this host made last.
type ImageState struct {
	Format   string             `json:"format"`
	Made     time.Time          `json:"made"`     // when it was whole
	By       string             `json:"by"`       // lifeboat version
	Settings string             `json:"settings"` // SettingsDigest of what it was made with
	Asked    Asked              `json:"asked"`
	BuildID  string             `json:"build_id"`
	Media    []Medium           `json:"media"`
	Reason   string             `json:"reason,omitempty"` // why it offers the menu only
	Manifest *manifest.Manifest `json:"manifest"`
}

// Asked are the flags that an image was made with, which no settings file
// holds: they belong to the image, and are no change of the settings.
type Asked struct {
	Kernel    string   `json:"kernel,omitempty"`
	Modules   string   `json:"modules,omitempty"`
	OutputDir string   `json:"output_dir,omitempty"`
	Output    []string `json:"output,omitempty"`
}

// Over puts the flags over settings.
func (a Asked) Over(c *config.Config) *config.Config {
	out := *c
	if a.Modules != "" {
		out.Modules = a.Modules
	}
	if a.OutputDir != "" {
		out.OutputDir = a.OutputDir
	}
	if a.Output != nil {
		out.Output = a.Output
	}
	return &out
}

// BackupState is the backup that this host made last.
type BackupState struct {
	Format   string             `json:"format"`
	Made     time.Time          `json:"made"` // when it was whole
	By       string             `json:"by"`
	Method   string             `json:"method"`
	Name     string             `json:"name"` // path or URL, without a password
	UUID     string             `json:"uuid"` // of the archive
	Bytes    int64              `json:"bytes"`
	Unread   []string           `json:"unread,omitempty"` // files that are missing from it, the first ones
	Manifest *manifest.Manifest `json:"manifest"`
}

// Save writes the state into dir, which is made if need be.
func (s *ImageState) Save(dir string) error {
	s.Format = StateFormat
	return saveState(dir, imageFile, s)
}

// Save writes the state into dir, which is made if need be.
func (s *BackupState) Save(dir string) error {
	s.Format = StateFormat
	return saveState(dir, backupFile, s)
}

func saveState(dir, name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	var root *sysroot.Root
	if err == nil {
		root, err = sysroot.Open(dir)
	}
	if err == nil {
		defer root.Close()
		err = root.WriteFile(name, append(data, '\n'), 0o600)
	}
	if err != nil {
		return report.Errorf(report.CodeFailed, "make room and run it again: without this note `lifeboat check` tells of the one before",
			"what was made is written, but not noted in %s: %w", filepath.Join(dir, name), err)
	}
	return nil
}

// LoadImage reads the state of the image from dir; nil when none was noted.
func LoadImage(dir string) (*ImageState, error) {
	s := new(ImageState)
	ok, err := loadState(filepath.Join(dir, imageFile), s, func() (string, *manifest.Manifest) { return s.Format, s.Manifest })
	if !ok {
		return nil, err
	}
	return s, nil
}

// LoadBackup reads the state of the backup from dir; nil when none was noted.
func LoadBackup(dir string) (*BackupState, error) {
	s := new(BackupState)
	ok, err := loadState(filepath.Join(dir, backupFile), s, func() (string, *manifest.Manifest) { return s.Format, s.Manifest })
	if !ok {
		return nil, err
	}
	return s, nil
}

func loadState(path string, v any, parts func() (string, *manifest.Manifest)) (bool, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read what was made last: %w", err)
	}
	err = json.Unmarshal(data, v)
	if err == nil {
		format, m := parts()
		switch {
		case format != StateFormat:
			err = fmt.Errorf("its format is %q, not %s", format, StateFormat)
		case m == nil:
			err = errors.New("it holds no manifest")
		default:
			err = m.Validate()
		}
	}
	if err != nil {
		return false, report.Errorf(report.CodeFailed, "run `lifeboat mkbackup`, which writes it anew", "%s, where this host notes what it made, cannot be read: %w", path, err)
	}
	return true, nil
}

// SettingsDigest tells settings apart that give another image. Of the files
// that they name, time and size count, not the content: some are secrets.
func SettingsDigest(c *config.Config, kernel string) string {
	s := *c
	s.Check, s.Sources = config.Check{}, nil
	doc := struct {
		Settings config.Config
		Kernel   string
		Files    []string
	}{s, kernel, nil}
	for _, p := range slices.Concat(c.Copy, []string{c.Backup.TokenFile, c.Backup.CAFile, c.Recover.Mapping, c.SSH.AuthorizedKeys, c.Server.TokenFile}) {
		if st, err := os.Stat(p); err == nil && filepath.IsAbs(p) {
			doc.Files = append(doc.Files, fmt.Sprintf("%s %d %d", p, st.Size(), st.ModTime().UnixNano()))
		}
	}
	data, err := json.Marshal(doc)
	if err != nil {
		return "" // cannot happen: plain data
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Stale says in words why the image would have to be made again for this host,
// which is m now, with these settings; empty when it need not.
func (s *ImageState) Stale(now time.Time, m *manifest.Manifest, settings, version string, maxAge time.Duration) []string {
	if s == nil {
		return []string{"no rescue image was made yet"}
	}
	var why []string
	if len(s.Media) == 0 {
		why = append(why, "the last run wrote no rescue image")
	}
	for _, x := range s.Media {
		if err := x.There(); err != nil {
			why = append(why, err.Error())
		}
	}
	if settings != s.Settings {
		why = append(why, "the settings changed")
	}
	if version != s.By {
		why = append(why, fmt.Sprintf("it was made by lifeboat %s, this is %s", s.By, version))
	}
	if age := now.Sub(s.Made); maxAge > 0 && age > maxAge || age < 0 {
		why = append(why, "it is of "+s.Made.Format(time.DateOnly))
	}
	return append(why, manifest.Differences(s.Manifest, m)...)
}

// OnStick tells that a medium is no file of this host: its path says which
// host on which stick.
func (m Medium) OnStick() bool { return !strings.HasPrefix(m.Path, "/") }

// There makes sure that the file is there and whole by its size. What lies on
// a stick is not looked for.
func (m Medium) There() error {
	if m.OnStick() {
		return nil
	}
	st, err := os.Stat(m.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the rescue image %s is gone", m.Path)
	case err != nil:
		return fmt.Errorf("look for the rescue image: %w", err)
	case st.IsDir(): // a tree for network boot
	case !st.Mode().IsRegular() || st.Size() != m.Bytes:
		return fmt.Errorf("the rescue image %s has %d bytes instead of %d", m.Path, st.Size(), m.Bytes)
	}
	return nil
}
