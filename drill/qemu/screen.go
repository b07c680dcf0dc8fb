package qemu

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Screenshot writes what the screen shows as a PNG file.
func (v *VM) Screenshot(ctx context.Context, path string) error {
	b, err := v.screen(ctx)
	if err != nil {
		return fmt.Errorf("picture of %s: %w", v.cfg.name(), err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return fmt.Errorf("picture of %s: %w", v.cfg.name(), err)
	}
	return nil
}

// SettledScreenshot waits until the screen shows something and has stopped
// changing, but for a blinking cursor, and writes it as a PNG file.
func (v *VM) SettledScreenshot(ctx context.Context, path string) error {
	var last image.Image
	for {
		b, err := v.screen(ctx)
		if err != nil {
			return fmt.Errorf("picture of %s: %w", v.cfg.name(), err)
		}
		img, err := png.Decode(bytes.NewReader(b))
		if err != nil {
			return fmt.Errorf("picture of %s: %w", v.cfg.name(), err)
		}
		if last != nil && settled(last, img) {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				return fmt.Errorf("picture of %s: %w", v.cfg.name(), err)
			}
			return nil
		}
		last = img
		// Nothing tells when a guest draws: a screen must be looked at.
		if err := pause(ctx, betweenPictures); err != nil {
			return fmt.Errorf("picture of %s: the screen stays empty or does not come to rest: %w", v.cfg.name(), err)
		}
	}
}

const (
	betweenPictures = 500 * time.Millisecond
	// A text cursor changes fewer pixels than this, a line of text more.
	cursorPixels = 200
	// An empty screen with a cursor has fewer bright pixels, a menu more.
	filledPixels = 2000
)

// settled compares two pictures.
func settled(a, b image.Image) bool {
	if a.Bounds() != b.Bounds() {
		return false
	}
	changed, bright := 0, 0
	for y := a.Bounds().Min.Y; y < a.Bounds().Max.Y; y++ {
		for x := a.Bounds().Min.X; x < a.Bounds().Max.X; x++ {
			r, g, bl, _ := b.At(x, y).RGBA()
			if r+g+bl > 0x8000 {
				bright++
			}
			if r2, g2, b2, _ := a.At(x, y).RGBA(); r2 != r || g2 != g || b2 != bl {
				changed++
			}
		}
	}
	return changed < cursorPixels && bright >= filledPixels
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (v *VM) screen(ctx context.Context) ([]byte, error) {
	tmp := filepath.Join(v.dir, "screen")
	defer os.Remove(tmp)
	_, err := v.qmp.Execute(ctx, "screendump", props{"filename": tmp, "format": "png"})
	if err == nil {
		return os.ReadFile(tmp)
	}
	if !Refused(err) {
		return nil, err
	}
	// QEMU before 7.1, or one built without libpng, writes PPM only.
	if _, err2 := v.qmp.Execute(ctx, "screendump", props{"filename": tmp}); err2 != nil {
		return nil, errors.Join(err, err2)
	}
	b, err := os.ReadFile(tmp)
	if err != nil {
		return nil, err
	}
	img, err := decodePPM(b)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// decodePPM reads the binary form with 8 bits a colour, which QEMU writes.
func decodePPM(b []byte) (image.Image, error) {
	r := bufio.NewReader(bytes.NewReader(b))
	var magic string
	var w, h, depth int
	if _, err := fmt.Fscan(r, &magic, &w, &h, &depth); err != nil {
		return nil, fmt.Errorf("read a PPM picture: %w", err)
	}
	if magic != "P6" || depth != 255 || w < 1 || h < 1 || w > 1<<14 || h > 1<<14 {
		return nil, fmt.Errorf("read a PPM picture: header %s %d %d %d is not understood", magic, w, h, depth)
	}
	if _, err := r.ReadByte(); err != nil { // exactly one white space
		return nil, fmt.Errorf("read a PPM picture: %w", err)
	}
	if len(b) < 3*w*h {
		return nil, fmt.Errorf("read a PPM picture: cut short: %w", io.ErrUnexpectedEOF)
	}
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	row := make([]byte, 3*w)
	for y := range h {
		if _, err := io.ReadFull(r, row); err != nil {
			return nil, fmt.Errorf("read a PPM picture: %w", err)
		}
		for x := range w {
			img.SetRGBA(x, y, color.RGBA{row[3*x], row[3*x+1], row[3*x+2], 255})
		}
	}
	return img, nil
}

// SendKeys presses keys together, such as "ctrl", "alt", "f2": QEMU's names.
func (v *VM) SendKeys(ctx context.Context, keys ...string) error {
	list := make([]props, len(keys))
	for i, k := range keys {
		list[i] = props{"type": "qcode", "data": k}
	}
	if _, err := v.qmp.Execute(ctx, "send-key", props{"keys": list, "hold-time": holdTime.Milliseconds()}); err != nil {
		return fmt.Errorf("press %s: %w", strings.Join(keys, "+"), err)
	}
	return nil
}

const (
	holdTime = 40 * time.Millisecond
	// A finger leaves the key before the next one: firmware loses keys that
	// overlap.
	betweenKeys = 80 * time.Millisecond
)

// Type types text on a US keyboard; "\n" is the enter key.
func (v *VM) Type(ctx context.Context, text string) error {
	for _, r := range text {
		keys, err := keysFor(r)
		if err != nil {
			return err
		}
		if err := v.SendKeys(ctx, keys...); err != nil {
			return err
		}
		// This is the rhythm of typing, not a wait for something.
		if err := pause(ctx, betweenKeys); err != nil {
			return err
		}
	}
	return nil
}

var plainKeys = map[rune]string{
	'\n': "ret", '\t': "tab", ' ': "spc", '\b': "backspace", 0x1b: "esc",
	'-': "minus", '=': "equal", '[': "bracket_left", ']': "bracket_right", '\\': "backslash",
	';': "semicolon", '\'': "apostrophe", '`': "grave_accent", ',': "comma", '.': "dot", '/': "slash",
}

var shiftKeys = map[rune]string{
	'!': "1", '@': "2", '#': "3", '$': "4", '%': "5", '^': "6", '&': "7", '*': "8", '(': "9", ')': "0",
	'_': "minus", '+': "equal", '{': "bracket_left", '}': "bracket_right", '|': "backslash",
	':': "semicolon", '"': "apostrophe", '~': "grave_accent", '<': "comma", '>': "dot", '?': "slash",
}

// keysFor are the keys that give r on a US keyboard.
func keysFor(r rune) ([]string, error) {
	switch {
	case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
		return []string{string(r)}, nil
	case r >= 'A' && r <= 'Z':
		return []string{"shift", string(r + 'a' - 'A')}, nil
	case plainKeys[r] != "":
		return []string{plainKeys[r]}, nil
	case shiftKeys[r] != "":
		return []string{"shift", shiftKeys[r]}, nil
	}
	return nil, fmt.Errorf("type %q: no such key on a US keyboard", r)
}
