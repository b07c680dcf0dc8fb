package drill

import (
	"fmt"

	"lifeboat/images/iso"
	"lifeboat/manifest"
)

// openImage reads the manifest that lies on the image.
func (d *drill) openImage() error {
	img, err := iso.Open(d.o.Image)
	if err != nil {
		return err
	}
	defer img.Close()
	data, err := img.Manifest()
	if err != nil {
		return fmt.Errorf("read the manifest of %s: %w", d.o.Image, err)
	}
	d.m, err = manifest.Decode(data)
	return err
}
