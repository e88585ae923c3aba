package postgres

import (
	"encoding/json"
	"fmt"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

const (
	eventPrefix = "ev-"
	source      = "/certctl/issuer"
)

// events are facts as messages, each with a key by which a statement finds the row that it tells of.
type events struct {
	keys []string
	// before is how many versions before that of the row each fact is.
	before   []int64
	messages []outbox.Message
}

// add encodes a fact. A version of zero leaves it to the statement to set.
func (e *events) add(key string, f issuance.Fact, version int64) error {
	body, err := json.Marshal(f.Event)
	if err != nil {
		return fmt.Errorf("encode %s: %w", event.Type(f.Event), err)
	}
	aggregate, of, _ := f.Event.About()
	m := bus.Message{
		Subject: event.Subject(f.Event), ID: id.New(eventPrefix), Type: event.Type(f.Event), Source: source,
		Entity: aggregate + "/" + of, Time: f.At, AggVersion: version, Actor: f.Actor,
		CorrelationID: f.CorrelationID, CausationID: f.CausationID, TraceParent: f.TraceParent, Body: body,
	}
	row, err := m.Outbox(subject.StreamEvents)
	if err != nil {
		return err
	}
	e.keys = append(e.keys, key)
	e.before = append(e.before, 0)
	e.messages = append(e.messages, row)
	return nil
}

// tell adds facts about one thing, which it has become by one change, in their order.
func (e *events) tell(key string, facts []issuance.Fact) error {
	for i, f := range facts {
		if err := e.add(key, f, 0); err != nil {
			return err
		}
		e.before[len(e.before)-1] = int64(len(facts) - 1 - i)
	}
	return nil
}

// args are the arguments that insertEvents expects, in its order.
func (e *events) args() []any {
	columns := outbox.ColumnsOf(e.messages)
	return append([]any{e.keys, e.before}, columns.Args()...)
}

// eventWidth is how many arguments insertEvents expects.
const eventWidth = 7

// insertEvents is a WITH part that writes the events whose keys are in the column key of a part, with the version in
// that part's column version. Its seven arguments begin at parameter number first.
func insertEvents(part, key string, first int) string {
	return fmt.Sprintf(`INSERT INTO outbox (msg_id, stream, subject, headers, body)
	SELECT e.id, e.stream, e.subject, (left(e.header, -1) || ',"ce-aggversion":["' || p.version - e.before || '"]}')::json, e.body
	FROM unnest($%d::text[], $%d::bigint[], $%d::text[], $%d::text[], $%d::text[], $%d::text[], $%d::bytea[])
		AS e (key, before, id, stream, subject, header, body)
	JOIN %s p ON p.%s = e.key`, first, first+1, first+2, first+3, first+4, first+5, first+6, part, key)
}
