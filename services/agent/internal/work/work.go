// Package work carries out orders: makes a key and asks for its certificate, installs
// a certificate, or shows a CA that a name leads here, and tells how it went.
//
// An order has its effect once, however often it comes and whenever the agent is
// killed. What is finished is answered with the same report; what was cut off is taken
// to its end when the agent starts ([Worker.Recover]), before it takes new orders; and
// the order is only acknowledged when its report cannot be lost any more: [Worker.Do]
// returns nil then.
//
// A Worker may carry out several orders at once, if they are for different things:
// callers do one deployment at a time.
package work

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/services/agent/internal/identity"
	"github.com/certctl/certctl/services/agent/internal/journal"
	"github.com/certctl/certctl/services/agent/internal/keystore"
	"github.com/certctl/certctl/services/agent/internal/order"
	"github.com/certctl/certctl/services/agent/internal/target"
)

// Reporter delivers reports.
type Reporter interface {
	// Report returns nil once the report cannot be lost.
	Report(ctx context.Context, o order.Order, outcome string, report command.Signed) error
}

// Worker carries out orders.
type Worker struct {
	Identity *identity.Store
	Journal  *journal.Journal
	Keys     *keystore.Store
	// Targets by type, as the API spells it.
	Targets map[string]target.Kind
	// Responder may be nil: the host answers no CA then.
	Responder Responder
	Reporter  Reporter
	Clock     clock.Clock
	Log       *slog.Logger
}

// memory is how long a finished order is remembered. It is longer than any leaf keeps
// orders, and an older one is refused by its expiry.
const memory = 14 * 24 * time.Hour

// Do carries out an order and returns nil once its report cannot be lost, or an error
// if the order is to come again. When ctx ends, it does not begin; what has begun is
// finished.
func (w *Worker) Do(ctx context.Context, o order.Order) error {
	done, ok, err := w.Journal.Finished(o.Key())
	switch {
	case err != nil:
		return err
	case ok:
		return w.repeat(ctx, o, done)
	case w.Journal.Superseded(o.Key()):
		w.log(o).Info("order passed over: a later attempt is known")
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return w.carryOut(context.WithoutCancel(ctx), o)
}

func (w *Worker) carryOut(ctx context.Context, o order.Order) error {
	began := w.Clock.Now()
	report := w.execute(ctx, o)
	report.DurationMillis = w.Clock.Now().Sub(began).Milliseconds()
	report.Error = excerpt(report.Error)
	log := w.log(o).With("outcome", report.Outcome, "duration_ms", report.DurationMillis)
	if report.Error == "" {
		log.InfoContext(ctx, "order carried out")
	} else {
		log.WarnContext(ctx, "order not carried out", "error", report.Error, "permanent", report.Permanent)
	}
	return w.finish(ctx, o, report)
}

func (w *Worker) execute(ctx context.Context, o order.Order) command.AgentReport {
	if _, begun, err := w.Journal.Begun(o.Key()); err == nil && !begun && o.Expired(w.Clock.Now()) {
		return w.failure(o, fmt.Errorf("the order expired at %s, before it could begin", o.ExpiresAt.UTC().Format(time.RFC3339)), false)
	}
	switch o.Verb {
	case command.VerbKeyRequest:
		return w.keyRequest(o)
	case command.VerbDeploy:
		return w.deploy(ctx, o)
	case command.VerbVerify:
		return w.verify(ctx, o)
	case command.VerbHTTP01:
		return w.http01(ctx, o)
	default:
		return w.failure(o, fmt.Errorf("this agent does not know the order %q", o.Verb), true)
	}
}

// finish makes the end of an order durable, then tells it, then clears away.
func (w *Worker) finish(ctx context.Context, o order.Order, report command.AgentReport) error {
	payload, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	signed, err := w.Identity.SignReport(payload)
	if err != nil {
		return err
	}
	if err := w.Journal.Finish(o.Key(), journal.Done{Report: signed, At: report.At}); err != nil {
		if report.Outcome == command.OutcomeCompleted {
			return err
		}
		// With no room for the journal there is none for much else either: tell what can be
		// told. Nothing was done that a repeat would do twice.
		w.log(o).ErrorContext(ctx, "order not journalled", "error", err)
		return w.Reporter.Report(ctx, o, report.Outcome, signed)
	}
	err = w.Reporter.Report(ctx, o, report.Outcome, signed)
	w.settle(ctx, o)
	return err
}

// repeat tells the end of an order that was finished before.
func (w *Worker) repeat(ctx context.Context, o order.Order, done journal.Done) error {
	var report command.AgentReport
	if err := json.Unmarshal(done.Report.Payload, &report); err != nil {
		return fmt.Errorf("decode stored report: %w", err)
	}
	w.log(o).InfoContext(ctx, "order answered from the journal", "outcome", report.Outcome)
	return w.Reporter.Report(ctx, o, report.Outcome, done.Report)
}

// settle clears away what a finished order kept. If that fails it is tried again at
// the next start.
func (w *Worker) settle(ctx context.Context, o order.Order) {
	begun, ok, err := w.Journal.Begun(o.Key())
	if err == nil && ok {
		err = errors.Join(w.clear(o, begun), w.Journal.Settle(o.Key()))
	}
	if err != nil {
		w.log(o).WarnContext(ctx, "order not cleared away", "error", err)
	}
}

// Recover takes what was cut off to its end. It is called before the first order. An
// order that cannot be recovered is logged, and left for the next start.
func (w *Worker) Recover(ctx context.Context) error {
	keys, err := w.Journal.Unsettled()
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	for _, key := range keys {
		if err := w.recover(ctx, key); err != nil {
			w.Log.ErrorContext(ctx, "order not recovered", "job_id", key.JobID, "attempt", key.Attempt, "error", err)
		}
	}
	return nil
}

// Forget drops what was finished long ago.
func (w *Worker) Forget() error { return w.Journal.Prune(w.Clock.Now().Add(-memory)) }

func (w *Worker) recover(ctx context.Context, key journal.Key) error {
	begun, ok, err := w.Journal.Begun(key)
	if err != nil || !ok {
		return err
	}
	var from order.Origin
	if len(begun.Origin) > 0 {
		if err := json.Unmarshal(begun.Origin, &from); err != nil {
			return fmt.Errorf("decode origin: %w", err)
		}
	}
	o, err := order.Recall(begun.Order, from)
	if err != nil {
		return err
	}
	_, finished, err := w.Journal.Finished(key)
	if err != nil {
		return err
	}
	if finished {
		w.settle(ctx, o)
		return nil
	}
	w.log(o).InfoContext(ctx, "order was cut off, taking it up again")
	return w.carryOut(ctx, o)
}

func (w *Worker) failure(o order.Order, err error, permanent bool) command.AgentReport {
	r := o.Report(command.OutcomeFailed, w.Clock.Now())
	r.Error, r.Permanent = err.Error(), permanent
	return r
}

func (w *Worker) log(o order.Order) *slog.Logger {
	return w.Log.With("job_id", o.JobID, "attempt", o.Attempt, "verb", o.Verb)
}

// maxError bounds what a report says of an error, which may quote a command's output.
const maxError = 4 << 10

func excerpt(s string) string {
	if len(s) <= maxError {
		return s
	}
	// The cut may go through a character.
	return strings.ToValidUTF8(s[:maxError], "") + " ..."
}
