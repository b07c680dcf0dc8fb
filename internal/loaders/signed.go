package loaders

import (
	"bytes"
	"debug/pe"
	"fmt"
	"io"
	"os"
)

// Signed tells whether the EFI program at path, a kernel or a loader, carries
// a signature. Whose it is only firmware and shim can judge.
func Signed(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("look for a signature: %w", err)
	}
	defer f.Close()
	ok, err := signed(f)
	if err != nil {
		return false, fmt.Errorf("look for a signature in %s: %w", path, err)
	}
	return ok, nil
}

func signed(r io.ReaderAt) (bool, error) {
	var magic [2]byte
	if _, err := r.ReadAt(magic[:], 0); err != nil {
		return false, fmt.Errorf("read the first bytes: %w", err)
	}
	// A kernel without the EFI stub is no PE file, and so not signed either.
	if magic != [2]byte{'M', 'Z'} {
		return false, nil
	}
	f, err := pe.NewFile(r)
	if err != nil {
		return false, err
	}
	var dir pe.DataDirectory
	switch h := f.OptionalHeader.(type) {
	case *pe.OptionalHeader64:
		if h.NumberOfRvaAndSizes > pe.IMAGE_DIRECTORY_ENTRY_SECURITY {
			dir = h.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY]
		}
	case *pe.OptionalHeader32:
		if h.NumberOfRvaAndSizes > pe.IMAGE_DIRECTORY_ENTRY_SECURITY {
			dir = h.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY]
		}
	}
	return dir.VirtualAddress != 0 && dir.Size != 0, nil
}

// DiskPrefix is the folder on the ESP where the signed GRUB of role GrubDisk
// looks for grub.cfg: it is built in when the distribution signs it, and
// another folder means a prompt instead of a menu.
func (s Set) DiskPrefix() (string, error) {
	b, err := s.Read(GrubDisk)
	if err != nil {
		return "", err
	}
	return diskPrefix(b)
}

func diskPrefix(b []byte) (string, error) {
	for _, p := range []string{"/EFI/debian", "/EFI/ubuntu", "/EFI/fedora", "/EFI/redhat", "/EFI/centos", "/EFI/rocky", "/EFI/almalinux"} {
		// GRUB keeps its prefix as a string that ends with a zero byte.
		if bytes.Contains(b, append([]byte(p), 0)) {
			return p, nil
		}
	}
	return "", fmt.Errorf("the signed GRUB holds no known prefix such as /EFI/debian")
}
