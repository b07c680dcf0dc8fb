package rescue

import (
	"context"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"lifeboat/internal/handoff"
	"lifeboat/internal/netup"
	"lifeboat/manifest"
	"lifeboat/report"
)

// network is the one network of this boot: it stays up over all tries, for
// people who came in by it.
type network struct {
	mu sync.Mutex // held while it is brought up
	up *netup.Up
}

// network brings the network up when the backup needs it. One that is up and
// reaches the backup is left as it is.
func (w *Worker) network(ctx context.Context, backup string) (*netup.Up, error) {
	u, err := url.Parse(backup)
	if err != nil || u.Host == "" {
		return nil, nil // the backup is local
	}
	w.net.mu.Lock()
	defer w.net.mu.Unlock()
	if w.net.up != nil && reach(ctx, u) == nil {
		return w.net.up, nil
	}
	up, err := w.bring(ctx, func(ctx context.Context) error { return reach(ctx, u) })
	if err != nil {
		if up != nil {
			w.J.Note("Network: %s has %s (%s); it stays up for SSH", up.Name, up.Address, wayOf(up))
		}
		return nil, &report.Fault{Problem: report.Problem{Code: report.CodeBackupMissing, Severity: report.Error,
			Text: "The backup " + u.Redacted() + " is not reached", Next: "check cable, switch and DHCP, or give ip= on the kernel command line"}, Cause: err}
	}
	w.J.Note("Network: %s has %s (%s); the backup server %s answers", up.Name, up.Address, wayOf(up), u.Host)
	return up, nil
}

// bring makes a network the one of this boot.
func (w *Worker) bring(ctx context.Context, reach func(context.Context) error) (*netup.Up, error) {
	opt := netup.Options{Off: w.Order.Net.Off, BootIF: w.Order.Net.BootIF, Log: w.netLog(), Reach: reach, Keep: w.Order.SSH != "",
		Captured: w.captured(), Say: func(format string, args ...any) { w.J.Note("Network: "+format, args...) }}
	for _, v := range w.Order.Net.IP {
		s, err := netup.ParseIP(v)
		if err != nil {
			w.J.Problem(report.Problem{Code: report.CodeNetwork, Severity: report.Warning, Text: err.Error()})
			continue
		}
		if !s.Off {
			opt.Static = append(opt.Static, s)
		}
	}
	w.net.up.Close()
	var err error
	w.net.up, err = netup.Bring(ctx, opt)
	return w.net.up, err
}

// captured is the network of the host as the medium has it: the backup's own
// manifest is reached over it at best.
func (w *Worker) captured() *manifest.Network {
	data, err := os.ReadFile(handoff.ManifestPath)
	if err == nil {
		var m *manifest.Manifest
		if m, err = manifest.Decode(data); err == nil {
			return &m.Network
		}
	}
	w.Exec.Log("network: the medium's manifest: %v", err)
	return nil
}

func wayOf(up *netup.Up) string {
	switch up.By {
	case "dhcp":
		if up.As != "" {
			return "by DHCP on the VLAN of the host's " + up.As
		}
		return "by DHCP"
	case "static":
		return "by ip="
	}
	return "as the host had it on " + up.As
}

// networkForPeople keeps trying for an address where SSH is on, whatever the
// backup needs: a person may be the only one who can tell what is wrong.
func (w *Worker) networkForPeople(ctx context.Context) {
	if w.Order.SSH == "" || w.Order.Net.Off {
		return
	}
	for ctx.Err() == nil {
		if _, err := w.network(ctx, w.Order.Backup.URL); err != nil {
			w.Exec.Log("network: %v", err)
		}
		w.net.mu.Lock()
		if w.net.up == nil {
			up, err := w.bring(ctx, nil)
			if err == nil {
				w.J.Note("Network: %s has %s (%s)", up.Name, up.Address, wayOf(up))
			}
		}
		up := w.net.up
		w.net.mu.Unlock()
		if up != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
		}
	}
}

// netLog says each card's state once on the screen.
func (w *Worker) netLog() func(string, ...any) {
	return func(format string, args ...any) {
		w.Exec.Log("network: "+format, args...)
	}
}

// reach asks whether something answers where the backup is.
func reach(ctx context.Context, u *url.URL) error {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[strings.ToLower(u.Scheme)]
	}
	if port == "" {
		return nil
	}
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return err
	}
	return c.Close()
}
