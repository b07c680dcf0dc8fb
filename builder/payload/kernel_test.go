package payload

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"strings"
	"testing"

	"lifeboat/internal/cpio"
	"lifeboat/report"
)

// bzImage is a made-up kernel image whose header tells a version.
func bzImage(version string) []byte {
	b := make([]byte, 0x800)
	binary.LittleEndian.PutUint16(b[0x1fe:], 0xaa55)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20e:], 0x300)
	copy(b[0x500:], version+" (builder@example) #1 SMP\x00")
	return b
}

func TestImageVersion(t *testing.T) {
	v, err := ImageVersion(bytes.NewReader(bzImage("6.1.0-13-amd64")))
	if err != nil || v != "6.1.0-13-amd64" {
		t.Fatalf("got %q, %v", v, err)
	}
	far := bzImage("x")
	binary.LittleEndian.PutUint16(far[0x20e:], 0xffff)
	none := bzImage("x")
	binary.LittleEndian.PutUint16(none[0x20e:], 0)
	for name, b := range map[string][]byte{"empty": nil, "short": make([]byte, 0x200), "no header": make([]byte, 4096), "version outside": far, "no version": none, "odd version": bzImage("../x")} {
		if v, err := ImageVersion(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: taken as version %q", name, v)
		}
	}
}

func FuzzImageVersion(f *testing.F) {
	f.Add(bzImage("6.1.0"))
	f.Add(bzImage(""))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ImageVersion(bytes.NewReader(b))
		if err == nil && (v == "" || strings.ContainsAny(v, "/ \n\x00")) {
			t.Errorf("version %q", v)
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add("CONFIG_RD_ZSTD=y\n# CONFIG_RD_XZ is not set\nCONFIG_X=\"a=b\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		for k := range ParseConfig(text) {
			if k == "" {
				t.Errorf("%q: option without a name", text)
			}
		}
	})
}

// addKernel puts an image and an empty module folder where distributions do.
func addKernel(t *testing.T, root, image, version, config string) {
	t.Helper()
	write(t, root, "usr/lib/modules/"+version+"/modules.dep", nil)
	write(t, root, image, bzImage(version))
	if config != "" {
		write(t, root, "boot/config-"+version, []byte(config))
	}
}

func TestFindKernel(t *testing.T) {
	for _, image := range []string{
		"boot/vmlinuz-6.1.0-1-amd64", "usr/lib/modules/6.1.0-1-amd64/vmlinuz", "boot/vmlinuz-linux",
		"efi/0123456789abcdef0123456789abcdef/6.1.0-1-amd64/linux", "efi/EFI/debian/vmlinuz-6.1.0-1-amd64",
	} {
		root := mergedRoot(t)
		addKernel(t, root, image, "6.1.0-1-amd64", "CONFIG_RD_ZSTD=y\n")
		k, err := FindKernel(NewHost(root), "6.1.0-1-amd64", "other", []string{"/efi"})
		if err != nil {
			t.Errorf("%s: %v", image, err)
			continue
		}
		if k.Image != root+"/"+image || k.Compression() != cpio.Zstd || len(k.Problems) != 0 {
			t.Errorf("%s: %+v", image, k)
		}
	}
}

func TestKernelOfAnotherVersion(t *testing.T) {
	root := mergedRoot(t)
	addKernel(t, root, "boot/vmlinuz-6.1.0-1-amd64", "6.1.0-1-amd64", "")
	// The package was upgraded: the name stays, the content does not.
	write(t, root, "boot/vmlinuz-6.1.0-1-amd64", bzImage("6.1.0-2-amd64"))
	_, err := FindKernel(NewHost(root), "6.1.0-1-amd64", "", nil)
	if err == nil || !strings.Contains(err.Error(), "is version 6.1.0-2-amd64") {
		t.Errorf("image and modules of two versions: %v", err)
	}
	if _, err = FindKernel(NewHost(root), "9.9", "", nil); err == nil || !strings.Contains(err.Error(), "modules of kernel 9.9") {
		t.Errorf("no modules: %v", err)
	}
}

func TestCompression(t *testing.T) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write([]byte("CONFIG_RD_GZIP=y\n# CONFIG_RD_ZSTD is not set\n"))
	w.Close()
	for _, c := range []struct {
		config  string
		running bool
		want    cpio.Codec
	}{
		{"CONFIG_RD_ZSTD=y\nCONFIG_RD_GZIP=y\n", false, cpio.Zstd},
		{"# CONFIG_RD_ZSTD is not set\nCONFIG_RD_GZIP=y\n", false, cpio.Gzip},
		{"CONFIG_RD_GZIP=n\nCONFIG_RD_XZ=y\n", false, cpio.None},
		{"", false, cpio.Gzip},
		{"", true, cpio.Gzip},
	} {
		root := mergedRoot(t)
		addKernel(t, root, "boot/vmlinuz-5.4.0", "5.4.0", c.config)
		running := ""
		if c.running {
			running = "5.4.0"
			write(t, root, "proc/config.gz", z.Bytes())
		}
		k, err := FindKernel(NewHost(root), "5.4.0", running, nil)
		if err != nil {
			t.Fatal(err)
		}
		if k.Compression() != c.want {
			t.Errorf("%q, running %v: %s, want %s", c.config, c.running, k.Compression(), c.want)
		}
		if c.running && k.ConfigFrom != "/proc/config.gz" {
			t.Errorf("configuration of the running kernel: taken from %q", k.ConfigFrom)
		}
	}
}

func TestFirmwareCompression(t *testing.T) {
	for _, c := range []struct {
		config  string
		xz, zst bool
	}{
		{"", false, false},
		{"CONFIG_FW_LOADER_COMPRESS=y\n", true, false}, // before 5.19
		{"CONFIG_FW_LOADER_COMPRESS=y\nCONFIG_FW_LOADER_COMPRESS_XZ=y\nCONFIG_FW_LOADER_COMPRESS_ZSTD=y\n", true, true},
		{"CONFIG_FW_LOADER_COMPRESS=y\n# CONFIG_FW_LOADER_COMPRESS_XZ is not set\nCONFIG_FW_LOADER_COMPRESS_ZSTD=y\n", false, true},
		{"# CONFIG_FW_LOADER_COMPRESS is not set\n", false, false},
	} {
		k := Kernel{Config: ParseConfig(c.config)}
		if k.loadsCompressed(".xz") != c.xz || k.loadsCompressed(".zst") != c.zst {
			t.Errorf("%q: xz %v, zst %v", c.config, k.loadsCompressed(".xz"), k.loadsCompressed(".zst"))
		}
	}
}

func TestCloudKernel(t *testing.T) {
	root := mergedRoot(t)
	for v, cloud := range map[string]bool{"6.1.0-13-cloud-amd64": true, "5.15.0-1051-aws": true, "6.8.0-31-generic": false, "6.1.0-13-amd64": false, "6.9-kvmlike": false} {
		addKernel(t, root, "boot/vmlinuz-"+v, v, "CONFIG_RD_ZSTD=y\n")
		k, err := FindKernel(NewHost(root), v, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(k.Problems) == 1 && k.Problems[0].Code == report.CodeCloudKernel; got != cloud {
			t.Errorf("%s: %v", v, k.Problems)
		}
	}
}
