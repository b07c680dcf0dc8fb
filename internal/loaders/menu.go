package loaders

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"lifeboat/internal/handoff"
)

// Entry is a line of the boot menu.
type Entry string

// The entries, in the order of the menu.
const (
	Local Entry = "local" // the machine's own disk
	Auto  Entry = "auto"  // recover without a question
	Steps Entry = "steps" // recover step by step
	Shell Entry = "shell" // rescue system only
)

// Menu is what a medium's boot menu is made from.
type Menu struct {
	BuildID  string // the medium is found again by the file IDFile(BuildID)
	Host     string
	Built    time.Time
	Kernel   string        // version
	Cmdline  string        // more kernel arguments
	Consoles []string      // values of the host's own console= arguments, in order
	Default  Entry         // "" is Local
	Timeout  time.Duration // until the default starts; below zero: never
	MenuOnly bool          // no automatic entry: something of this host would be lost
	// LocalLoaders are the host's own loaders on its ESP, such as
	// "/EFI/debian/shimx64.efi"; usual ones are tried after them.
	LocalLoaders []string
	Dir          string // where kernel and initramfs lie, when not at KernelPath and InitrdPath
}

// Where the kernel and its initramfs lie on a medium.
const (
	KernelPath = "/boot/vmlinuz"
	InitrdPath = "/boot/initrd.img"
)

// IDFile is a file that only the medium of that build has. GRUB can look for
// names, not for contents.
func IDFile(buildID string) string { return "/lifeboat/id-" + buildID }

// width is what a text console shows of an entry's title.
const width = 72

// Early is the configuration that a GRUB image runs before its menu: it finds
// the medium, whatever the firmware calls it.
func (m Menu) Early() string {
	return "search --no-floppy --file --set=root " + IDFile(m.BuildID) + "\nset prefix=($root)" + GrubCDPrefix + "\n"
}

// Stub is a grub.cfg for another filesystem than the medium's own, such as
// the EFI image: it finds the medium and goes on with the menu there.
func (m Menu) Stub() string { return m.Early() + "source $prefix/grub.cfg\n" }

// Check names a field that cannot be put into a menu.
func (m Menu) Check() error {
	if !regexp.MustCompile(`^[0-9A-Za-z-]{4,64}$`).MatchString(m.BuildID) {
		return fmt.Errorf("build id %q: use 4 to 64 letters, digits and dashes", m.BuildID)
	}
	for name, v := range map[string]string{"local loaders": strings.Join(m.LocalLoaders, " "), "host": m.Host, "kernel version": m.Kernel, "folder": m.Dir, "kernel arguments": m.Cmdline, "console": strings.Join(m.Consoles, " ")} {
		if i := strings.IndexFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
			return fmt.Errorf("boot menu: the %s %q holds a control character", name, v)
		}
	}
	switch m.Default {
	case "", Local, Auto, Steps, Shell:
	default:
		return fmt.Errorf("boot menu: there is no entry %q", m.Default)
	}
	if m.Default == Auto && m.MenuOnly {
		return fmt.Errorf("boot menu: the automatic entry cannot be the default when there is none")
	}
	return nil
}

// Config is the whole grub.cfg. It loads no modules: under Secure Boot they
// are refused, and all that it uses is inside the GRUB that reads it.
func (m Menu) Config() string {
	var b strings.Builder
	b.WriteString("# Written by lifeboat; build " + m.BuildID + "\n")
	m.head(&b)
	m.entries(&b)
	return b.String()
}

// head is all of a menu down to its first entry.
func (m Menu) head(b *strings.Builder) {
	b.WriteString("search --no-floppy --file --set=root " + IDFile(m.BuildID) + "\n")
	if unit, speed, ok := serial(m.Consoles); ok {
		// Firmware that owns the port, or a machine without it, refuses;
		// the screen must go on then.
		fmt.Fprintf(b, "if serial --unit=%s --speed=%s; then\n  terminal_input console serial\n  terminal_output console serial\nfi\n", unit, speed)
	}
	def, timeout := m.Default, int(m.Timeout/time.Second)
	if def == "" {
		def = Local
	}
	if m.Timeout < 0 {
		timeout = -1
	}
	fmt.Fprintf(b, "set default=%s\nset timeout=%d\nset timeout_style=menu\n\n", def, timeout)
	b.WriteString(m.doneAlready(def))
	b.WriteString("menuentry " + quote("Start this machine's local disk") + "\"$done\" --id local --hotkey l {\n" + m.local() + "}\n")
}

// entries are those of the rescue system.
func (m Menu) entries(b *strings.Builder) {
	if !m.MenuOnly {
		m.entry(b, Auto, "a", "Recover %s automatically", handoff.Auto)
	}
	m.entry(b, Steps, "s", "Recover %s step by step", handoff.Menu)
	m.entry(b, Shell, "h", "Shell, to look at %s or repair it", handoff.Menu)
}

// doneAlready makes the local disk the default of a medium that would recover
// by itself and whose order is carried out: left in the machine, it must not
// keep the system that it brought back from starting. Only a name is looked
// for; what this GRUB cannot read, the rescue system will look into.
func (m Menu) doneAlready(def Entry) string {
	o := handoff.Order{ID: m.BuildID}
	_ = o.Apply(m.Cmdline) // what is wrong with it is said when it boots
	mark := handoff.DoneFile(o.ID)
	if def != Auto || mark == "" {
		return "set done=\n"
	}
	return "if search --no-floppy --file --set=done " + mark + "; then\n  set default=" + string(Local) +
		"\n  set done=" + quote(" (recovered by this medium already)") + "\nelse\n  set done=\nfi\n"
}

