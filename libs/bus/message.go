package bus

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/libs/outbox"
)

// The headers of a message. All but the first and the last are CloudEvents 1.0 attributes in binary mode.
const (
	headerMsgID         = "Nats-Msg-Id"
	headerTTL           = "Nats-TTL"
	headerSpecVersion   = "ce-specversion"
	headerID            = "ce-id"
	headerType          = "ce-type"
	headerSource        = "ce-source"
	headerSubject       = "ce-subject"
	headerTime          = "ce-time"
	headerContentType   = "ce-datacontenttype"
	headerSchema        = "ce-dataschema"
	headerAggVersion    = "ce-aggversion"
	headerCorrelationID = "ce-correlationid"
	headerCausationID   = "ce-causationid"
	headerActor         = "ce-actor"
	headerAttempt       = "ce-attempt"
	headerExpiresAt     = "ce-expiresat"
	headerTraceParent   = "traceparent"
)

const (
	specVersion = "1.0"
	jsonType    = "application/json"
)

// Message is an event or a command, apart from the stream that carries it.
type Message struct {
	// Subject is the NATS subject.
	Subject string
	// ID identifies the message for ever: ce-id, Nats-Msg-Id, the key of inbox and outbox. Required.
	ID string
	// Type is the versioned type, such as "certctl.certificate.issued.v1". Required.
	Type string
	// Source is who says it, such as "/certctl/issuer". Required.
	Source string
	// Entity is what it is about, such as "certificate/mc-01h". It is ce-subject, not the NATS subject.
	Entity string
	// Time is when it happened. Required; sent in UTC.
	Time time.Time
	// ContentType is the media type of Body; empty is application/json.
	ContentType string
	// Schema is the URI of the body's JSON Schema, if it has one.
	Schema string
	// AggVersion is the version of the aggregate after this event; a consumer drops what is older than it has seen.
	AggVersion int64
	// CorrelationID is shared by all that follows from one request; CausationID is the ID of the direct cause.
	CorrelationID, CausationID string
	// Actor is the principal who asked for it, if any.
	Actor string
	// Attempt counts the repetitions of a command, from 1. Zero is not sent.
	Attempt int
	// ExpiresAt is when a command is no longer to be carried out. Zero is never.
	ExpiresAt time.Time
	// TTL is how long the stream keeps the message, in whole seconds; the stream must allow it. Zero is the stream's own
	// age limit. It is not read back.
	TTL time.Duration
	// TraceParent is the W3C trace context.
	TraceParent string
	// Body is the payload.
	Body []byte

	// Stream, Sequence and Delivered (from 1) say where a consumed message stands. They are not encoded.
	Stream    string
	Sequence  uint64
	Delivered int
}

// Encode returns m as a NATS message. It refuses a message without its required parts, and text that cannot be a header.
func (m *Message) Encode() (*nats.Msg, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	// Room for all that there can be, since a map that grows costs more than its entries.
	h := make(nats.Header, 16)
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{value}
		}
	}
	set(headerMsgID, m.ID)
	set(headerSpecVersion, specVersion)
	set(headerID, m.ID)
	set(headerType, m.Type)
	set(headerSource, m.Source)
	set(headerTime, m.Time.UTC().Format(time.RFC3339Nano))
	set(headerContentType, cmp.Or(m.ContentType, jsonType))
	set(headerSubject, m.Entity)
	set(headerSchema, m.Schema)
	set(headerCorrelationID, m.CorrelationID)
	set(headerCausationID, m.CausationID)
	set(headerActor, m.Actor)
	set(headerTraceParent, m.TraceParent)
	if m.AggVersion != 0 {
		set(headerAggVersion, strconv.FormatInt(m.AggVersion, 10))
	}
	if m.Attempt != 0 {
		set(headerAttempt, strconv.Itoa(m.Attempt))
	}
	if !m.ExpiresAt.IsZero() {
		set(headerExpiresAt, m.ExpiresAt.UTC().Format(time.RFC3339Nano))
	}
	if m.TTL > 0 {
		set(headerTTL, strconv.FormatInt(max(int64(m.TTL/time.Second), 1), 10)+"s")
	}
	return &nats.Msg{Subject: m.Subject, Header: h, Data: m.Body}, nil
}

