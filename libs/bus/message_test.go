package bus

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"
)

func valid() Message {
	return Message{
		Subject: "certctl.evt.certificate.mc-1.issued", ID: "ev-1", Type: "certctl.certificate.issued.v1",
		Source: "/certctl/issuer", Time: time.Unix(1_800_000_000, 5).UTC(), Body: []byte(`{"id":"mc-1"}`),
	}
}

func TestEncode_WritesCloudEventsInBinaryMode(t *testing.T) {
	m := valid()
	m.Entity, m.AggVersion, m.Schema, m.Actor = "certificate/mc-1", 7, "https://certctl.dev/schema/x.json", "u-1"
	m.CorrelationID, m.CausationID, m.TraceParent = "req-1", "ev-0", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	m.Attempt, m.ExpiresAt, m.TTL = 2, m.Time.Add(time.Hour), 90*time.Second
	got, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := &nats.Msg{Subject: m.Subject, Data: m.Body, Header: nats.Header{
		"Nats-Msg-Id": {"ev-1"}, "Nats-TTL": {"90s"}, "ce-id": {"ev-1"}, "ce-specversion": {"1.0"},
		"ce-type": {"certctl.certificate.issued.v1"}, "ce-source": {"/certctl/issuer"}, "ce-subject": {"certificate/mc-1"},
		"ce-time": {"2027-01-15T08:00:00.000000005Z"}, "ce-datacontenttype": {"application/json"},
		"ce-dataschema": {"https://certctl.dev/schema/x.json"}, "ce-aggversion": {"7"}, "ce-correlationid": {"req-1"},
		"ce-causationid": {"ev-0"}, "ce-actor": {"u-1"}, "ce-attempt": {"2"}, "ce-expiresat": {"2027-01-15T09:00:00.000000005Z"},
		"traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
	}}
	if diff := cmp.Diff(want.Header, got.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if got.Subject != want.Subject || string(got.Data) != string(want.Data) {
		t.Errorf("message is %s %s", got.Subject, got.Data)
	}
}

func TestDecode_ReturnsWhatWasEncoded(t *testing.T) {
	text := rapid.StringMatching(`([!-~]([ -~]{0,20}[!-~])?)?`)
	required := rapid.StringMatching(`[a-z0-9/.:-]{1,30}`)
	instant := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(1, 4_000_000_000).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
	})
	rapid.Check(t, func(t *rapid.T) {
		want := Message{
			Subject: "certctl.evt.x", ID: required.Draw(t, "id"), Type: required.Draw(t, "type"), Source: required.Draw(t, "source"),
			Entity: text.Draw(t, "entity"), Time: instant.Draw(t, "time"), ContentType: "application/json",
			Schema: text.Draw(t, "schema"), AggVersion: rapid.Int64().Draw(t, "version"),
			CorrelationID: text.Draw(t, "correlation"), CausationID: text.Draw(t, "causation"), Actor: text.Draw(t, "actor"),
			Attempt: rapid.IntRange(0, 1000).Draw(t, "attempt"), TraceParent: text.Draw(t, "trace"),
			Body: rapid.SliceOf(rapid.Byte()).Draw(t, "body"),
		}
		if rapid.Bool().Draw(t, "expires") {
			want.ExpiresAt = instant.Draw(t, "expiry")
		}
		msg, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		// Size writes the header block, as sending does, and fails on what cannot be sent.
		if msg.Size() <= len(want.Body) {
			t.Fatal("no header block")
		}
		got, err := Decode(msg.Subject, msg.Header, msg.Data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestEncode_RefusesWhatIsIncompleteOrCannotBeAHeader(t *testing.T) {
	for name, spoil := range map[string]func(*Message){
		"no id":                     func(m *Message) { m.ID = "" },
		"no type":                   func(m *Message) { m.Type = "" },
		"no source":                 func(m *Message) { m.Source = "" },
		"no subject":                func(m *Message) { m.Subject = "" },
		"no time":                   func(m *Message) { m.Time = time.Time{} },
		"id with a line break":      func(m *Message) { m.ID = "ev-1\r\nNats-TTL: 1s" },
		"actor with a line feed":    func(m *Message) { m.Actor = "a\nb" },
		"actor with a blank at end": func(m *Message) { m.Actor = "a " },
		"entity with a NUL":         func(m *Message) { m.Entity = "a\x00" },
		"subject with a wildcard":   func(m *Message) { m.Subject = "certctl.evt.>" },
		"subject with a blank":      func(m *Message) { m.Subject = "certctl.evt x" },
		"subject with a line break": func(m *Message) { m.Subject = "certctl.evt\r\nPUB x" },
	} {
		m := valid()
		spoil(&m)
		if _, err := m.Encode(); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := m.Outbox("EVT"); err == nil {
			t.Errorf("%s: accepted for the outbox", name)
		}
	}
}

func TestDecode_NamesTheHeaderAtFault(t *testing.T) {
	for header, value := range map[string]string{
		"ce-specversion": "2.0", "ce-id": "", "ce-type": "", "ce-source": "", "ce-time": "yesterday", "ce-aggversion": "x",
		"ce-attempt": "x", "ce-expiresat": "x", "Nats-Msg-Id": "another",
	} {
		m := valid()
		msg, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		msg.Header[header] = []string{value}
		if value == "" {
			delete(msg.Header, header)
			delete(msg.Header, "Nats-Msg-Id")
		}
		if _, err := Decode(msg.Subject, msg.Header, msg.Data); err == nil || !strings.Contains(err.Error(), header) {
			t.Errorf("%s %q: %v", header, value, err)
		}
	}
	if _, err := Decode("x", nil, nil); err == nil {
		t.Error("a message without headers was decoded")
	}
}

func TestReconnectDelay_GrowsAndIsSpread(t *testing.T) {
	for attempt := range 100 {
		d := reconnectDelay(attempt)
		if d < reconnectBase/2 || d > reconnectCap {
			t.Errorf("attempt %d waits %s", attempt, d)
		}
	}
	if reconnectDelay(1) >= reconnectBase || reconnectDelay(50) < reconnectCap/2 {
		t.Error("delay does not grow")
	}
}

func TestOneLine_FitsAHeader(t *testing.T) {
	if got := oneLine(" a\r\nb\x00" + strings.Repeat("é", 2000)); !headerSafe(got) || len(got) > maxErrorText || !strings.HasPrefix(got, "a  b é") {
		t.Errorf("got %d bytes: %.20q", len(got), got)
	}
}
