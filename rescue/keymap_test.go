package rescue

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestApplyKeymap(t *testing.T) {
	data, err := os.ReadFile("../internal/tools/loadkeys/testdata/de.bkeymap")
	if err != nil {
		t.Fatal(err)
	}
	dev := t.TempDir()
	if err := applyKeymap(data, dev); !errors.Is(err, errNoScreen) {
		t.Errorf("without a screen: %v", err)
	}
	if err := applyKeymap(data[:100], dev); err == nil || errors.Is(err, errNoScreen) {
		t.Errorf("a damaged map: %v", err)
	}
	// What is no terminal takes no keys.
	if err := os.WriteFile(filepath.Join(dev, "tty0"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := applyKeymap(data, dev); err == nil || errors.Is(err, errNoScreen) {
		t.Errorf("no terminal: %v", err)
	}
}
