package main

import (
	"os"
	"path/filepath"
	"testing"

	"lifeboat/report"
	"lifeboat/rescue"
)

func TestRequest(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		args []string
		want rescue.Request
	}{
		{"recover", nil, rescue.Request{Attended: true}},
		{"recover", []string{"--auto"}, rescue.Request{}},
		{"recover", []string{"--auto", "--backup", "http://s/h/1.lba"}, rescue.Request{Backup: "http://s/h/1.lba"}},
		{"recover", []string{"--backup=store", "--mapping", "/m.yaml"}, rescue.Request{Attended: true, Backup: filepath.Join(here, "store"), Mapping: "/m.yaml"}},
		{"plan", []string{"--mapping=m.yaml"}, rescue.Request{Attended: true, Mapping: filepath.Join(here, "m.yaml")}},
	} {
		c.want.Do, c.want.From = c.what, "shell"
		if got, err := request(c.what, c.args); err != nil || got != c.want {
			t.Errorf("%s %v: %+v, %v", c.what, c.args, got, err)
		}
	}
	// A typing error never begins a recovery, least of all one without a person.
	for _, args := range [][]string{{"--atuo"}, {"auto"}, {"--auto", "now"}, {"--backup"}} {
		if _, err := request("recover", args); report.ExitOf(err) != report.ExitUsage {
			t.Errorf("recover %v: %v", args, err)
		}
	}
	if _, err := request("plan", []string{"--auto"}); report.ExitOf(err) != report.ExitUsage {
		t.Errorf("plan --auto: %v", err)
	}
}
