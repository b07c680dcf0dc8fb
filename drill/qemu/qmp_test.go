package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
)

// fakeQEMU answers like QEMU does: greeting, events between answers, an error.
func fakeQEMU(t *testing.T, conn net.Conn) {
	send := func(s string) {
		if _, err := conn.Write([]byte(s + "\n")); err != nil {
			t.Error(err)
		}
	}
	send(`{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}`)
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		var q struct{ Execute, ID string }
		if err := json.Unmarshal(line, &q); err != nil {
			t.Errorf("%s: %v", line, err)
			return
		}
		switch q.Execute {
		case "qmp_capabilities":
			send(`{"return": {}, "id": "` + q.ID + `"}`)
		case "system_reset":
			send(`{"timestamp": {"seconds": 1764039600, "microseconds": 5}, "event": "RESET", "data": {"guest": false, "reason": "host-qmp-system-reset"}}`)
			send(`{"return": {}, "id": "` + q.ID + `"}`)
		case "quit":
			conn.Close()
			return
		default:
			send(`{"id": "` + q.ID + `", "error": {"class": "CommandNotFound", "desc": "The command ` + q.Execute + ` has not been found"}}`)
		}
	}
}

func TestQMP(t *testing.T) {
	here, there := net.Pipe()
	go fakeQEMU(t, there)
	ctx := t.Context()
	q, err := newQMP(ctx, here)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Execute(ctx, "dance", nil); !Refused(err) || !strings.Contains(err.Error(), "dance has not been found") {
		t.Errorf("have %v", err)
	}
	if _, err := q.Execute(ctx, "system_reset", nil); err != nil {
		t.Fatal(err)
	}
	e, err := q.WaitEvent(ctx, 0, func(e Event) bool { return e.Name == "RESET" })
	if err != nil || e.Data["reason"] != "host-qmp-system-reset" || e.At.Unix() != 1764039600 {
		t.Errorf("have %+v, %v", e, err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := q.WaitEvent(gone, q.Mark(), func(Event) bool { return true }); err != context.Canceled {
		t.Errorf("an old event was taken for a new one: %v", err)
	}
	if _, err := q.Execute(ctx, "quit", nil); !Ended(err) {
		t.Errorf("have %v", err)
	}
	if _, err := q.Execute(ctx, "query-status", nil); !Ended(err) {
		t.Errorf("have %v", err)
	}
}

func TestQMPGreeting(t *testing.T) {
	here, there := net.Pipe()
	go there.Write([]byte("HTTP/1.1 400 Bad Request\r\n"))
	if _, err := newQMP(t.Context(), here); err == nil || !strings.Contains(err.Error(), "HTTP/1.1") {
		t.Errorf("have %v", err)
	}
}
