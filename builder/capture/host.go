package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/manifest"
)

// text reads a file of the host; what is not there is "".
func (h *host) text(name string) string {
	b, err := h.root.ReadFile(name)
	if err != nil {
		return ""
	}
	return string(b)
}

func (h *host) line(name string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(h.text(name)), "\n")
	return strings.TrimSpace(first)
}

// identity reads who the host is and with what kernel it runs.
func (h *host) identity() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	h.m.Host = h.who(unix.ByteSliceToString(u.Nodename[:]))
	if h.m.Host.Name == "" {
		return errors.New("the host has no name: hostname prints nothing")
	}
	cmdline, err := os.ReadFile(h.proc("cmdline"))
	if err != nil {
		return fmt.Errorf("read the kernel command line: %w", err)
	}
	h.m.System = h.system(unix.ByteSliceToString(u.Release[:]), redactCmdline(strings.TrimSpace(string(cmdline))))
	return nil
}

// credentials are those of an iSCSI root (dracut.cmdline(7)): user:password@.
var credentials = regexp.MustCompile(`(iscsi:)[^@\s]+@`)

// redactCmdline takes secrets out of a kernel command line.
func redactCmdline(line string) string {
	words := strings.Split(line, " ")
	for i, w := range words {
		name, _, ok := strings.Cut(w, "=")
		if ok && (isSecret(name) || strings.HasSuffix(name, "ticket")) {
			words[i] = name + "=" + Taken
		}
	}
	return credentials.ReplaceAllString(strings.Join(words, " "), "$1"+Taken+"@")
}

func (h *host) proc(name string) string {
	if h.opt.System.Proc != "" {
		return path.Join(h.opt.System.Proc, name)
	}
	return path.Join("/proc", name)
}

func (h *host) sys(name string) string {
	if h.opt.System.Sys != "" {
		return path.Join(h.opt.System.Sys, name)
	}
	return path.Join("/sys", name)
}

func (h *host) who(name string) manifest.Host {
	os := shellVars(h.text("etc/os-release"))
	if len(os) == 0 {
		os = shellVars(h.text("usr/lib/os-release"))
	}
	w := manifest.Host{Name: name, MachineID: h.line("etc/machine-id"), OS: manifest.OSRelease{
		ID: os["ID"], IDLike: strings.Fields(os["ID_LIKE"]), Version: os["VERSION_ID"], Pretty: os["PRETTY_NAME"], Arch: arch,
	}}
	if w.Timezone = h.line("etc/timezone"); w.Timezone == "" {
		target, err := h.root.Readlink("etc/localtime")
		if _, zone, ok := strings.Cut(target, "zoneinfo/"); err == nil && ok {
			w.Timezone = zone
		}
	}
	w.Keymap = keymapOf(shellVars(h.text("etc/vconsole.conf")), shellVars(h.text("etc/default/keyboard")))
	w.Locale = shellVars(h.text("etc/default/locale"))["LANG"]
	if w.Locale == "" {
		w.Locale = shellVars(h.text("etc/locale.conf"))["LANG"]
	}
	return w
}

// keymapOf names the keyboard of the consoles: by the console's own word, else
// by the first layout of X11 and its variant, as in "de-nodeadkeys".
func keymapOf(console, keyboard map[string]string) string {
	if n := console["KEYMAP"]; n != "" && !strings.HasPrefix(n, "@") { // "@kernel" asks for no map
		return n
	}
	for _, f := range []map[string]string{console, keyboard} {
		layout, _, _ := strings.Cut(f["XKBLAYOUT"], ",")
		variant, _, _ := strings.Cut(f["XKBVARIANT"], ",")
		switch layout, variant = strings.TrimSpace(layout), strings.TrimSpace(variant); {
		case layout != "" && variant != "":
			return layout + "-" + variant
		case layout != "":
			return layout
		}
	}
	return ""
}

// shellVars reads files of NAME=value lines as os-release(5) defines them.
func shellVars(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		name, v, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		v = unquote(v)
		out[strings.TrimSpace(name)] = v
	}
	return out
}

// unquote takes a shell's quotes and backslashes off one word.
func unquote(v string) string {
	if len(v) >= 2 && v[0] == '\'' && v[len(v)-1] == '\'' {
		return v[1 : len(v)-1]
	}
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		v = v[1 : len(v)-1]
	}
	var o strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' && i+1 < len(v) {
			i++
		}
		o.WriteByte(v[i])
	}
	return o.String()
}

func (h *host) exists(name string) bool {
	_, err := h.root.Stat(name)
	return err == nil
}

func (h *host) system(release, cmdline string) manifest.System {
	s := manifest.System{Kernel: release, Cmdline: cmdline, Initramfs: h.initramfsTool(), Kernels: h.kernels()}
	if b, err := os.ReadFile(h.sys("fs/selinux/enforce")); err == nil {
		s.SELinux = "permissive"
		if strings.TrimSpace(string(b)) == "1" {
			s.SELinux = "enforcing"
		}
	}
	for _, p := range []string{"sbin/init", "usr/sbin/init"} {
		if real, err := h.root.Resolve(p); err == nil {
			s.Init = "/" + strings.TrimPrefix(real, "/")
			break
		}
	}
	if target, err := h.root.Readlink("bin"); err == nil {
		s.MergedUsr = strings.TrimPrefix(path.Clean(target), "/") == "usr/bin"
	}
	h.markDefault(&s)
	return s
}

// initramfsTool tells by what the host makes its initramfs.
func (h *host) initramfsTool() string {
	for _, t := range []struct{ tool, file string }{
		{manifest.InitramfsTools, "mkinitramfs"}, {manifest.Dracut, "dracut"}, {manifest.Mkinitcpio, "mkinitcpio"}, {manifest.Booster, "booster"},
	} {
		for _, dir := range []string{"usr/sbin/", "usr/bin/", "sbin/", "bin/"} {
			if h.exists(dir + t.file) {
				return t.tool
			}
		}
	}
	return manifest.InitramfsNone
}

