package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// Claim is written onto a target disk before anything on it is erased, and
// taken away when the recovery is done. By it a recovery that was cut off
// finds its own disk again, even one without a serial, with nobody typing.
type Claim struct {
	Order    string `json:"order"`            // id of the order that is carried out
	PlanID   string `json:"plan_id"`          // of the plan that was being carried out
	Manifest string `json:"manifest"`         // digest of the manifest, see Digest
	Node     ID     `json:"node"`             // captured disk whose place this disk takes
	Host     string `json:"host"`             // for people
	WWN      string `json:"wwn,omitempty"`    // of the disk itself: a copy on another disk is no claim
	Serial   string `json:"serial,omitempty"` // same
	Bytes    int64  `json:"bytes"`            // size of the disk, same
	Time     string `json:"time"`             // RFC 3339, of the first write, for people
	// Attempt counts how often writing was begun for this order, over all
	// boots: 1 for the first. Claims of versions that did not count have none.
	Attempt int `json:"attempt,omitempty"`
}

// ClaimSize is the size of the record on the disk, bytes. It is written and
// read as one aligned block.
const ClaimSize = 4096

// claimMagic begins the record; the number is its version.
const claimMagic = "lifeboat.claim/1"

const claimHead = len(claimMagic) + 8 + sha256.Size

// ClaimPlaces are the byte offsets at which a claim may lie on a disk of a
// size, the preferred first: the end of the first MiB, which tables, LVM and
// GRUB's embedded image all leave alone when partitions begin at 1 MiB, and a
// block shortly before the backup partition table.
func ClaimPlaces(size int64) []int64 {
	var out []int64
	for _, off := range []int64{1<<20 - ClaimSize, size&^(ClaimSize-1) - 8*ClaimSize} {
		if off > 0 && off+ClaimSize <= size && (len(out) == 0 || off > out[0]) {
			out = append(out, off)
		}
	}
	return out
}

// Encode makes the record: magic (16 bytes, with the version), length of the
// JSON (u64 little endian), its SHA-256, the JSON, zeros up to ClaimSize.
func (c Claim) Encode() ([]byte, error) {
	doc, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode the claim: %w", err)
	}
	if claimHead+len(doc) > ClaimSize {
		return nil, fmt.Errorf("encode the claim: %d bytes are too long for its block of %d", len(doc), ClaimSize)
	}
	out := make([]byte, ClaimSize)
	n := copy(out, claimMagic)
	binary.LittleEndian.PutUint64(out[n:], uint64(len(doc)))
	sum := sha256.Sum256(doc)
	copy(out[n+8:], sum[:])
	copy(out[claimHead:], doc)
	return out, nil
}

// DecodeClaim reads a record. A block that is none, was torn or belongs to
// another version gives nil: it is no claim, and that is no error.
func DecodeClaim(block []byte) *Claim {
	if len(block) < claimHead || !bytes.HasPrefix(block, []byte(claimMagic)) {
		return nil
	}
	n := binary.LittleEndian.Uint64(block[len(claimMagic):])
	if n > uint64(len(block)-claimHead) {
		return nil
	}
	doc := block[claimHead : claimHead+int(n)]
	sum := sha256.Sum256(doc)
	if !bytes.Equal(sum[:], block[len(claimMagic)+8:claimHead]) {
		return nil
	}
	c := new(Claim)
	if err := strict(doc, c); err != nil || c.Order == "" || c.Node == "" {
		return nil
	}
	return c
}

// Attempts is how often writing was begun for an order as its newest claim
// tells: a claim without a number is the first.
func (c *Claim) Attempts() int { return max(c.Attempt, 1) }

// Digest of the whole manifest, as a claim and a plan's id hold it: hex
// SHA-256 of the canonical form.
func (m *Manifest) Digest() string {
	data, err := m.Encode()
	if err != nil {
		return "" // cannot happen: plain data
	}
	return fmt.Sprintf("%x", sha256.Sum256(data))
}
