package fstab

// Disable turns the entry of a line (Entry.Line) into a comment that keeps it
// to be read, behind a line with the reason. Lines that are no entry stay.
func (f *File) Disable(number int, reason string) {
	i := number - 1
	if i < 0 || i >= len(f.lines) || f.lines[i].fields == nil {
		return
	}
	text := "# " + oneLine(reason) + "\n#" + f.lines[i].text
	f.lines[i] = line{text: text}
}

// oneLine keeps a reason within its comment.
func oneLine(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c == '\n' || c == '\r' {
			b[i] = ' '
		}
	}
	return string(b)
}

// SetSpec gives the entry of a line (Entry.Line) another device or tag. Lines
// that are no entry stay.
func (f *File) SetSpec(number int, spec string) {
	if i := number - 1; i >= 0 && i < len(f.lines) && f.lines[i].fields != nil {
		f.lines[i].put(0, Escape(spec))
	}
}
