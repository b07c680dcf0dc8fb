package inguest

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func ioctlRange(fd int, request uintptr, r *[2]uint64) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(r))); e != 0 {
		return e
	}
	return nil
}
