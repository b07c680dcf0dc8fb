package early

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"lifeboat/internal/handoff"
)

// FaultsPath holds what was wrong with the order or the kernel command line, a
// line each; the worker shows it. It does not exist when all was well.
const FaultsPath = handoff.FaultsPath

// Order is the image's order with the kernel command line applied, and what
// was wrong with either. An image without a readable order offers the menu.
func Order(image []byte, imageErr error, cmdline string) (handoff.Order, []error) {
	safe := handoff.Order{Recover: handoff.Menu, Then: handoff.Stay}
	var faults []error
	o := safe
	if imageErr == nil {
		var err error
		if o, err = handoff.Decode(image); err != nil {
			o = safe
			faults = append(faults, fmt.Errorf("%s: %w; only the menu is offered", handoff.OrderInImage, err))
		}
	} else if !errors.Is(imageErr, os.ErrNotExist) {
		faults = append(faults, fmt.Errorf("reading the order of the image: %w; only the menu is offered", imageErr))
	}
	broken := len(faults) > 0
	faults = append(faults, o.Apply(cmdline)...)
	if broken {
		// What the image was meant to do is unknown, so nothing goes by itself.
		o.Recover = handoff.Menu
	}
	return o, faults
}

// WriteOrder reads the order of this boot and writes it where worker and
// consoles find it.
func WriteOrder(log Log, cmdline string) handoff.Order {
	image, err := os.ReadFile(handoff.OrderInImage)
	o, faults := Order(image, err, cmdline)
	if err := os.WriteFile(handoff.OrderPath, o.Encode(), 0o600); err != nil {
		log("writing the order: %v", err)
	}
	var text strings.Builder
	for _, f := range faults {
		log("%v", f)
		fmt.Fprintln(&text, f)
	}
	if len(faults) > 0 {
		if err := os.WriteFile(FaultsPath, []byte(text.String()), 0o600); err != nil {
			log("writing the order's faults: %v", err)
		}
	}
	return o
}
