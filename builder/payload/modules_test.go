package payload

import (
	"bytes"
	"compress/gzip"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"lifeboat/internal/run"
)

const kver = "6.1.0-1-amd64"

func module(name, more string) []byte {
	return fakeELF{modinfo: "name=" + name + "\x00vermagic=" + kver + " SMP preempt\x00" + more}.bytes()
}

func packed(t *testing.T, ext string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w interface {
		Write([]byte) (int, error)
		Close() error
	}
	var err error
	switch ext {
	case ".gz":
		w = gzip.NewWriter(&out)
	case ".xz":
		w, err = xz.NewWriter(&out)
	case ".zst":
		w, err = zstd.NewWriter(&out)
	default:
		return b
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// moduleRoot is a system with a handful of modules in all compressions, mixed
// spellings, softdeps, and firmware in every form.
func moduleRoot(t *testing.T) string {
	t.Helper()
	root := mergedRoot(t)
	dir := "usr/lib/modules/" + kver + "/"
	addKernel(t, root, "boot/vmlinuz-"+kver, kver, "CONFIG_RD_ZSTD=y\n")
	mods := []struct{ path, ext, info string }{
		{"kernel/fs/ext4/ext4.ko", ".xz", ""},
		{"kernel/lib/libcrc32c.ko", "", ""},
		{"kernel/crypto/crc32c_generic.ko", ".gz", ""},
		{"kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko", ".zst", ""},
		{"kernel/drivers/net/ethernet/broadcom/bnx2.ko", "", "firmware=bnx2/bnx2-mips.fw\x00firmware=bnx2/rv2p-*.fw\x00firmware=bnx2/gone.fw\x00"},
		{"kernel/drivers/scsi/scsi_mod.ko", "", ""},
		{"kernel/drivers/scsi/sd_mod.ko", ".xz", ""},
		{"kernel/drivers/scsi/qla2xxx.ko", "", "firmware=ql2400_fw.bin\x00firmware=ql2500_fw.bin\x00"},
		{"kernel/drivers/gpu/drm/i915/i915.ko", "", "firmware=i915/big.bin\x00"},
		{"kernel/sound/snd-big.ko", "", ""},
		{"updates/dkms/vendor-raid.ko", ".xz", ""},
	}
	for _, m := range mods {
		name := strings.TrimSuffix(m.path[strings.LastIndex(m.path, "/")+1:], ".ko")
		write(t, root, dir+m.path+m.ext, packed(t, m.ext, module(name, m.info)))
	}
	write(t, root, dir+"modules.dep", []byte(`kernel/fs/ext4/ext4.ko.xz: kernel/lib/libcrc32c.ko
kernel/lib/libcrc32c.ko:
kernel/crypto/crc32c_generic.ko.gz:
kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko.zst:
kernel/drivers/net/ethernet/broadcom/bnx2.ko:
kernel/drivers/scsi/scsi_mod.ko:
kernel/drivers/scsi/sd_mod.ko.xz: kernel/drivers/scsi/scsi_mod.ko
kernel/drivers/scsi/qla2xxx.ko: kernel/drivers/scsi/scsi_mod.ko
kernel/drivers/gpu/drm/i915/i915.ko:
kernel/sound/snd-big.ko:
updates/dkms/vendor-raid.ko.xz: kernel/drivers/scsi/scsi_mod.ko
`))
	write(t, root, dir+"modules.alias", []byte("alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e\nalias pci:v00008086d00001916sv*sd*bc*sc*i* i915\nalias crc32c crc32c_generic\nalias fs-ext4 ext4\n"))
	write(t, root, dir+"modules.softdep", []byte("softdep libcrc32c pre: crc32c\n"))
	write(t, root, dir+"modules.builtin", []byte("kernel/drivers/block/virtio_blk.ko\n"))
	write(t, root, "usr/lib/firmware/bnx2/real.fw", []byte("MIPS"))
	link(t, root, "usr/lib/firmware/bnx2/bnx2-mips.fw", "real.fw")
	write(t, root, "usr/lib/firmware/bnx2/rv2p-1.fw.xz", packed(t, ".xz", []byte("ONE")))
	write(t, root, "usr/lib/firmware/shared/rv2p-2.fw.zst", packed(t, ".zst", []byte("TWO")))
	link(t, root, "usr/lib/firmware/bnx2/rv2p-2.fw.zst", "../shared/rv2p-2.fw.zst")
	write(t, root, "usr/lib/firmware/i915/big.bin", []byte("GPU"))
	return root
}

func addModules(t *testing.T, root string, config string, w ModuleWish) (*Tree, *Modules) {
	t.Helper()
	h := NewHost(root)
	k, err := FindKernel(h, kver, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	k.Config = ParseConfig(config)
	tree := NewTree()
	if err := tree.TopLinks(h); err != nil {
		t.Fatal(err)
	}
	m, err := AddModules(t.Context(), nil, tree, h, k, w)
	if err != nil {
		t.Fatal(err)
	}
	return tree, m
}

func names(m *Modules) string {
	var out []string
	for _, x := range m.Closure.Modules {
		out = append(out, x.Name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func content(t *testing.T, tree *Tree, p string) string {
	t.Helper()
	e := tree.Resolve(p)
	if e == nil {
		return "(absent)"
	}
	b, err := e.Content()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestModuleChoices(t *testing.T) {
	root := moduleRoot(t)
	nic := []string{"pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00", "pci:v00008086d00001916sv0sd0bc03sc00i00"}
	for _, c := range []struct {
		wish ModuleWish
		want string
	}{
		// ext4 and sd_mod are part of every image, with what they need.
		{ModuleWish{Choice: ModulesHost}, "crc32c_generic ext4 libcrc32c scsi_mod sd_mod"},
		// A graphics card's driver is not packed for being there.
		{ModuleWish{Choice: ModulesHost, Modalias: nic, Loaded: []string{"snd_big"}}, "crc32c_generic e1000e ext4 libcrc32c scsi_mod sd_mod"},
		{ModuleWish{Choice: ModulesUniversal}, "bnx2 crc32c_generic e1000e ext4 libcrc32c qla2xxx scsi_mod sd_mod"},
		{ModuleWish{Choice: ModulesHost, Loaded: []string{"vendor_raid"}, Wanted: []string{"snd-big"}}, "crc32c_generic ext4 libcrc32c scsi_mod sd_mod snd_big vendor_raid"},
		{ModuleWish{Choice: ModulesAll}, "bnx2 crc32c_generic e1000e ext4 i915 libcrc32c qla2xxx scsi_mod sd_mod snd_big vendor_raid"},
	} {
		_, m := addModules(t, root, "", c.wish)
		if got := names(m); got != c.want {
			t.Errorf("%+v:\ngot  %s\nwant %s", c.wish, got, c.want)
		}
	}
}

func TestModulesArePlain(t *testing.T) {
	tree, m := addModules(t, moduleRoot(t), "", ModuleWish{Choice: ModulesAll})
	base := "lib/modules/" + kver + "/"
	for _, x := range m.Closure.Modules {
		p := base + plainName(x.Path)
		if !strings.HasPrefix(content(t, tree, p), "\x7fELF") {
			t.Errorf("%s is not an unpacked module", p)
		}
	}
	dep := content(t, tree, base+"modules.dep")
	if strings.Contains(dep, ".ko.") || !strings.Contains(dep, "kernel/fs/ext4/ext4.ko: kernel/lib/libcrc32c.ko") {
		t.Errorf("modules.dep is not that of the packed files:\n%s", dep)
	}
	if got := content(t, tree, base+"modules.builtin"); !strings.Contains(got, "virtio_blk") {
		t.Errorf("modules.builtin: %q", got)
	}
	_, small := addModules(t, moduleRoot(t), "", ModuleWish{Choice: ModulesHost})
	if small.Bytes >= m.Bytes || small.Bytes == 0 {
		t.Errorf("sizes: host %d, all %d", small.Bytes, m.Bytes)
	}
}

func TestModuleOfAnotherKernel(t *testing.T) {
	root := moduleRoot(t)
	write(t, root, "usr/lib/modules/"+kver+"/kernel/lib/libcrc32c.ko", fakeELF{modinfo: "name=libcrc32c\x00vermagic=5.0 SMP\x00"}.bytes())
	h := NewHost(root)
	k, err := FindKernel(h, kver, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := AddModules(t.Context(), nil, NewTree(), h, k, ModuleWish{Choice: ModulesHost}); err == nil || !strings.Contains(err.Error(), "made for kernel 5.0") {
		t.Errorf("a module of another kernel: %v", err)
	}
	if _, err := AddModules(t.Context(), nil, NewTree(), h, k, ModuleWish{Required: []string{"dm_crypt"}}); err == nil || !strings.Contains(err.Error(), "dm_crypt") {
		t.Errorf("a required module that is missing: %v", err)
	}
}

func TestFirmware(t *testing.T) {
	tree, m := addModules(t, moduleRoot(t), "", ModuleWish{Choice: ModulesAll, Loaded: []string{"bnx2"}})
	for p, want := range map[string]string{
		"lib/firmware/bnx2/bnx2-mips.fw": "MIPS", "lib/firmware/bnx2/rv2p-1.fw": "ONE", "lib/firmware/bnx2/rv2p-2.fw": "TWO",
		"lib/firmware/i915/big.bin": "(absent)", "lib/firmware/bnx2/rv2p-1.fw.xz": "(absent)",
	} {
		if got := content(t, tree, p); got != want {
			t.Errorf("%s: %q, want %q", p, got, want)
		}
	}
	want := []MissingFirmware{
		{"bnx2", []string{"bnx2/gone.fw"}, "firmware-bnx2", true},
		{"qla2xxx", []string{"ql2400_fw.bin", "ql2500_fw.bin"}, "firmware-qlogic", false},
	}
	if !slices.EqualFunc(m.Firmware.Missing, want, func(a, b MissingFirmware) bool {
		return a.Module == b.Module && slices.Equal(a.Files, b.Files) && a.Package == b.Package && a.Used == b.Used
	}) {
		t.Errorf("missing: %+v", m.Firmware.Missing)
	}
	if len(m.Problems) != 2 || m.Problems[0].Severity != "warning" || !strings.Contains(m.Problems[0].Next, "install firmware-bnx2 and build again") {
		t.Errorf("problems: %+v", m.Problems)
	}
	// A kernel that unpacks zstd itself gets the file and its link as they are.
	tree, _ = addModules(t, moduleRoot(t), "CONFIG_FW_LOADER_COMPRESS_ZSTD=y\n", ModuleWish{Choice: ModulesAll})
	if !strings.HasPrefix(content(t, tree, "lib/firmware/bnx2/rv2p-2.fw.zst"), "\x28\xb5\x2f\xfd") || content(t, tree, "lib/firmware/bnx2/rv2p-1.fw") != "ONE" {
		t.Error("compressed firmware for a kernel that knows zstd only")
	}
}

func TestXzBatches(t *testing.T) {
	sizes := map[string]int64{}
	list := "name\t/m/a b.ko.xz\nfile\t1\t1\t60\t5\t0.1\tCRC32\t0\nname\t/m/c.ko.xz\nfile\t1\t1\t60\t3\t0.1\tCRC32\t0\ntotals\t2\t2\t120\t8\t0.1\tCRC32\t0\t2\n"
	if err := parseXzList(list, sizes); err != nil || sizes["/m/a b.ko.xz"] != 5 || sizes["/m/c.ko.xz"] != 3 || len(sizes) != 2 {
		t.Fatalf("%v, %v", sizes, err)
	}
	answer := "AAAAACCC"
	fake := &run.Fake{Answer: func(c run.Cmd) (run.Result, error) {
		if c.Args[0] == "--robot" {
			return run.Result{Stdout: []byte(list)}, nil
		}
		return run.Result{Stdout: []byte(answer)}, nil
	}}
	files := []string{"/m/a b.ko.xz", "/m/c.ko.xz"}
	got := unpackXz(t.Context(), fake, files)
	if string(got[files[0]]) != "AAAAA" || string(got[files[1]]) != "CCC" {
		t.Errorf("cut wrongly: %q", got)
	}
	// An answer that does not fit is not believed.
	for _, answer = range []string{"AAAAACC", "AAAAACCCX"} {
		if got := unpackXz(t.Context(), fake, files); len(got) != 0 {
			t.Errorf("%q was taken: %q", answer, got)
		}
	}
}

func FuzzXzList(f *testing.F) {
	f.Add("name\ta\nfile\t1\t1\t60\t5\t0.1\tCRC32\t0\n")
	f.Fuzz(func(t *testing.T, text string) {
		sizes := map[string]int64{}
		_ = parseXzList(text, sizes)
		for n, s := range sizes {
			if n == "" || s < 0 {
				t.Errorf("%q: %d", n, s)
			}
		}
	})
}