// MediumMark is a file in a medium's EFI image that keeps Local from starting
// the medium again. Its folder is on every ESP, so that asking is no error.
const MediumMark = "/EFI/lifeboat.id"

// usualLoaders are what distributions install, and what firmware falls back to.
var usualLoaders = []string{
	"/EFI/debian/shimx64.efi", "/EFI/ubuntu/shimx64.efi", "/EFI/redhat/shimx64.efi", "/EFI/rocky/shimx64.efi",
	"/EFI/almalinux/shimx64.efi", "/EFI/centos/shimx64.efi", "/EFI/fedora/shimx64.efi", "/EFI/sles/shim.efi",
	"/EFI/opensuse/shim.efi", "/EFI/debian/grubx64.efi", "/EFI/ubuntu/grubx64.efi", "/EFI/systemd/systemd-bootx64.efi",
	"/EFI/Microsoft/Boot/bootmgfw.efi", "/EFI/BOOT/BOOTX64.EFI",
}

// localBody starts the installed system. In UEFI its loader is looked for:
// leaving GRUB would end in the setup of many firmwares, with nobody there. It
// is told the device of its files by root, not by the path that it came by. A
// BIOS only has numbers: the first disk that is not this medium, which must
// look like the first one to old boot code. A stick is hd0 when it holds an
// ISO image, and hd0,gpt3 by the layout of images/usb.
const localBody = `  if [ "$grub_platform" = efi ]; then
    for file in %s; do
      for esp in (hd*,*); do
        if [ -e $esp$file ]; then
          if [ ! -e $esp%s ]; then
            echo "Starting $esp$file ..."
            set root=$esp
            if chainloader $file; then
              boot
            fi
          fi
        fi
      done
    done
    exit
  elif [ "$root" = hd0 -o "$root" = hd0,gpt3 ]; then
    drivemap -s (hd0) (hd1)
    set root=hd1
    chainloader +1
    boot
  else
    set root=hd0
    chainloader +1
    boot
  fi
`

// local is the body of the first entry.
func (m Menu) local() string {
	var files []string
	for _, f := range append(slices.Clone(m.LocalLoaders), usualLoaders...) {
		if f = quote(f); !slices.Contains(files, f) {
			files = append(files, f)
		}
	}
	return fmt.Sprintf(localBody, strings.Join(files, " "), MediumMark)
}

func (m Menu) entry(b *strings.Builder, id Entry, key, title, mode string) {
	words := []string{"rootfstype=ramfs"}
	tty0 := false
	for _, c := range m.Consoles {
		tty0 = tty0 || c == "tty0"
	}
	if !tty0 {
		words = append(words, "console=tty0")
	}
	for _, c := range m.Consoles {
		words = append(words, "console="+c)
	}
	words = append(words, rawWords(m.Cmdline)...)
	words = append(words, "lifeboat.recover="+mode)
	for i, w := range words {
		words[i] = quote(w)
	}
	fmt.Fprintf(b, "menuentry %s --id %s --hotkey %s {\n", quote(m.title(title)), id, key)
	fmt.Fprintf(b, "  echo %s\n  linux %s %s\n", quote("Loading Linux "+m.Kernel+" ..."), quote(m.place(KernelPath)), strings.Join(words, " "))
	fmt.Fprintf(b, "  echo %s\n  initrd %s\n}\n", quote("Loading the rescue system of "+m.Host+", "+m.date()+" ..."), quote(m.place(InitrdPath)))
}

// place is where a file of this rescue system lies on the medium.
func (m Menu) place(standard string) string {
	if m.Dir == "" {
		return standard
	}
	return path.Join(m.Dir, path.Base(standard))
}

func (m Menu) date() string { return m.Built.UTC().Format("2006-01-02 15:04 UTC") }

// title is the longest form that fits on a line of the menu.
func (m Menu) title(format string) string {
	short, _, _ := strings.Cut(m.Host, ".")
	forms := []struct{ host, more string }{
		{m.Host, " (" + m.date() + ", Linux " + m.Kernel + ")"},
		{m.Host, " (" + m.date()[:10] + ", Linux " + m.Kernel + ")"},
		{short, " (" + m.date()[:10] + ", Linux " + m.Kernel + ")"},
		{m.Host, " (" + m.date()[:10] + ", " + m.Kernel + ")"},
		{short, " (" + m.date()[:10] + ", " + m.Kernel + ")"},
		{short, " (" + m.date()[:10] + ")"},
	}
	last := ""
	for _, f := range forms {
		last = fmt.Sprintf(format, f.host) + f.more
		if len([]rune(last)) <= width {
			break
		}
	}
	return last
}

// rawWords splits a kernel command line at blanks outside double quotes and
// keeps the quotes, which the kernel needs to see.
func rawWords(line string) []string {
	quoted := false
	return strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\t')
	})
}

// quote makes one word of GRUB's language that means exactly s.
func quote(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,@%+", r))
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

var serialConsole = regexp.MustCompile(`^ttyS([0-3])(?:,([0-9]+).*)?$`)

// serial finds the serial port that the menu shall appear on: the last one
// among the consoles, as the kernel's own choice of /dev/console.
func serial(consoles []string) (unit, speed string, ok bool) {
	for _, c := range consoles {
		if m := serialConsole.FindStringSubmatch(c); m != nil {
			unit, speed, ok = m[1], m[2], true
			if speed == "" {
				speed = "9600" // the kernel's default
			}
		}
	}
	return unit, speed, ok
}
