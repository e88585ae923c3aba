package audit_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/auditapi"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
)

func (w *world) deadLetterList(query string) (l auditapi.DeadLetterList, ok bool) {
	w.Helper()
	res := w.ask("listDeadLetters", "/api/v1/dead-letters?"+query)
	if res == nil {
		return l, false
	}
	if err := json.NewDecoder(res.Body).Decode(&l); err != nil || res.StatusCode != http.StatusOK {
		w.Fatalf("%s: status %d, %v", query, res.StatusCode, err)
	}
	return l, true
}

func TestDeadLetters_AreListedWithTheReasonAndNothingOfWhatTheyHold(t *testing.T) {
	w := newWorld(t)
	good := w.fact(event.CertificateArchived{CertificateID: "mc-1"})
	good.Data = []byte(`{"secret"`)
	w.publish(good)
	// One of another service, of which only what its consumer added can be read.
	w.publish(&nats.Msg{Subject: subject.DeadLetter("issuer", "issuer-evt"), Data: []byte("junk"), Header: nats.Header{
		nats.MsgIdHdr: {"dlq:issuer-evt:EVT-7"}, bus.HeaderDLQConsumer: {"issuer-evt"}, bus.HeaderDLQError: {"no headers"},
		bus.HeaderDLQSubject: {"certctl.evt.x.y.z"}, bus.HeaderDLQDelivered: {"10"},
	}})
	w.run()
	var l auditapi.DeadLetterList
	w.await("both letters", func() bool {
		var ok bool
		l, ok = w.deadLetterList("")
		return ok && l.Total == 2 && len(l.Data) == 2
	})
	mine, other := l.Data[0], l.Data[1]
	if mine.Service != "audit" || mine.Consumer != "audit-evt" || mine.Type != event.Type(event.CertificateArchived{}) || mine.Entity != "certificate/mc-1" ||
		mine.MessageID != good.Header.Get("ce-id") || mine.Subject != good.Subject || mine.Reason == "" || mine.Delivered < 1 || mine.Size != len(good.Data) ||
		mine.StoredAt.IsZero() {
		t.Errorf("%+v", mine)
	}
	if other.Service != "issuer" || other.Consumer != "issuer-evt" || other.Reason != "no headers" || other.Delivered != 10 || other.MessageID != "EVT-7" {
		t.Errorf("%+v", other)
	}
}

func TestDeadLetters_ComeByPageAndByCursorNewestFirst(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.await("the service", func() bool {
		l, ok := w.deadLetterList("")
		return ok && l.Total == 0 && l.Data != nil && l.NextCursor == nil
	})
	for i := range 7 {
		w.publish(&nats.Msg{Subject: subject.DeadLetter("issuer", "issuer-evt"), Header: nats.Header{nats.MsgIdHdr: {fmt.Sprint("dlq:issuer-evt:", i)}}})
	}
	read := func(query string) (ids string, next *string) {
		l, ok := w.deadLetterList(query)
		if !ok || l.Total != 7 {
			t.Fatalf("%s: %v, %+v", query, ok, l)
		}
		for _, d := range l.Data {
			ids += d.ID
		}
		return ids, l.NextCursor
	}
	for query, want := range map[string]string{
		"": "7654321", "per_page=3": "765", "per_page=3&page=2": "432", "per_page=3&page=3": "1", "per_page=3&page=4": "", "per_page=7": "7654321", "per_page=500&page=20": "",
	} {
		if got, _ := read(query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	var all string
	for query := "per_page=3"; ; {
		ids, next := read(query)
		all += ids
		if next == nil {
			break
		}
		// One that comes meanwhile would be on the first page.
		query = "per_page=3&cursor=" + *next
	}
	if all != "7654321" {
		t.Errorf("by cursor come %s", all)
	}
	if res := w.ask("listDeadLetters", "/api/v1/dead-letters?cursor=x"); res == nil || res.StatusCode != http.StatusBadRequest {
		t.Errorf("%+v", res)
	}
}
