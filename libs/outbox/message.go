package outbox

import (
	"context"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5/pgconn"
)

// Message is one row of the outbox: what is to be published, and where.
type Message struct {
	// ID makes the message known to everyone who may see it twice. The writer sees to it that it is unique, as package
	// id makes them: a second message of the same ID would be taken for the first, and have no effect.
	ID string
	// Stream is the stream that takes the message. Messages of one stream are published together.
	Stream string
	// Subject is the subject that it is published on.
	Subject string
	// Header is passed on as it is.
	Header map[string][]string
	// Body is passed on as it is.
	Body []byte
}

// Execer runs a statement: a transaction, a connection, or a pool.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Insert writes messages in one statement. With no messages it does nothing.
func Insert(ctx context.Context, db Execer, messages ...Message) error {
	if len(messages) == 0 {
		return nil
	}
	columns := ColumnsOf(messages)
	if _, err := db.Exec(ctx, insertFirst, columns.Args()...); err != nil {
		return fmt.Errorf("insert %d messages into outbox: %w", len(messages), err)
	}
	return nil
}

// Columns are messages turned by a quarter: one array per column, as the statement of InsertSQL takes them.
type Columns struct {
	IDs, Streams, Subjects, Headers []string
	Bodies                          [][]byte
}

// ColumnsOf returns the columns of messages.
func ColumnsOf(messages []Message) Columns {
	c := Columns{
		IDs:      make([]string, len(messages)),
		Streams:  make([]string, len(messages)),
		Subjects: make([]string, len(messages)),
		Headers:  make([]string, len(messages)),
		Bodies:   make([][]byte, len(messages)),
	}
	for i, m := range messages {
		c.IDs[i], c.Streams[i], c.Subjects[i], c.Headers[i], c.Bodies[i] = m.ID, m.Stream, m.Subject, encodeHeader(m.Header), m.Body
		if m.Body == nil {
			c.Bodies[i] = []byte{}
		}
	}
	return c
}

// Args returns the five arguments that InsertSQL expects, in its order.
func (c Columns) Args() []any {
	return []any{c.IDs, c.Streams, c.Subjects, c.Headers, c.Bodies}
}

var insertFirst = InsertSQL(1)

// InsertSQL returns the statement that writes Columns, whose arguments begin at parameter number first. It returns no
// rows, so it can stand as one WITH part of a statement that also makes the change which the messages tell of. That the
// messages are to be sent is noted by a trigger of the table, at the end of the statement that inserts them.
func InsertSQL(first int) string {
	return fmt.Sprintf(`INSERT INTO outbox (msg_id, stream, subject, headers, body)
SELECT id, stream, subject, header::json, body
FROM unnest($%d::text[], $%d::text[], $%d::text[], $%d::text[], $%d::bytea[]) AS m (id, stream, subject, header, body)`,
		first, first+1, first+2, first+3, first+4)
}

// encodeHeader writes a header as JSON, by hand: it is written for every message, and encoding/json takes ten times as long
// for a map. Text that is no UTF-8 is mended.
func encodeHeader(h map[string][]string) string {
	out := append(make([]byte, 0, 1<<10), '{')
	for name, values := range h {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out, _ = jsontext.AppendQuote(out, name)
		out = append(out, ':', '[')
		for i, v := range values {
			if i > 0 {
				out = append(out, ',')
			}
			out, _ = jsontext.AppendQuote(out, v)
		}
		out = append(out, ']')
	}
	return string(append(out, '}'))
}
