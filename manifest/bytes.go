package manifest

import (
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bytes is a path or name as the kernel has it: any bytes but NUL. Its text
// form keeps readable UTF-8 and writes everything else, control characters
// and the backslash as \xHH, so that it survives JSON unchanged.
type Bytes string

// MarshalText writes the escaped form.
func (b Bytes) MarshalText() ([]byte, error) {
	var o strings.Builder
	for s := string(b); len(s) > 0; {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 || r == '\\' || !unicode.IsPrint(r) {
			for i := range n {
				fmt.Fprintf(&o, `\x%02x`, s[i])
			}
		} else {
			o.WriteString(s[:n])
		}
		s = s[n:]
	}
	return []byte(o.String()), nil
}

// UnmarshalText reads the escaped form; a backslash that begins no \xHH is an
// error.
func (b *Bytes) UnmarshalText(t []byte) error {
	var o strings.Builder
	s := string(t)
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 {
			o.WriteString(s)
			*b = Bytes(o.String())
			return nil
		}
		o.WriteString(s[:i])
		if len(s) < i+4 || s[i+1] != 'x' {
			return fmt.Errorf("%q: a backslash must begin \\xHH", t)
		}
		v, err := hex.DecodeString(s[i+2 : i+4])
		if err != nil {
			return fmt.Errorf("%q: %q is no \\xHH escape", t, s[i:i+4])
		}
		o.Write(v)
		s = s[i+4:]
	}
}

// String is the escaped form, safe to print.
func (b Bytes) String() string {
	t, _ := b.MarshalText()
	return string(t)
}