// imageNames and initrdNames are the names that distributions give, with the
// version in place of %.
var (
	imageNames  = []string{"boot/vmlinuz-%", "boot/vmlinux-%", "boot/kernel-%", "boot/Image-%", "usr/lib/modules/%/vmlinuz"}
	initrdNames = []string{"boot/initrd.img-%", "boot/initramfs-%.img", "boot/initrd-%", "boot/initramfs-%", "boot/initrd-%.img"}
)

// kernels lists the installed kernels, the newest first.
func (h *host) kernels() []manifest.Kernel {
	versions := map[string]bool{}
	for _, dir := range []string{"usr/lib/modules", "lib/modules"} {
		entries, _ := h.root.ReadDir(dir)
		for _, e := range entries {
			versions[e.Name()] = true
		}
	}
	entries, _ := h.root.ReadDir("boot")
	for _, e := range entries {
		for _, p := range imageNames {
			prefix, _, _ := strings.Cut(p, "%")
			if v, ok := strings.CutPrefix("boot/"+e.Name(), prefix); ok && strings.HasPrefix(prefix, "boot/") {
				versions[v] = true
			}
		}
	}
	out := []manifest.Kernel{}
	for v := range versions {
		if v == "" || strings.HasPrefix(v, "0-rescue") || strings.HasSuffix(v, ".old") {
			continue // a rescue kernel of the distribution, a copy kept aside
		}
		k := manifest.Kernel{Version: v, Image: h.first(imageNames, v), Initramfs: h.first(initrdNames, v)}
		for _, dir := range []string{"usr/lib/modules/", "lib/modules/"} {
			if h.exists(dir + v + "/modules.dep") {
				k.Modules = manifest.Bytes("/" + dir + v)
				break
			}
		}
		if k.Image != "" {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b manifest.Kernel) int { return -compareVersions(a.Version, b.Version) })
	return out
}

func (h *host) first(names []string, version string) manifest.Bytes {
	for _, n := range names {
		if p := strings.ReplaceAll(n, "%", version); h.exists(p) {
			return manifest.Bytes("/" + p)
		}
	}
	return ""
}

var versionPart = regexp.MustCompile(`[0-9]+|[a-zA-Z]+`)

// compareVersions compares numbers by value, words by letters.
func compareVersions(a, b string) int {
	x, y := versionPart.FindAllString(a, -1), versionPart.FindAllString(b, -1)
	for i := 0; i < len(x) && i < len(y); i++ {
		n, err1 := strconv.Atoi(x[i])
		m, err2 := strconv.Atoi(y[i])
		switch {
		case err1 == nil && err2 == nil && n != m:
			return n - m
		case (err1 == nil) != (err2 == nil): // a number is newer than a word: 6.1.1 than 6.1-rc1
			if err1 == nil {
				return 1
			}
			return -1
		case err1 != nil && x[i] != y[i]:
			return strings.Compare(x[i], y[i])
		}
	}
	if len(x) != len(y) {
		return len(x) - len(y)
	}
	return strings.Compare(a, b)
}

// linuxLine is a line of grub.cfg that starts a kernel.
var linuxLine = regexp.MustCompile(`(?m)^\s*linux(?:16|efi)?\s+(\S+)`)

// markDefault marks the kernel that the boot loader starts: GRUB's saved
// entry, else its first entry, else the kernel that runs.
func (h *host) markDefault(s *manifest.System) {
	cfg, env := "", ""
	for _, dir := range []string{"boot/grub/", "boot/grub2/"} {
		if t := h.text(dir + "grub.cfg"); t != "" {
			cfg, env = t, h.text(dir+"grubenv")
			break
		}
	}
	want := ""
	if strings.Contains(cfg, "saved_entry") && strings.Contains(cfg, "set default=\"${saved_entry}\"") {
		for line := range strings.Lines(env) {
			if v, ok := strings.CutPrefix(line, "saved_entry="); ok {
				want = versionIn(strings.TrimSpace(v), s.Kernels)
			}
		}
	}
	if want == "" {
		if m := linuxLine.FindStringSubmatch(cfg); m != nil {
			want = versionIn(path.Base(m[1]), s.Kernels)
		}
	}
	if want == "" {
		want = s.Kernel
	}
	for i := range s.Kernels {
		s.Kernels[i].Default = s.Kernels[i].Version == want
	}
}

// versionIn finds the longest version that a text names.
func versionIn(text string, kernels []manifest.Kernel) string {
	best := ""
	for _, k := range kernels {
		if strings.Contains(text, k.Version) && len(k.Version) > len(best) {
			best = k.Version
		}
	}
	return best
}

// standardDirs are what a running system needs even where no backup holds
// it, and the links that distributions put in their place.
var standardDirs = []string{"/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/media", "/mnt", "/opt", "/proc", "/root",
	"/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/local", "/usr/sbin", "/usr/share", "/usr/tmp", "/var", "/var/backups",
	"/var/cache", "/var/lib", "/var/local", "/var/lock", "/var/log", "/var/mail", "/var/opt", "/var/run", "/var/spool", "/var/tmp"}

// dirs reads the standard directories, each on the filesystem that it belongs
// to and not on what is mounted over it, and links as links.
func (h *host) dirs() error {
	h.m.Dirs = []manifest.Dir{}
	for _, d := range standardDirs {
		in, err := h.r.Beneath(d)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the directory %s: %w", d, err)
		}
		h.m.Dirs = append(h.m.Dirs, manifest.Dir{Path: manifest.Bytes(d), Inode: in})
	}
	return nil
}
