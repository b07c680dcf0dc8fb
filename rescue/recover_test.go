package rescue

import (
	"testing"

	"lifeboat/internal/handoff"
)

// TestRequestForOneTry: another archive or mapping counts for the try that
// names it, and the next one follows the order again.
func TestRequestForOneTry(t *testing.T) {
	w := &Worker{Order: handoff.Order{Mapping: "/etc/m.yaml", Backup: handoff.Backup{Method: "archive", URL: "http://s/h/1.lba", TokenFile: "/t"}}}
	s := w.newSession(Request{Do: "recover", Attended: true, Backup: "/mnt/h/2.lba", Mapping: "/m.yaml"})
	if want := (handoff.Backup{Method: "archive", URL: "/mnt/h/2.lba", TokenFile: "/t"}); s.order.Backup != want || s.order.Mapping != "/m.yaml" || !s.attended {
		t.Errorf("%+v, attended %v", s.order, s.attended)
	}
	if s = w.newSession(Request{Do: "recover"}); s.order.Backup != w.Order.Backup || s.order.Mapping != "/etc/m.yaml" || s.attended {
		t.Errorf("the next try: %+v, attended %v", s.order, s.attended)
	}
}
