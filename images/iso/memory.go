package iso

import (
	"bytes"
	"io/fs"
	"time"
)

// memory is a file in memory, in the shape that go-diskfs reads.
type memory struct{ *bytes.Reader }

func (m *memory) Stat() (fs.FileInfo, error) { return m, nil }
func (m *memory) Close() error               { return nil }
func (m *memory) Name() string               { return "image" }
func (m *memory) Mode() fs.FileMode          { return 0o400 }
func (m *memory) ModTime() time.Time         { return time.Time{} }
func (m *memory) IsDir() bool                { return false }
func (m *memory) Sys() any                   { return nil }
