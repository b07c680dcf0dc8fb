// Package machines proves whole boots and recoveries in QEMU: real media,
// real Debian systems. Tests only; run by make test-machines.
package machines
