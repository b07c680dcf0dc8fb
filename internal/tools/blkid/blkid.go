// Package blkid tells what lies on a block device, by the low-level probing
// of blkid and wipefs; nothing is taken from a cache or from udev.
// Level 2: one external tool each: Read(dev) → manifest struct, Make(dev,
// struct); machine-readable output, typed errors; no other tool, no policy.
package blkid

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"lifeboat/internal/run"
	"lifeboat/manifest"
)

// ErrNone: nothing recognisable lies on the device.
var ErrNone = errors.New("no signature")

// ErrAmbivalent: more than one thing lies there, and which one counts is
// doubt.
var ErrAmbivalent = errors.New("signatures contradict each other")

// Found is what blkid recognises. A device may hold a partition table and,
// beside it, something else (a hybrid ISO image).
type Found struct {
	Type    string // ext4, LVM2_member, crypto_LUKS, swap …; "" when only a table
	UUID    string
	SubUUID string // of this member: RAID, btrfs
	Label   string
	Usage   string // filesystem, raid, crypto, other
	Version string
	Table   string // gpt, dos …
	TableID string
}

// limit is how long a probe may take: a dying disk answers after minutes.
const limit = 60 * time.Second

// codes of blkid(8): nothing found, or an ambivalent result.
const (
	codeNone       = 2
	codeAmbivalent = 8
)

// Probe recognises what lies on dev. Source: blkid -p -o export.
func Probe(ctx context.Context, r run.Runner, dev string) (*Found, error) {
	// blkid has one status for "nothing there" and "cannot be read".
	if err := readable(dev); err != nil {
		return nil, fmt.Errorf("read %s: %w", dev, err)
	}
	res, err := r.Run(ctx, run.Cmd{Path: "blkid", Args: []string{"-p", "-o", "export", dev}, OK: []int{0, codeNone, codeAmbivalent}, Limit: limit})
	if err != nil {
		return nil, fmt.Errorf("read the signatures of %s: %w", dev, err)
	}
	switch res.Code {
	case codeNone:
		return nil, fmt.Errorf("read %s: %w", dev, ErrNone)
	case codeAmbivalent:
		return nil, fmt.Errorf("read %s: %w", dev, ErrAmbivalent)
	}
	f := parseExport(string(res.Stdout))
	if f.Type == "" && f.Table == "" {
		// A partition without contents: blkid tells of its table entry only.
		return nil, fmt.Errorf("read %s: %w", dev, ErrNone)
	}
	return f, nil
}

func readable(dev string) error {
	f, err := os.Open(dev)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Read(make([]byte, 512)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func parseExport(text string) *Found {
	f := &Found{}
	fields := map[string]*string{
		"TYPE": &f.Type, "UUID": &f.UUID, "UUID_SUB": &f.SubUUID, "LABEL": &f.Label, "USAGE": &f.Usage,
		"VERSION": &f.Version, "PTTYPE": &f.Table, "PTUUID": &f.TableID,
	}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if p := fields[key]; ok && p != nil {
			*p = unescape(value)
		}
	}
	return f
}

// unescape undoes what blkid does for shells: backslashes before special
// characters, and \xHH.
func unescape(s string) string {
	var o strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			o.WriteByte(s[i])
			continue
		}
		if s[i+1] == 'x' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				o.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		i++
		o.WriteByte(s[i])
	}
	return o.String()
}

// Signatures lists every signature on the devices with its place, also those
// that hide behind each other, by the names of the devices as given. None is
// no error. What could not be read is in the second map. Source: wipefs
// without acting, one call for all devices; when that fails, one for each, to
// know which.
func Signatures(ctx context.Context, r run.Runner, devs []string) (map[string][]manifest.Signature, map[string]error) {
	found, failed := map[string][]manifest.Signature{}, map[string]error{}
	byBase := map[string]string{} // wipefs names devices without their folder
	var ask []string
	for _, d := range devs {
		if err := readable(d); err != nil {
			failed[d] = fmt.Errorf("read %s: %w", d, err)
			continue
		}
		if other, twice := byBase[filepath.Base(d)]; twice {
			failed[d] = fmt.Errorf("list the signatures of %s: %s has the same name", d, other)
			continue
		}
		byBase[filepath.Base(d)] = d
		ask = append(ask, d)
	}
	if len(ask) == 0 {
		return found, failed
	}
	all, err := signatures(ctx, r, ask)
	if err != nil && len(ask) > 1 {
		for _, d := range ask {
			one, err := signatures(ctx, r, []string{d})
			if err != nil {
				failed[d] = err
			}
			all = append(all, one...)
		}
	} else if err != nil {
		failed[ask[0]] = err
	}
	for _, s := range all {
		if d, ok := byBase[s.Device]; ok {
			found[d] = append(found[d], s)
		}
	}
	return found, failed
}

func signatures(ctx context.Context, r run.Runner, devs []string) ([]manifest.Signature, error) {
	what := strings.Join(devs, " ")
	res, err := r.Run(ctx, run.Cmd{Path: "wipefs", Args: append([]string{"--no-act", "--json"}, devs...), Limit: limit})
	if err != nil {
		return nil, fmt.Errorf("list the signatures of %s: %w", what, err)
	}
	sig, err := parseWipefs(res.Stdout)
	if err != nil {
		return nil, fmt.Errorf("list the signatures of %s: %w", what, err)
	}
	return sig, nil
}

func parseWipefs(data []byte) ([]manifest.Signature, error) {
	if len(strings.TrimSpace(string(data))) == 0 {
		return nil, nil // some versions print nothing for an empty device
	}
	var doc struct {
		Signatures []struct {
			Device string  `json:"device"`
			Offset string  `json:"offset"`
			Type   string  `json:"type"`
			UUID   *string `json:"uuid"`
			Label  *string `json:"label"`
		} `json:"signatures"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("wipefs's answer is no JSON: %w", err)
	}
	var out []manifest.Signature
	for _, s := range doc.Signatures {
		off, err := strconv.ParseInt(s.Offset, 0, 64)
		if err != nil || off < 0 || s.Type == "" {
			return nil, fmt.Errorf("wipefs names a signature %q at %q", s.Type, s.Offset)
		}
		g := manifest.Signature{Device: s.Device, Type: s.Type, Offset: off}
		if s.UUID != nil {
			g.UUID = *s.UUID
		}
		if s.Label != nil {
			g.Label = *s.Label
		}
		out = append(out, g)
	}
	return out, nil
}
