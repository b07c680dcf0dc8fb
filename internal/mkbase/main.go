// Command mkbase builds the part of the rescue system that is the same for
// every host: init, lifeboat-rescue and the u-root commands, as one compressed
// initramfs segment that the lifeboat program embeds.
// Level 7: build time: the rescue base.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/u-root/gobusybox/src/pkg/bb"
	"github.com/u-root/gobusybox/src/pkg/golang"
	"github.com/u-root/uio/ulog"

	"lifeboat/internal/cpio"
)

func main() {
	work := flag.String("work", "build/base", "folder for programs and stamps")
	out := flag.String("o", "builder/base/data/base.cpio.zst", "the segment to write")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "mkbase builds the rescue base; run it in the module's folder.\nExample: go run ./internal/mkbase\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := build(*work, *out); err != nil {
		fmt.Fprintln(os.Stderr, "mkbase:", err)
		os.Exit(1)
	}
}

// programs are ours, built by plain go build.
var programs = []struct{ name, pkg string }{{"init", "./init"}, {"lifeboat-rescue", "./cmd/lifeboat-rescue"}}

const ldflags = "-s -w -buildid="

func build(work, out string) error {
	if _, err := os.Stat("go.mod"); err != nil {
		return fmt.Errorf("%w; run it in the folder of go.mod", err)
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	pkgs, err := packages()
	if err != nil {
		return err
	}
	if err := buildBB(work, pkgs); err != nil {
		return err
	}
	for _, p := range programs {
		if err := goBuild(".", nil, filepath.Join(work, p.name), p.pkg); err != nil {
			return err
		}
	}
	return segment(work, out, names(pkgs))
}

// goBuild builds a static program that does not depend on where it is built.
func goBuild(dir string, env []string, out, pkg string) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	// The toolchain that runs us, so that one build has one of them.
	c := exec.Command(filepath.Join(runtime.GOROOT(), "bin", "go"), "build", "-trimpath", "-ldflags", ldflags, "-o", out, pkg)
	c.Dir = dir
	c.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if b, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, b)
	}
	return nil
}

// buildBB builds the u-root commands as one program, if their list, their
// versions or the toolchain changed: generating it always takes seconds.
func buildBB(work string, pkgs []string) error {
	sum, err := os.ReadFile("go.sum")
	if err != nil {
		return err
	}
	want := digest([]byte(toolsGo), []byte(aliasSource()), []byte(strings.Join(tags, ",")), []byte(ldflags), []byte(runtime.Version()+runtime.GOARCH), sum)
	bin, stamp := filepath.Join(work, "bb"), filepath.Join(work, "bb.stamp")
	if fresh(stamp, want, bin) {
		return nil
	}
	begin := time.Now()
	gen, err := filepath.Abs(filepath.Join(work, "gen"))
	if err != nil {
		return err
	}
	if err := os.RemoveAll(gen); err != nil {
		return err
	}
	var said bytes.Buffer
	env := golang.Default(golang.DisableCGO(), golang.WithGOARCH(runtime.GOARCH), golang.WithBuildTag(tags...))
	if err := bb.BuildBusybox(&bufLog{&said}, &bb.Opts{Env: env, GenSrcDir: gen, CommandPaths: pkgs, GenerateOnly: true, BinaryPath: bin}); err != nil {
		return fmt.Errorf("generating the u-root commands: %w\n%s", err, said.String())
	}
	main := filepath.Join(gen, "src", "bb.u-root.com", "bb")
	if err := os.WriteFile(filepath.Join(main, "aliases.go"), []byte(aliasSource()), 0o644); err != nil {
		return err
	}
	if err := goBuild(main, []string{"GO111MODULE=off", "GOPATH=" + gen, "GOFLAGS=-tags=" + strings.Join(tags, ",")}, bin, "bb.u-root.com/bb"); err != nil {
		return err
	}
	fmt.Printf("mkbase: %d u-root commands built in %.1f s\n", len(pkgs), time.Since(begin).Seconds())
	if err := os.RemoveAll(gen); err != nil {
		return err
	}
	return os.WriteFile(stamp, []byte(want), 0o644)
}

// bufLog keeps what the generator says, to be shown only when it fails.
type bufLog struct{ w io.Writer }

func (b *bufLog) Printf(format string, v ...any) { fmt.Fprintf(b.w, format+"\n", v...) }
func (b *bufLog) Print(v ...any)                 { fmt.Fprintln(b.w, v...) }

var _ ulog.Logger = (*bufLog)(nil)

func digest(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:", len(p))
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func fresh(stamp, want, product string) bool {
	b, err := os.ReadFile(stamp)
	if err != nil || string(b) != want {
		return false
	}
	_, err = os.Stat(product)
	return err == nil
}

// segment compresses the programs, unless they are those of last time.
func segment(work, out string, names []string) error {
	parts := [][]byte{[]byte(strings.Join(names, " ")), []byte(layoutVersion)}
	for _, n := range []string{"init", "lifeboat-rescue", "bb"} {
		b, err := os.ReadFile(filepath.Join(work, n))
		if err != nil {
			return err
		}
		parts = append(parts, b)
	}
	stamp, want := filepath.Join(work, "segment.stamp"), digest(parts...)
	if fresh(stamp, want, out) {
		return nil
	}
	begin := time.Now()
	tmp := out + ".new"
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	img := cpio.NewImage(f, 0)
	n, err := img.Segment(cpio.Zstd, cpio.Best, func(w *cpio.Writer) error { return fill(w, work, names) })
	if err := errors.Join(err, img.Close(), f.Close()); err != nil {
		os.Remove(tmp)
		return fmt.Errorf("writing %s: %w", out, err)
	}
	if err := os.Rename(tmp, out); err != nil {
		return err
	}
	fmt.Printf("mkbase: %s: %.1f MiB in %.1f s\n", out, float64(n)/(1<<20), time.Since(begin).Seconds())
	return os.WriteFile(stamp, []byte(want), 0o644)
}
