//go:build root

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func configFor(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "lifeboat.yaml")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestCheckHangs: a store that takes the connection and never answers is
// UNKNOWN when the time is up, and the line says what did not answer, without
// the password.
func TestCheckHangs(t *testing.T) {
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(hang)
	url := strings.Replace(srv.URL, "http://", "http://user:word@", 1)
	conf := configFor(t, fmt.Sprintf("backup: {url: %q}\n", url))
	code, stdout, stderr := runApp(t, "check", "--config", conf, "--timeout", "3s")
	want := "LIFEBOAT UNKNOWN - no answer within 3s while looking at the backup in http://user:xxxxx@127.0.0.1"
	if code != 3 || !strings.HasPrefix(stdout, want) || strings.Contains(stdout+stderr, "word@") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

// TestCheckServerDown: nothing listens, and the answer comes long before the
// time is up.
func TestCheckServerDown(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	conf := configFor(t, fmt.Sprintf("backup: {url: %q}\n", srv.URL))
	srv.Close()
	code, stdout, stderr := runApp(t, "check", "--json", "--config", conf)
	var doc struct {
		State    string
		Exit     int
		Findings []struct{ State, Code, Text, Next string }
	}
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil || code != 2 || doc.Exit != 2 || doc.State != "CRITICAL" || stderr != "" {
		t.Fatalf("exit %d, %v, %q, %q", code, err, stdout, stderr)
	}
	for _, f := range doc.Findings {
		if f.Code == "backup-missing" && strings.Contains(f.Text, "refused") && f.State == "CRITICAL" && f.Next != "" {
			return
		}
	}
	t.Errorf("the server that is down is not told: %s", stdout)
}
