package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"lifeboat/internal/run"
)

// Accel is how guest code is executed.
type Accel string

// The accelerators.
const (
	KVM Accel = "kvm"
	TCG Accel = "tcg" // emulation, one host thread for each CPU
)

// binary is the emulator's name. Only amd64 systems are protected so far.
const binary = "qemu-system-x86_64"

// errNoQEMU says what to install.
func errNoQEMU(err error) error {
	return fmt.Errorf("start a virtual machine: %s is not installed; install the package qemu-system-x86: %w", binary, err)
}

// probeSector is a boot sector that writes 0x2a to QEMU's debug-exit port:
// mov al,0x2a; out 0xf4,al; then it halts for ever. QEMU turns the value into
// the exit status 0x2a*2+1. Nothing but executed guest code gives that status.
var probeSector = []byte{0xb0, 0x2a, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd}

const (
	probeStatus = 0x2a*2 + 1
	// A healthy KVM needs a quarter of a second. Some virtualised hosts offer
	// a /dev/kvm that traps on every instruction and is far slower than
	// emulation; those end here too.
	probeLimit = 3 * time.Second
)

var probeOnce struct {
	sync.Mutex
	answer Accel
	why    error
}

// DefaultAccel is KVM where a guest really comes up under it, else TCG. The
// presence of /dev/kvm says little, so a tiny guest is started. The answer is
// kept until the host boots again. why tells what was wrong with KVM.
func DefaultAccel(ctx context.Context, r run.Runner) (a Accel, why error) {
	probeOnce.Lock()
	defer probeOnce.Unlock()
	if probeOnce.answer != "" {
		return probeOnce.answer, probeOnce.why
	}
	cache, boot := probeCache()
	if b, err := os.ReadFile(cache); err == nil && boot != "" {
		if old, rest, _ := strings.Cut(strings.TrimSpace(string(b)), "\n"); old == boot {
			got, text, _ := strings.Cut(rest, ": ")
			probeOnce.answer = Accel(got)
			if text != "" {
				probeOnce.why = errors.New(text)
			}
			if probeOnce.answer == KVM || probeOnce.answer == TCG {
				return probeOnce.answer, probeOnce.why
			}
		}
	}
	a, why = KVM, probeKVM(ctx, r)
	if ctx.Err() != nil || run.NotFound(why) {
		return TCG, why // nothing learnt that is worth keeping
	}
	line := string(KVM)
	if why != nil {
		a, line = TCG, string(TCG)+": "+strings.ReplaceAll(why.Error(), "\n", " ")
	}
	probeOnce.answer, probeOnce.why = a, why
	if cache != "" && boot != "" {
		// Only saves the next process some seconds; not being able to write is fine.
		if os.MkdirAll(filepath.Dir(cache), 0o700) == nil {
			_ = os.WriteFile(cache, []byte(boot+"\n"+line+"\n"), 0o600)
		}
	}
	return a, why
}

// probeCache names the file of the last answer and this boot of the host.
func probeCache() (file, boot string) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", ""
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", ""
	}
	return filepath.Join(dir, "lifeboat", "qemu-accel"), strings.TrimSpace(string(b))
}

// probeKVM starts the tiny guest with the options that real guests get.
func probeKVM(ctx context.Context, r run.Runner) error {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("KVM is not usable: %w", err)
	}
	f.Close()
	dir, err := os.MkdirTemp("", "lifeboat-kvm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	sector := make([]byte, 512)
	copy(sector, probeSector)
	sector[510], sector[511] = 0x55, 0xaa
	img := filepath.Join(dir, "probe.img")
	if err := os.WriteFile(img, sector, 0o600); err != nil {
		return err
	}
	_, err = r.Run(ctx, run.Cmd{
		Path: binary,
		Args: []string{"-accel", "kvm", "-cpu", "host", "-machine", "q35", "-nodefaults", "-no-user-config",
			"-display", "none", "-m", "64", "-no-reboot",
			"-device", "isa-debug-exit,iobase=0xf4,iosize=1",
			"-drive", "if=none,id=p,format=raw,readonly=on,file=" + comma(img),
			"-device", "virtio-blk-pci,drive=p,bootindex=0"},
		Limit: probeLimit,
		OK:    []int{probeStatus},
	})
	if err != nil {
		return fmt.Errorf("no guest comes up under KVM: %w", err)
	}
	return nil
}

// comma doubles commas, which separate options in QEMU's arguments.
func comma(s string) string { return strings.ReplaceAll(s, ",", ",,") }
