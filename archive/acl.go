package archive

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// The kernel hands POSIX ACLs out as extended attributes in a binary form; tar wants
// them as text, which also says what they mean to a person.
const (
	xattrACL        = "system.posix_acl_access"
	xattrDefaultACL = "system.posix_acl_default"
	aclVersion      = 2
	aclEntry        = 8
)

// aclTags are the entry kinds with their names in the text form.
var aclTags = []struct {
	tag   uint16
	name  string
	named bool // has a user or group id
}{
	{0x01, "user", false}, {0x02, "user", true}, {0x04, "group", false},
	{0x08, "group", true}, {0x10, "mask", false}, {0x20, "other", false},
}

// aclText turns the kernel's form into "user::rwx,user:1000:r-x,...": numeric ids,
// never names, which mean something else on the machine that restores.
func aclText(b []byte) (string, error) {
	if len(b) < 4 || binary.LittleEndian.Uint32(b) != aclVersion || (len(b)-4)%aclEntry != 0 {
		return "", fmt.Errorf("an ACL of an unknown form (%d bytes)", len(b))
	}
	var parts []string
	for b = b[4:]; len(b) > 0; b = b[aclEntry:] {
		tag := binary.LittleEndian.Uint16(b)
		perm := binary.LittleEndian.Uint16(b[2:])
		text := ""
		for _, t := range aclTags {
			if t.tag == tag && perm <= 7 {
				id := ""
				if t.named {
					id = strconv.FormatUint(uint64(binary.LittleEndian.Uint32(b[4:])), 10)
				}
				text = t.name + ":" + id + ":" + permText(perm)
			}
		}
		if text == "" {
			return "", fmt.Errorf("an ACL with an unknown entry (tag %#x, permissions %#o)", tag, perm)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ","), nil
}

// aclBinary is the reverse of aclText.
func aclBinary(text string) ([]byte, error) {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for part := range strings.SplitSeq(text, ",") {
		f := strings.Split(part, ":")
		if len(f) != 3 || len(f[2]) != 3 {
			return nil, fmt.Errorf("the ACL entry %q is not NAME:ID:rwx", part)
		}
		perm := uint16(0)
		for i, c := range "rwx" {
			switch f[2][i] {
			case byte(c):
				perm |= 4 >> i
			case '-':
			default:
				return nil, fmt.Errorf("the ACL entry %q has strange permissions", part)
			}
		}
		id, tag := uint64(0xFFFFFFFF), uint16(0) // the kernel's "no id"
		for _, t := range aclTags {
			if t.name == f[0] && t.named == (f[1] != "") {
				tag = t.tag
			}
		}
		if f[1] != "" {
			var err error
			if id, err = strconv.ParseUint(f[1], 10, 32); err != nil {
				return nil, fmt.Errorf("the ACL entry %q has no numeric id", part)
			}
		}
		if tag == 0 {
			return nil, fmt.Errorf("the ACL entry %q is of an unknown kind", part)
		}
		b = binary.LittleEndian.AppendUint16(b, tag)
		b = binary.LittleEndian.AppendUint16(b, perm)
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	return b, nil
}

func permText(perm uint16) string {
	t := []byte("rwx")
	for i := range t {
		if perm&(4>>i) == 0 {
			t[i] = '-'
		}
	}
	return string(t)
}
