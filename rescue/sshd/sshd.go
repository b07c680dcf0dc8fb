// Package sshd is the SSH server of the rescue system: keys only, root only,
// an own host key, and nothing of the host's configuration.
// Level 4.
package sshd

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"lifeboat/internal/authkeys"
	"lifeboat/internal/run"
)

// Server is one SSH server.
type Server struct {
	Host  ssh.Signer
	Keys  []authkeys.Key
	Exec  run.Exec
	Shell []string // argv of a login shell
	Log   func(format string, args ...any)

	mu    sync.Mutex
	since time.Time // of the counts
	from  map[netip.Addr]int
	open  map[netip.Addr]int // not yet logged in
}

// Limits of people who have not shown a key yet. A scanner must not take the
// machine's memory, nor keep the owner out.
const (
	perMinute     = 30 // connections from one address
	openPerAddr   = 4
	openAll       = 16
	addresses     = 4096 // counted at once
	loginPatience = 30 * time.Second
	maxTries      = 6 // keys that a client offers in one connection
)

// HostKey reads the host key of this boot, or makes a fresh one: a restart of
// the server is no new host. The path lies in memory, never on a disk.
func HostKey(path string) (ssh.Signer, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, key, gerr := ed25519.GenerateKey(rand.Reader)
		if gerr != nil {
			return nil, fmt.Errorf("make a host key: %w", gerr)
		}
		block, merr := ssh.MarshalPrivateKey(key, "lifeboat rescue system")
		if merr != nil {
			return nil, fmt.Errorf("make a host key: %w", merr)
		}
		data = pem.EncodeToMemory(block)
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	return ssh.ParsePrivateKey(data)
}

// Fingerprint is the host key as ssh shows it at the first connection.
func Fingerprint(s ssh.Signer) string {
	return "ED25519 " + ssh.FingerprintSHA256(s.PublicKey())
}

func (s *Server) config() *ssh.ServerConfig {
	c := &ssh.ServerConfig{MaxAuthTries: maxTries, ServerVersion: "SSH-2.0-Lifeboat",
		PublicKeyCallback: func(m ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
			for _, a := range s.Keys {
				if m.User() == "root" && a.Public.Type() == k.Type() && string(a.Public.Marshal()) == string(k.Marshal()) {
					return &ssh.Permissions{Extensions: map[string]string{"key": ssh.FingerprintSHA256(k), "who": a.Comment}}, nil
				}
			}
			return nil, errors.New("the key is not one of those that may log in as root")
		}}
	c.AddHostKey(s.Host)
	return c
}

// Serve takes connections until ctx ends or the listener fails.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	cfg := s.config()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			var tmp interface{ Temporary() bool }
			if errors.As(err, &tmp) && tmp.Temporary() { // out of descriptors: others will end
				time.Sleep(100 * time.Millisecond)
				continue
			}
			return fmt.Errorf("take an SSH connection: %w", err)
		}
		who := addrOf(c)
		if !s.admit(who) {
			c.Close()
			continue
		}
		go s.connection(ctx, c, cfg, who)
	}
}

func addrOf(c net.Conn) netip.Addr {
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		return a.Addr().Unmap()
	}
	return netip.Addr{}
}

// admit counts a connection and tells whether it may try.
func (s *Server) admit(who netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.from == nil || now.Sub(s.since) > time.Minute || len(s.from) > addresses {
		s.since, s.from = now, map[netip.Addr]int{}
	}
	if s.open == nil {
		s.open = map[netip.Addr]int{}
	}
	all := 0
	for _, n := range s.open {
		all += n
	}
	if s.from[who] >= perMinute || s.open[who] >= openPerAddr || all >= openAll {
		if s.from[who] == perMinute {
			s.Log("ssh: more than %d connections a minute from %s; the others are closed", perMinute, who)
		}
		s.from[who]++
		return false
	}
	s.from[who]++
	s.open[who]++
	return true
}

// settled ends the time of a connection that counts as not logged in.
func (s *Server) settled(who netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[who]--; s.open[who] <= 0 {
		delete(s.open, who)
	}
}

func (s *Server) connection(ctx context.Context, c net.Conn, cfg *ssh.ServerConfig, who netip.Addr) {
	defer c.Close()
	defer s.recovered()
	_ = c.SetDeadline(time.Now().Add(loginPatience))
	conn, chans, reqs, err := ssh.NewServerConn(c, cfg)
	s.settled(who)
	if err != nil {
		s.Log("ssh: %s did not log in: %v", who, err)
		return
	}
	_ = c.SetDeadline(time.Time{})
	s.Log("ssh: %s logged in with the key %s (%s)", who, conn.Permissions.Extensions["key"], conn.Permissions.Extensions["who"])
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go ssh.DiscardRequests(reqs)
	for nc := range chans {
		if nc.ChannelType() != "session" {
			// No forwarding: this machine is no way into another network.
			_ = nc.Reject(ssh.UnknownChannelType, "only sessions are served")
			continue
		}
		ch, in, err := nc.Accept()
		if err != nil {
			break
		}
		v := &visit{s: s, ch: ch, conn: conn, env: map[string]string{}}
		go v.serve(ctx, in)
	}
	s.Log("ssh: %s left", who)
}

// recovered keeps a fault in one connection from ending the others.
func (s *Server) recovered() {
	if p := recover(); p != nil {
		s.Log("ssh: internal error: %v", p)
	}
}
