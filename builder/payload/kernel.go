package payload

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"lifeboat/internal/cpio"
	"lifeboat/internal/kmod"
	"lifeboat/report"
)

// Kernel is the kernel of the rescue system, as found on the host.
type Kernel struct {
	Release string // uname -r
	Image   string // path of the bzImage, for us
	Modules string // folder with modules.dep, for us
	Config  Config
	// ConfigFrom is the file that the configuration was read from; "" when
	// there was none.
	ConfigFrom string
	Problems   []report.Problem
}

// FindKernel finds a kernel and its modules on the host. The release is
// `uname -r` or what the user chose. ESPs are mount points of EFI system
// partitions. Image and modules must be of the same version: the image's own
// header decides, never its name.
func FindKernel(h *Host, release, running string, esps []string) (*Kernel, error) {
	next := "install the kernel's package, or choose another with --kernel"
	dir, err := kmod.Folder(h.Root, release)
	if err != nil {
		return nil, report.Errorf(report.CodeFailed, next, "kernel %s: %w", release, err)
	}
	k := &Kernel{Release: release, Modules: dir}
	var tried []string
	for _, p := range imagePaths(h, release, esps) {
		v, err := imageVersion(h, p)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			tried = append(tried, fmt.Sprintf("%s: %v", p, err))
			continue
		case v != release:
			tried = append(tried, fmt.Sprintf("%s is version %s", p, v))
			continue
		}
		c, _, err := h.Follow(p)
		if err != nil {
			return nil, err
		}
		k.Image = h.Path(c)
		break
	}
	if k.Image == "" {
		f := report.Errorf(report.CodeFailed, next, "no kernel image of version %s, whose modules are in %s", release, dir)
		f.Details = tried
		if len(tried) > 0 {
			f.Text += ": " + tried[0]
		}
		return nil, f
	}
	k.Config, k.ConfigFrom = findConfig(h, release, running)
	if k.ConfigFrom == "" {
		k.Problems = append(k.Problems, report.Problem{Code: report.CodeKernelFeature, Severity: report.Info, Object: release,
			Text: fmt.Sprintf("kernel %s: no configuration found; the initramfs is compressed with gzip, which every kernel unpacks", release)})
	}
	if isCloud(release) {
		k.Problems = append(k.Problems, report.Problem{Code: report.CodeCloudKernel, Severity: report.Warning, Object: release,
			Text: fmt.Sprintf("kernel %s is made for virtual machines and lacks the drivers of physical ones", release),
			Next: "to recover onto other hardware install the general kernel (Debian: linux-image-amd64) and choose it with --kernel"})
	}
	return k, nil
}

// isCloud knows cloud kernels by name; Ubuntu's carry the provider's name.
func isCloud(release string) bool {
	for _, w := range []string{"-cloud", "-kvm", "-virt", "-aws", "-azure", "-gcp", "-oracle"} {
		if strings.Contains(release+"-", w+"-") {
			return true
		}
	}
	return false
}

// imagePaths are the places where a kernel image may lie, the most exact
// first, as paths of the host.
func imagePaths(h *Host, v string, esps []string) []string {
	out := []string{
		"/boot/vmlinuz-" + v, "/usr/lib/modules/" + v + "/vmlinuz", "/lib/modules/" + v + "/vmlinuz",
		"/boot/kernel-" + v, "/boot/bzImage-" + v,
	}
	for _, esp := range append([]string{"/boot"}, esps...) {
		out = append(out, path.Join(esp, "vmlinuz-"+v))
		// Boot Loader Specification, type 1: MACHINE-ID/VERSION/linux.
		out = append(out, h.Glob(path.Join(esp, "*", v, "linux"))...)
		out = append(out, h.Glob(path.Join(esp, "EFI/*/vmlinuz-"+v))...)
	}
	// Distributions that do not put the version into the name (Arch).
	out = append(out, h.Glob("/boot/vmlinuz*")...)
	for _, esp := range esps {
		out = append(out, h.Glob(path.Join(esp, "vmlinuz*"))...)
	}
	return out
}