// Outbox returns m as a row for the outbox, to be published to stream.
func (m *Message) Outbox(stream string) (outbox.Message, error) {
	msg, err := m.Encode()
	if err != nil {
		return outbox.Message{}, err
	}
	return outbox.Message{ID: m.ID, Stream: stream, Subject: m.Subject, Header: msg.Header, Body: m.Body}, nil
}

func (m *Message) validate() error {
	for _, f := range [...]struct{ name, value string }{
		{"id", m.ID}, {"type", m.Type}, {"source", m.Source}, {"subject", m.Subject},
	} {
		if f.value == "" {
			return fmt.Errorf("encode message %q: no %s", m.ID, f.name)
		}
	}
	if m.Time.IsZero() {
		return fmt.Errorf("encode message %q: no time", m.ID)
	}
	for _, f := range [...]struct{ name, value string }{
		{"id", m.ID},
		{"type", m.Type},
		{"source", m.Source},
		{"entity", m.Entity},
		{"content type", m.ContentType},
		{"schema", m.Schema},
		{"correlation id", m.CorrelationID},
		{"causation id", m.CausationID},
		{"actor", m.Actor},
		{"trace parent", m.TraceParent},
	} {
		if !headerSafe(f.value) {
			return fmt.Errorf("encode message %q: %s cannot be a header: %q", m.ID, f.name, f.value)
		}
	}
	if strings.ContainsAny(m.Subject, " \t\r\n*>") {
		return fmt.Errorf("encode message %q: %q is no subject to publish to", m.ID, m.Subject)
	}
	return nil
}

// headerSafe reports whether a value arrives as it was sent: no control characters (a line break would begin another
// header), and no blanks at its ends, which the protocol trims.
func headerSafe(v string) bool {
	for i := range len(v) {
		if v[i] < ' ' || v[i] == 0x7f {
			return false
		}
	}
	return v == "" || (v[0] != ' ' && v[len(v)-1] != ' ')
}

// Decode reads a message from its NATS form. Unknown headers are ignored; what is required and absent, or malformed, is
// an error that names the header.
func Decode(subject string, h nats.Header, body []byte) (Message, error) {
	m := Message{
		Subject:       subject,
		ID:            first(h, headerID),
		Type:          first(h, headerType),
		Source:        first(h, headerSource),
		Entity:        first(h, headerSubject),
		ContentType:   first(h, headerContentType),
		Schema:        first(h, headerSchema),
		CorrelationID: first(h, headerCorrelationID),
		CausationID:   first(h, headerCausationID),
		Actor:         first(h, headerActor),
		TraceParent:   first(h, headerTraceParent),
		Body:          body,
	}
	if v := first(h, headerSpecVersion); v != specVersion {
		return m, fmt.Errorf("decode message on %s: %s is %q, not %q", subject, headerSpecVersion, v, specVersion)
	}
	if id := first(h, headerMsgID); id != "" && id != m.ID {
		return m, fmt.Errorf("decode message on %s: %s %q and %s %q differ", subject, headerID, m.ID, headerMsgID, id)
	}
	for _, f := range [...]struct{ name, value string }{
		{headerID, m.ID}, {headerType, m.Type}, {headerSource, m.Source},
	} {
		if f.value == "" {
			return m, fmt.Errorf("decode message on %s: no %s", subject, f.name)
		}
	}
	return m, m.decodeNumbers(h)
}

func (m *Message) decodeNumbers(h nats.Header) error {
	malformed := func(name string, err error) error {
		return fmt.Errorf("decode message %s on %s: %s: %w", m.ID, m.Subject, name, err)
	}
	var err error
	if m.Time, err = time.Parse(time.RFC3339Nano, first(h, headerTime)); err != nil {
		return malformed(headerTime, err)
	}
	if v := first(h, headerAggVersion); v != "" {
		if m.AggVersion, err = strconv.ParseInt(v, 10, 64); err != nil {
			return malformed(headerAggVersion, err)
		}
	}
	if v := first(h, headerAttempt); v != "" {
		if m.Attempt, err = strconv.Atoi(v); err != nil {
			return malformed(headerAttempt, err)
		}
	}
	if v := first(h, headerExpiresAt); v != "" {
		if m.ExpiresAt, err = time.Parse(time.RFC3339Nano, v); err != nil {
			return malformed(headerExpiresAt, err)
		}
	}
	return nil
}

func first(h nats.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}
