package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"lifeboat/report"
)

// Encode writes the canonical JSON form: two-space indent, final newline, the
// same bytes for the same value.
func (m *Manifest) Encode() ([]byte, error) { return encode(m) }

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return b.Bytes(), nil
}

// Decode reads a manifest of this or an earlier version and validates it. A
// newer version, or an unknown field, is an error that names the version
// needed.
func Decode(data []byte) (*Manifest, error) {
	var head struct {
		Format string `json:"format"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, report.Errorf(report.CodeManifest, "take it from the medium or the backup again", "the manifest is no JSON document: %w", err)
	}
	version, err := versionOf(head.Format)
	if err != nil {
		return nil, err
	}
	if data, err = upgrade(version, data); err != nil {
		return nil, err
	}
	m := new(Manifest)
	if err := strict(data, m); err != nil {
		return nil, report.Errorf(report.CodeManifest, "use the lifeboat that wrote it ("+head.Format+")", "the manifest does not fit its format: %w", err)
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return m, nil
}

// DecodeMachine reads a machine description as `lifeboat diagnose --machine`
// writes it.
func DecodeMachine(data []byte) (*Machine, error) {
	m := new(Machine)
	if err := strict(data, m); err != nil {
		return nil, report.Errorf(report.CodeManifest, "write it again with this version", "the machine description does not fit: %w", err)
	}
	return m, nil
}

func versionOf(format string) (int, error) {
	name, num, ok := strings.Cut(format, "/")
	v, err := strconv.Atoi(num)
	if !ok || name != FormatName || err != nil || v < 1 {
		return 0, report.Errorf(report.CodeManifest, "check that the file is a Lifeboat manifest", "format is %q, not %s/N", format, FormatName)
	}
	if v > FormatVersion {
		return 0, report.Errorf(report.CodeManifestNewer, "use a lifeboat that knows "+format,
			"the manifest is %s; this lifeboat reads up to version %d", format, FormatVersion)
	}
	return v, nil
}

// upgrades turn version N+1's input into N+2's; index 0 upgrades version 1.
var upgrades []func([]byte) ([]byte, error)

func upgrade(version int, data []byte) ([]byte, error) {
	var err error
	for v := version; v < FormatVersion; v++ {
		if data, err = upgrades[v-1](data); err != nil {
			return nil, report.Errorf(report.CodeManifest, "", "upgrade the manifest from version %d: %w", v, err)
		}
	}
	return data, nil
}

func strict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("data follows the document")
	}
	return nil
}

// Fingerprint digests intent only: what would be rebuilt. Nothing that merely
// was observed counts, so that it is equal on two days of an unchanged host.
func (m *Manifest) Fingerprint() string {
	data, err := encode(m.intent())
	if err != nil {
		return "" // cannot happen: plain data
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// intent is the part of a manifest that says what would be rebuilt.
type intent struct {
	Host    Host
	Storage Storage
	Boot    Boot
	System  System
	Files   []File
	Dirs    []Dir
}

func (m *Manifest) intent() intent {
	in := intent{m.Host, m.Storage.intent(m.ownDisks()), m.Boot, m.System, m.Network.Files, m.Dirs}
	// How the machine was started this time is no intent, nor is what its
	// firmware found to start from besides: sticks and network cards come and go.
	in.System.Cmdline, in.Boot.Order, in.Boot.Entries = "", nil, nil
	for _, e := range m.Boot.Entries {
		if e.PartUUID != "" && m.Storage.hasPartition(e.PartUUID) {
			in.Boot.Entries = append(in.Boot.Entries, e)
		}
	}
	return in
}

func (s *Storage) hasPartition(uuid string) bool {
	return slices.ContainsFunc(s.Nodes, func(n Node) bool { return n.Partition != nil && strings.EqualFold(n.Partition.UUID, uuid) })
}

// ownDisks are the disks that a recovery would need: those under what the
// backup holds and under what starts the host. A disk that is merely plugged
// in is none of them.
func (m *Manifest) ownDisks() map[ID]bool {
	needs := append([]ID{m.Boot.RootFS, m.Boot.BootFS}, slices.Concat(m.Boot.ESPs, m.Boot.BIOSBoot, m.Boot.MBRCode)...)
	for _, mt := range m.Storage.Mounts {
		if mt.Backup != ScopeExclude {
			needs = append(needs, mt.Node)
		}
	}
	own := map[ID]bool{}
	for _, id := range needs {
		for _, d := range m.Storage.Disks(id) {
			own[d.ID] = true
		}
	}
	return own
}

// OwnDisks are the disks that a recovery would need, in the graph's order.
// Others, such as the stick that a backup was just written to, were merely
// plugged in.
func (m *Manifest) OwnDisks() []*Node {
	own := m.ownDisks()
	return slices.DeleteFunc(m.Storage.OfKind(KindDisk), func(n *Node) bool { return !own[n.ID] })
}

// intent leaves out what lies on foreign disks only, and in the rest what was
// merely observed.
func (s Storage) intent(own map[ID]bool) Storage {
	out := Storage{Mounts: slices.Clone(s.Mounts)}
	for _, n := range s.Nodes {
		below := s.Disks(n.ID)
		if len(below) > 0 && !slices.ContainsFunc(below, func(d *Node) bool { return own[d.ID] }) {
			continue
		}
		out.Nodes = append(out.Nodes, n.intent())
	}
	for i := range out.Mounts {
		out.Mounts[i].Live = false
	}
	return out
}

func (n Node) intent() Node {
	n.Seen = Seen{}
	if n.VG != nil { // LVM writes the date into its text; what is free follows from the volumes
		vg := *n.VG
		vg.Backup, vg.Free, n.VG = "", 0, &vg
	}
	if n.FS != nil && n.FS.Ext != nil && n.FS.Ext.LastMounted != "" {
		fs, ext := *n.FS, *n.FS.Ext
		ext.LastMounted, fs.Ext, n.FS = "", &ext, &fs
	}
	if n.Unknown != nil { // its reason names the device as it is called today
		n.Unknown = &Unknown{What: n.Unknown.What}
	}
	return n
}
