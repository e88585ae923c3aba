package apikey

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/outbox"
)

// hidden stands for a secret in an event.
const hidden = "(secret)"

// differences are the fields that people set and that differ; nil is a key that is not
// there.
func differences(before, after *Key) event.Changes {
	was, is := fields(before), fields(after)
	changes := event.Changes{}
	for _, name := range []string{"name", "roles", "scope", "expires_at"} {
		if !reflect.DeepEqual(was[name], is[name]) {
			changes[name] = event.Change{Before: was[name], After: is[name]}
		}
	}
	return changes
}

func fields(k *Key) map[string]any {
	if k == nil {
		return nil
	}
	f := map[string]any{"name": k.Name, "roles": k.Roles, "scope": k.Scope}
	if k.ExpiresAt != nil {
		f["expires_at"] = k.ExpiresAt.UTC()
	}
	return f
}

// say leaves in the outbox what was done to a key, by whom.
func say(ctx context.Context, tx pgx.Tx, p authn.Principal, k Key, verb string, changes event.Changes) error {
	e := event.APIKeyChanged{Record: event.Record{ID: k.ID, Name: k.Name, Verb: verb, Changes: changes}}
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode %s: %w", event.Type(e), err)
	}
	m := bus.Message{
		Subject: event.Subject(e), ID: id.New("ev-"), Type: event.Type(e), Source: "/certctl/gateway", Entity: "apikey/" + k.ID,
		Time: k.UpdatedAt, AggVersion: k.Revision, Actor: p.ID,
		CorrelationID: obs.RequestID(ctx), TraceParent: obs.TraceParent(ctx), Body: body,
	}
	row, err := m.Outbox(subject.StreamEvents)
	if err != nil {
		return err
	}
	return outbox.Insert(ctx, tx, row)
}
