package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"lifeboat/internal/authkeys"
	"lifeboat/internal/cli"
	"lifeboat/internal/handoff"
	"lifeboat/internal/netup"
	"lifeboat/internal/run"
	"lifeboat/report"
	"lifeboat/rescue"
	"lifeboat/rescue/sshd"
)

// hostKey of this boot lies in memory: a server that is started again shows
// the same fingerprint.
const hostKey = "/run/lifeboat/ssh_host_key"

// maxKeys bounds a file of keys that is fetched.
const maxKeys = 1 << 20

// sshServer serves SSH for as long as PID 1 lives; only PID 1 starts it.
func sshServer(ctx context.Context, o *cli.Out, _ []string) error {
	if os.Getppid() != 1 {
		return report.Errorf(report.CodeNotPID1, "name keys in the order of this boot, for example with lifeboat.ssh=", "the SSH server is started by PID 1 of the rescue system only")
	}
	data, err := os.ReadFile(handoff.OrderPath)
	if err != nil {
		return fmt.Errorf("read the order of this boot: %w", err)
	}
	order, err := handoff.Decode(data)
	if err != nil {
		return err
	}
	say := notes(ctx)
	log := func(format string, args ...any) { o.Print(time.Now().UTC().Format(time.RFC3339)+" "+format, args...) }
	keys, err := waitKeys(ctx, order.SSH, say)
	if err != nil {
		return err
	}
	host, err := sshd.HostKey(hostKey)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", ":22")
	if err != nil {
		return fmt.Errorf("listen for SSH: %w", err)
	}
	shell, err := findShell()
	if err != nil {
		return err
	}
	may := fmt.Sprintf("%d keys", len(keys))
	if len(keys) == 1 {
		may = "one key"
	}
	say(fmt.Sprintf("SSH: %s may log in as root; host key %s", may, sshd.Fingerprint(host)))
	go netup.Addresses(ctx, func(a []netip.Addr) {
		if len(a) > 0 {
			say(fmt.Sprintf("SSH: log in at %s (host key %s)", logins(a), sshd.Fingerprint(host)))
		}
	})
	s := &sshd.Server{Host: host, Keys: keys, Exec: run.Exec{}, Shell: []string{shell}, Log: log}
	if err := s.Serve(ctx, l); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func logins(a []netip.Addr) string {
	var s []string
	for _, x := range a {
		s = append(s, "root@"+x.String())
	}
	return strings.Join(s, ", ")
}

// notes sends lines to every console by way of the worker, which may only be
// about to start, or to start again.
func notes(ctx context.Context) func(string) {
	c := make(chan string, 64)
	go func() {
		for {
			var text string
			select {
			case <-ctx.Done():
				return
			case text = <-c:
			}
			for ctx.Err() == nil {
				if _, err := rescue.Send(handoff.AnswersPath, rescue.Request{Do: "note", Text: text, From: "ssh"}); err == nil {
					break
				}
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
			}
		}
	}()
	return func(text string) {
		select {
		case c <- text:
		default: // nobody reads; the log has it
		}
	}
}

// waitKeys reads the keys until there are some: an address answers when the
// network is up, and a person at the console may mend a file. A fault is said
// each time it becomes another one.
func waitKeys(ctx context.Context, from string, say func(string)) ([]authkeys.Key, error) {
	last := ""
	for {
		keys, err := readKeys(ctx, from)
		if err == nil {
			return keys, nil
		}
		p := report.ProblemOf(err)
		if text := "SSH is not served: " + p.Line(); text != last {
			say(text)
			last = text
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Second):
		}
	}
}

func readKeys(ctx context.Context, from string) ([]authkeys.Key, error) {
	name := from
	var data []byte
	var err error
	if u, uerr := url.Parse(from); uerr == nil && u.Host != "" {
		name = u.Redacted()
		data, err = fetch(ctx, from)
	} else {
		data, err = os.ReadFile(from)
	}
	if err != nil {
		return nil, report.Errorf(report.CodeConfig, "name a file of the image, or an address that answers, with lifeboat.ssh=", "read the keys %s: %w", name, err)
	}
	return authkeys.Parse(name, data)
}

func fetch(ctx context.Context, from string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, errors.New("the address cannot be read")
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the address, which may hold a secret
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %s", resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxKeys))
}
