package rescue

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/beevik/ntp"
	"golang.org/x/sys/unix"

	"lifeboat/internal/kmod"
	"lifeboat/internal/netup"
	"lifeboat/report"
)

// needless are modules whose devices a recovery has no use for; loading them
// costs seconds on slow machines.
var needless = map[string]bool{"pcspkr": true, "snd": true, "soundcore": true, "cpufreq_ondemand": true, "iTCO_wdt": true, "parport_pc": true}

// startDrivers loads the drivers of all hardware, now and as it appears.
func (w *Worker) startDrivers(ctx context.Context) {
	w.boot.drivers.Do(func() {
		var uts unix.Utsname
		_ = unix.Uname(&uts)
		release := unix.ByteSliceToString(uts.Release[:])
		dir, err := kmod.Folder("/", release)
		if err != nil {
			w.driverFault(err)
			close(w.boot.settled)
			return
		}
		set, err := kmod.Open(dir)
		if err != nil {
			w.driverFault(err)
			close(w.boot.settled)
			return
		}
		conf, err := kmod.ReadConf("/")
		if err != nil {
			w.driverFault(err)
		}
		if line, err := os.ReadFile("/proc/cmdline"); err == nil && conf != nil {
			conf.Cmdline(string(line))
		}
		a := &kmod.Autoloader{Loader: &kmod.Loader{Set: set, Conf: conf, Kernel: kmod.Linux{}, Log: w.Exec.Log},
			Skip:   func(m string) bool { return needless[m] },
			Failed: func(m string, err error) { w.Exec.Log("module %s: %v", m, err) }}
		go func() {
			var once sync.Once
			settled := func() { once.Do(func() { close(w.boot.settled) }) }
			defer settled()
			if err := a.Run(ctx, settled); err != nil && ctx.Err() == nil {
				w.driverFault(err)
			}
		}()
	})
}

func (w *Worker) driverFault(err error) {
	w.J.Problem(report.Problem{Code: report.CodeModuleMissing, Severity: report.Warning, Text: "drivers: " + err.Error(),
		Next: "build the medium again on the host with its own kernel"})
}

// settle waits until the drivers of all hardware present are loaded.
func (w *Worker) settle(ctx context.Context) error {
	select {
	case <-w.boot.settled:
		return nil
	case <-time.After(settlePatience):
		w.J.Note("Devices still come and go, or a driver hangs, after %s; going on", settlePatience)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settlePatience bounds the wait for drivers: one broken device must not keep
// the menu from a person.
const settlePatience = 90 * time.Second

// clampClock sets a clock that is before the image was built to that time:
// certificates and leases of such a machine would all be invalid.
func (w *Worker) clampClock() (notes []string) {
	built, err := time.Parse(time.RFC3339, w.Order.Built)
	if err != nil || !time.Now().Before(built) {
		return nil
	}
	notes = append(notes, fmt.Sprintf("This machine's clock said %s, before the medium was built; it is set to %s for now",
		time.Now().UTC().Format(time.RFC3339), w.Order.Built))
	if err := setClock(built); err != nil {
		notes = append(notes, err.Error())
	}
	return notes
}

func setClock(t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return nil
}

// syncClock takes the time from the backup server's answers, else from the
// NTP servers that DHCP named. A clock that stays wrong is a note, no stop.
func (w *Worker) syncClock(ctx context.Context, up *netup.Up, backup string) {
	if w.boot.clockSet {
		return
	}
	now, from, err := serverTime(ctx, backup)
	for i := 0; err != nil && up != nil && i < len(up.NTP); i++ {
		var r *ntp.Response
		r, err = ntp.QueryWithOptions(up.NTP[i].String(), ntp.QueryOptions{Timeout: 3 * time.Second})
		if err == nil {
			if err = r.Validate(); err == nil {
				now, from = time.Now().Add(r.ClockOffset), "NTP server "+up.NTP[i].String()
			}
		}
	}
	if err != nil {
		w.Exec.Log("clock: %v", err)
		return
	}
	off := time.Until(now).Round(time.Second)
	built, _ := time.Parse(time.RFC3339, w.Order.Built)
	if now.Before(built.Add(-24 * time.Hour)) {
		w.J.Note("The clock of the %s is before the medium was built; it is not taken over", from)
		return
	}
	w.boot.clockSet = true
	if off.Abs() < 3*time.Second {
		return
	}
	if err := setClock(now); err != nil {
		w.J.Note("%v", err)
		return
	}
	w.J.Note("The clock was wrong by %s; it is set by the %s", off, from)
}

// serverTime reads the Date header of the backup server.
func serverTime(ctx context.Context, backup string) (time.Time, string, error) {
	if !isHTTP(backup) {
		return time.Time{}, "", errors.New("the backup is not on an HTTP server")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, backup, nil)
	if err != nil {
		return time.Time{}, "", err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return time.Time{}, "", err
	}
	resp.Body.Close()
	t, err := http.ParseTime(resp.Header.Get("Date"))
	return t, "backup server", err
}

func isHTTP(u string) bool {
	return strings.HasPrefix(u, "http://") || strings.HasPrefix(u, "https://")
}
