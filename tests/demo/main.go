// Command demo shows the whole of Lifeboat once: a small real Debian server
// backs itself up, its disk is thrown away, and the image that it made brings
// it back onto a blank one. `make demo` runs it.
// Level 8.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"lifeboat/backup"
	"lifeboat/drill"
	"lifeboat/drill/qemu"
	"lifeboat/internal/cli"
	"lifeboat/report"
	"lifeboat/tests/lab"
)

// storeAt is where the server in the demo finds its backup store.
const storeAt = "10.0.2.100:8080"

const settings = `# /etc/lifeboat/lifeboat.yaml of the demo
backup: {url: "http://` + storeAt + `"}
recover: {mode: auto}
modules: %s
`

type part struct {
	name string
	took time.Duration
}

type demo struct {
	out    *cli.Out
	dir    string
	binary string
	parts  []part
	source *lab.Source
	lab    *lab.Lab
	server *http.Server
	addr   string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	d := &demo{out: cli.New()}
	if len(os.Args) != 3 {
		os.Exit(d.out.Fail(report.Errorf(report.CodeUsage, "run make demo", "usage: demo LIFEBOAT FOLDER")))
	}
	d.binary, d.dir = os.Args[1], os.Args[2]
	os.Exit(d.out.Fail(d.run(ctx)))
}

// step runs and times one part of the story.
func (d *demo) step(name string, f func() error) error {
	d.out.Print("\n== %s", name)
	start := time.Now()
	if err := f(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	d.parts = append(d.parts, part{name, time.Since(start)})
	return nil
}

func (d *demo) run(ctx context.Context) error {
	if err := os.RemoveAll(d.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(d.dir, "store"), 0o700); err != nil {
		return err
	}
	if err := d.serve(); err != nil {
		return err
	}
	defer d.server.Close()
	if err := d.step("A small Debian server is made with Debian's own tools (kept for the next time)", func() error { return d.make(ctx) }); err != nil {
		return err
	}
	if err := d.step("It starts and backs itself up: lifeboat mkbackup", func() error { return d.backUp(ctx) }); err != nil {
		return err
	}
	var res *drill.Result
	err := d.step("Its disk is thrown away; the image boots against a blank one, recovers unattended, and the result starts", func() (err error) {
		if err := os.Remove(filepath.Join(d.dir, "source.raw")); err != nil {
			return err
		}
		res, err = drill.Run(ctx, drill.Options{Image: d.image(), Backup: filepath.Join(d.dir, "store"), Dir: d.dir, Sink: d.out, Run: d.out.Debugf})
		if err == nil && !res.Passed {
			err = fmt.Errorf("it did not come back: %s", res.Why)
		}
		return err
	})
	if err != nil {
		return err
	}
	d.summary(res)
	return nil
}

func (d *demo) image() string { return filepath.Join(d.dir, "lifeboat.iso") }

// serve runs the archive server that the demo's server backs itself up to.
func (d *demo) serve() error {
	srv, err := backup.NewServer(filepath.Join(d.dir, "store"), "", d.out.Debugf)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	d.addr, d.server = l.Addr().String(), &http.Server{Handler: srv, ReadHeaderTimeout: time.Minute}
	go func() { _ = d.server.Serve(l) }()
	return nil
}

func (d *demo) make(ctx context.Context) (err error) {
	if d.lab, err = lab.Open(ctx, d.out.Info); err != nil {
		return err
	}
	if d.source, err = d.lab.MakeSource(ctx, lab.BIOSLayout()); err != nil {
		return err
	}
	return d.source.Copy(ctx, filepath.Join(d.dir, "source.raw"))
}

// backUp boots the server, gives it lifeboat, and lets it do the rest.
func (d *demo) backUp(ctx context.Context) error {
	vm, err := lab.Start(ctx, qemu.Config{Name: "source", Memory: 1 << 30, NoReboot: true,
		Drives: []qemu.Drive{{File: filepath.Join(d.dir, "source.raw"), Interface: qemu.Virtio}},
		NICs:   []qemu.NIC{{Services: []qemu.GuestService{{Address: storeAt, To: d.addr}}}}})
	if err != nil {
		return err
	}
	defer vm.Kill()
	d.out.Info("The server starts ...")
	if err := vm.Agent(ctx); err != nil {
		return err
	}
	if err := vm.Put(ctx, d.binary, "/usr/local/sbin/lifeboat", 0o755); err != nil {
		return err
	}
	conf := filepath.Join(d.dir, "lifeboat.yaml")
	if err := os.WriteFile(conf, fmt.Appendf(nil, settings, "universal"), 0o600); err != nil {
		return err
	}
	if _, err := vm.Run(ctx, "mkdir -p /etc/lifeboat"); err != nil {
		return err
	}
	if err := vm.Put(ctx, conf, "/etc/lifeboat/lifeboat.yaml", 0o600); err != nil {
		return err
	}
	d.out.Info("lifeboat mkbackup")
	code, err := vm.Stream(ctx, "lifeboat mkbackup", os.Stdout, os.Stderr)
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("lifeboat mkbackup ended with exit code %d", code)
	}
	name, err := vm.Run(ctx, "echo /var/lib/lifeboat/output/*.iso")
	if err != nil {
		return err
	}
	if err := vm.Get(ctx, strings.TrimSpace(string(name.Stdout)), d.image()); err != nil {
		return err
	}
	return vm.PowerOff(ctx)
}

func (d *demo) summary(res *drill.Result) {
	p := d.out.Print
	p("\n== What was done")
	for _, x := range d.parts {
		p("  %7.1f s  %s", x.took.Seconds(), x.name)
	}
	for _, x := range res.Phases {
		p("  %7.1f s      %s", float64(x.Millis)/1000, x.Name)
	}
	for _, x := range res.Recovery.Phases {
		p("  %7.1f s          %s", float64(x.Millis)/1000, x.Name)
	}
	p("\n== Files")
	files, _ := filepath.Glob(filepath.Join(d.dir, "store", "*", "*"))
	for _, f := range append([]string{d.image()}, append(files, res.Disks...)...) {
		if st, err := os.Stat(f); err == nil {
			p("  %10s  %s", cli.Size(st.Size()), f)
		}
	}
	sys, _ := json.Marshal(res.System)
	p("\n== The restored server says\n  %s", sys)
	for _, s := range res.Shots {
		if filepath.Base(s) == "login.png" {
			p("\nIts login prompt: %s", s)
		}
	}
}
