// Package kernel runs compiled tests and PID 1 itself inside QEMU, under our
// own init, with blank disks that may be broken at will. Tests only; run by
// make test-kernel.
//
// A package takes part by having files *_kernel_test.go with the build tag
// kernel. Its tests get their disks from inguest.Disks. Tests whose names end
// in _Boot1, _Boot2 ... run in that order with a reset of the machine before
// each number; those without such an ending run in the first boot, before them.
package kernel
