package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/archive"
	"lifeboat/backup"
	"lifeboat/internal/cli"
	"lifeboat/report"
)

func (a *app) archive() *cobra.Command {
	c := &cobra.Command{Use: "archive", Short: "List, verify, extract and serve backups of the built-in format"}
	c.AddCommand(a.archiveList(), a.archiveVerify(), a.archiveExtract(), a.archiveServe())
	return group(c)
}

// open opens an archive by path or URL.
func (a *app) open(ctx context.Context, raw string) (backup.Object, *archive.Archive, error) {
	conf, err := a.settings()
	if err != nil {
		return nil, nil, err
	}
	o, err := backup.OpenFile(ctx, raw, backup.Options{TokenFile: conf.Backup.TokenFile, CAFile: conf.Backup.CAFile})
	if err != nil {
		return nil, nil, err
	}
	x, err := backup.OpenArchive(o)
	if err != nil {
		o.Close()
		return nil, nil, err
	}
	return o, x, nil
}

func (a *app) archiveList() *cobra.Command {
	return &cobra.Command{
		Use: "list ARCHIVE", Short: "List what an archive holds", Args: cobra.ExactArgs(1),
		Example: "  lifeboat archive list /srv/backup/web1/20261125T030000Z.lba",
		RunE: func(c *cobra.Command, args []string) error {
			o, x, err := a.open(c.Context(), args[0])
			if err != nil {
				return err
			}
			defer o.Close()
			return x.List(c.Context(), func(e *archive.Entry) error {
				if a.out.JSON {
					return a.out.Line(e)
				}
				a.out.Print("%s", e)
				return nil
			})
		},
	}
}

func (a *app) archiveVerify() *cobra.Command {
	return &cobra.Command{
		Use: "verify ARCHIVE", Short: "Read every frame of an archive and check its digest", Args: cobra.ExactArgs(1),
		Example: "  lifeboat archive verify https://backup:8443/web1/20261125T030000Z.lba",
		RunE: func(c *cobra.Command, args []string) error {
			o, x, err := a.open(c.Context(), args[0])
			if err != nil {
				return err
			}
			defer o.Close()
			info := x.Info()
			err = x.Verify(c.Context(), true, func(p archive.Progress) {
				a.out.Emit(report.Event{Kind: report.Progress, Text: "Verifying", Done: p.Stored, Total: info.Bytes})
			})
			if err != nil {
				return report.Errorf(report.CodeBackupDamaged, "read what is whole with `lifeboat archive extract --salvage`", "%s: %w", o.Name(), err)
			}
			if a.out.JSON {
				return a.out.Value(info)
			}
			a.out.Print("%s is whole: %s in %d frames, host %s, started %s", o.Name(), cli.Size(info.Bytes), info.Frames, info.HostID, info.Started.Format(time.RFC3339))
			for _, m := range info.Mounts {
				a.out.Print("  %-20s %d files, %s", m.Path, m.Files, cli.Size(m.Bytes))
			}
			return nil
		},
	}
}

func (a *app) archiveServe() *cobra.Command {
	var listen, token, cert, key string
	var insecure, open bool
	c := &cobra.Command{
		Use: "serve DIR", Short: "Serve and take archives by HTTP(S), for small sites and tests", Args: cobra.ExactArgs(1),
		Example: "  lifeboat archive serve --cert s.crt --key s.key --token-file /etc/lifeboat/token /srv/backup\n" +
			"  lifeboat archive serve --insecure-lan --listen 10.0.0.5:8080 --token-file /etc/lifeboat/token /srv/backup",
		RunE: func(c *cobra.Command, args []string) error {
			if (cert == "") != (key == "") || cert == "" && !insecure {
				return report.Errorf(report.CodeUsage, "give --cert and --key, or --insecure-lan for plain HTTP on a network that you trust",
					"serving without a certificate sends backups and token in the clear")
			}
			if token == "" && !open {
				return report.Errorf(report.CodeUsage, "give --token-file, or --no-token where everybody may read and replace every backup",
					"archives hold all secrets of their hosts, and no token is asked for")
			}
			if cert != "" {
				if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
					return report.Errorf(report.CodeUsage, "name the files of a certificate and its key, in PEM", "load the certificate: %w", err)
				}
			}
			tok, err := backup.Token(backup.Options{TokenFile: token})
			if err != nil {
				return err
			}
			srv, err := backup.NewServer(args[0], tok, a.out.Debugf)
			if err != nil {
				return err
			}
			return a.listen(c.Context(), srv, listen, cert, key, token == "")
		},
	}
	f := c.Flags()
	f.StringVar(&listen, "listen", ":8443", "address to listen on")
	f.StringVar(&token, "token-file", "", "file of mode 0600 with the token for reading and writing")
	f.StringVar(&cert, "cert", "", "certificate (PEM)")
	f.StringVar(&key, "key", "", "key of the certificate (PEM)")
	f.BoolVar(&insecure, "insecure-lan", false, "plain HTTP")
	f.BoolVar(&open, "no-token", false, "let everybody who reaches the address read and write")
	c.MarkFlagsMutuallyExclusive("token-file", "no-token")
	return c
}

func (a *app) listen(ctx context.Context, h http.Handler, addr, cert, key string, open bool) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return report.Errorf(report.CodeUsage, "choose another address with --listen", "listen: %w", err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 30 * time.Second, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	context.AfterFunc(ctx, func() {
		stop, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if s.Shutdown(stop) != nil {
			s.Close()
		}
	})
	if open {
		a.out.Warn(report.Problem{Code: report.CodeUsage, Severity: report.Warning, Text: fmt.Sprintf("everybody who reaches %s may read and write backups", l.Addr()),
			Next: "give --token-file"})
	}
	a.out.Print("Serving archives on %s", l.Addr())
	if cert != "" {
		err = s.ServeTLS(l, cert, key)
	} else {
		err = s.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve: %w", err)
}

// salvage reads a damaged archive as far as it is whole.
func salvage(raw string) (*os.File, int64, error) {
	f, err := os.Open(raw)
	if err != nil {
		return nil, 0, report.Errorf(report.CodeBackupMissing, "salvage works on local files", "%w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}