func imageVersion(h *Host, p string) (string, error) {
	c, _, err := h.Follow(p)
	if err != nil {
		return "", err
	}
	f, err := os.Open(h.Path(c))
	if err != nil {
		return "", err
	}
	defer f.Close()
	return ImageVersion(f)
}

// ImageVersion reads the release that a bzImage says it is, out of its setup
// header (Documentation/arch/x86/boot.rst: "HdrS" at 0x202, kernel_version at
// 0x20e, counted from 0x200).
func ImageVersion(r io.ReaderAt) (string, error) {
	head := make([]byte, 0x210)
	if n, err := r.ReadAt(head, 0); n < len(head) {
		if err == io.EOF {
			err = errors.New("too short for a kernel image")
		}
		return "", err
	}
	if string(head[0x202:0x206]) != "HdrS" || binary.LittleEndian.Uint16(head[0x1fe:]) != 0xaa55 {
		return "", errors.New("not a kernel image for x86 (no boot header)")
	}
	at := int64(binary.LittleEndian.Uint16(head[0x20e:]))
	if at == 0 {
		return "", errors.New("kernel image does not tell its version")
	}
	text := make([]byte, 256)
	n, err := r.ReadAt(text, 0x200+at)
	if n == 0 {
		return "", fmt.Errorf("kernel image: its version lies outside of the file: %w", err)
	}
	v := cstring(text[:n])
	v, _, _ = strings.Cut(v, " ")
	if v == "" || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
		return "", fmt.Errorf("kernel image: its version is %.40q", v)
	}
	return v, nil
}

// Config is a kernel configuration: option without CONFIG_ → value.
type Config map[string]string

// ParseConfig reads a kernel's .config. An option that is known and off has
// the value "n".
func ParseConfig(text string) Config {
	c := Config{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if off, ok := strings.CutSuffix(line, " is not set"); ok {
			line = strings.TrimPrefix(off, "# ") + "=n"
		}
		k, v, ok := strings.Cut(line, "=")
		if name, is := strings.CutPrefix(k, "CONFIG_"); ok && is && name != "" {
			c[name] = strings.Trim(v, `"`)
		}
	}
	return c
}

// Built tells whether an option is built into the kernel.
func (c Config) Built(name string) bool { return c[name] == "y" }

// findConfig looks where distributions put the configuration; that of the
// running kernel is in /proc.
func findConfig(h *Host, release, running string) (Config, string) {
	list := []string{"/boot/config-" + release, "/usr/lib/modules/" + release + "/config", "/lib/modules/" + release + "/config",
		"/usr/lib/kernel/config-" + release}
	if release == running {
		list = append(list, "/proc/config.gz")
	}
	for _, p := range list {
		b, err := h.ReadFile(p)
		if err != nil {
			continue
		}
		if filepath.Ext(p) == ".gz" {
			z, err := gzip.NewReader(bytes.NewReader(b))
			if err != nil {
				continue
			}
			if b, err = io.ReadAll(io.LimitReader(z, 16<<20)); err != nil {
				continue
			}
		}
		if c := ParseConfig(string(b)); len(c) > 0 {
			return c, p
		}
	}
	return nil, ""
}

// Compression is the best compression for an initramfs that the kernel can
// unpack: zstd packs and unpacks fastest; gzip when nothing is known of the
// kernel; none when the kernel says that it knows neither.
func (k *Kernel) Compression() cpio.Codec {
	switch {
	case k.Config.Built("RD_ZSTD"):
		return cpio.Zstd
	case len(k.Config) == 0, k.Config.Built("RD_GZIP"):
		return cpio.Gzip
	}
	return cpio.None
}

// loadsCompressed tells whether the kernel itself unpacks firmware files of
// an extension (.xz, .zst).
func (k *Kernel) loadsCompressed(ext string) bool {
	switch ext {
	case ".xz":
		// Before 5.19 there was one switch, and it meant xz.
		return k.Config.Built("FW_LOADER_COMPRESS") && (k.Config.Built("FW_LOADER_COMPRESS_XZ") || k.Config["FW_LOADER_COMPRESS_XZ"] == "")
	case ".zst":
		return k.Config.Built("FW_LOADER_COMPRESS_ZSTD")
	}
	return false
}
