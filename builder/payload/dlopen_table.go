package payload

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// opensRule says what a program or library opens while it runs: nothing in
// its headers tells.
type opensRule struct {
	when     string // pattern of a packed file's name; several by blank
	libs     string // libraries by name, taken if there
	files    string // patterns of files; {lib} is the folder of libraries; taken if there
	programs string // programs, taken if there
}

// opensTable was collected from faults: each row is a tool that came up and
// failed in a rescue system.
var opensTable = []opensRule{
	// pthread_exit and cancellation load libgcc_s: cryptsetup's argon2 aborts
	// without it. Name lookups load libnss_*; iconv loads gconv modules.
	{when: "libc.so.6", libs: "libgcc_s.so.1 libnss_files.so.2 libnss_dns.so.2 libresolv.so.2",
		files: "/usr/lib/locale/C.utf8/* /usr/lib/locale/C.utf8/LC_MESSAGES/* /{lib}/gconv/gconv-modules* /{lib}/gconv/gconv-modules.d/*" +
			" /{lib}/gconv/UTF-16.so /{lib}/gconv/UTF-32.so /{lib}/gconv/UNICODE.so /{lib}/gconv/ISO8859-1.so /{lib}/gconv/ISO8859-15.so"},
	// FAT labels are converted from and to the DOS code pages.
	{when: "mkfs.fat fsck.fat fatlabel mkfs.vfat", files: "/{lib}/gconv/IBM437.so /{lib}/gconv/IBM850.so /{lib}/gconv/IBM852.so /{lib}/gconv/IBM858.so"},
	{when: "libcrypto.so.3", files: "/{lib}/ossl-modules/*.so"},
	{when: "libkmod.so.2", libs: "libzstd.so.1 liblzma.so.5 libz.so.1"},
	{when: "libtinfo.so.* libncurses*.so.* vim* nano less bash",
		files: terms("linux") + terms("vt100") + terms("vt102") + terms("vt220") + terms("xterm") + terms("xterm-256color") + terms("screen") + terms("dumb") + terms("ansi")},
	{when: "lvm", programs: "thin_check thin_dump thin_repair cache_check cache_repair era_check"},
	{when: "multipath multipathd", files: "/{lib}/multipath/*.so /usr/lib/multipath/*.so /usr/lib64/multipath/*.so"},
	{when: "mount.nfs", files: "/etc/netconfig /etc/nfsmount.conf", programs: "mount.nfs4 umount.nfs umount.nfs4 rpc.statd rpcbind"},
	{when: "vim vim.basic", files: "/usr/share/vim/vim[0-9]*/defaults.vim /usr/share/vim/vim[0-9]*/debian.vim"},
	{when: "vim.tiny", files: "/etc/vim/vimrc.tiny /usr/share/vim/vim[0-9]*/debian.vim"},
	{when: "smartctl", files: "/var/lib/smartmontools/drivedb/drivedb.h /usr/share/smartmontools/drivedb.h"},
	{when: "ip", files: "/etc/iproute2/* /usr/share/iproute2/*"},
	{when: "xfs_info xfs_growfs", programs: "xfs_spaceman xfs_io xfs_db"},
	{when: "mkfs.btrfs btrfs", programs: "btrfsck btrfstune"},
}

// terms are the places of one terminal description.
func terms(name string) string {
	var out strings.Builder
	for _, d := range []string{"/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo"} {
		out.WriteString(d + "/" + name[:1] + "/" + name + " ")
	}
	return out.String()
}

// Opened packs what the packed programs open while they run. It goes round
// until nothing new comes, since what is packed may have rows of its own.
func (p *Packer) Opened() error {
	done := map[int]bool{}
	for again := true; again; {
		again = false
		for i, r := range opensTable {
			like := p.matching(r.when)
			if done[i] || like == nil {
				continue
			}
			done[i], again = true, true
			if err := p.open(r, like); err != nil {
				return err
			}
		}
	}
	return nil
}

// matching finds the packed file that a rule stands for.
func (p *Packer) matching(when string) *Entry {
	pats := strings.Fields(when)
	for _, e := range p.Tree.Entries() {
		if e.Mode.IsDir() {
			continue
		}
		if slices.ContainsFunc(pats, func(pat string) bool { ok, _ := path.Match(pat, path.Base(e.Path)); return ok }) {
			if e = p.Tree.Resolve(e.Path); e != nil && e.Source != "" {
				return e
			}
		}
	}
	return nil
}

func (p *Packer) open(r opensRule, like *Entry) error {
	why := "opened by " + path.Base(like.Path)
	optional := func(err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if r.libs != "" {
		obj, err := readELF(like.Source)
		if err != nil {
			return err
		}
		for _, l := range strings.Fields(r.libs) {
			if err := optional(p.Library(l, obj, why)); err != nil {
				return err
			}
		}
	}
	for _, pat := range strings.Fields(r.files) {
		pat = strings.ReplaceAll(pat, "/{lib}", p.libDir)
		for _, f := range p.Host.Glob(pat) {
			if !p.Host.isFile(f) {
				continue
			}
			if err := optional(p.Add(f, why)); err != nil {
				return err
			}
		}
	}
	for _, name := range strings.Fields(r.programs) {
		if err := optional(p.Program(name, why)); err != nil {
			return err
		}
	}
	return nil
}
