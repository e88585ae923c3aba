package work

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/services/agent/internal/order"
)

// Responder answers CAs that want to see that a name leads to this host.
type Responder interface {
	Show(ctx context.Context, answers []command.HTTP01Answer, until time.Time) error
	Hide(answers []command.HTTP01Answer) error
}

// http01 shows answers or takes them back. A failure is final: whoever waits for it has a CA waiting, and asks anew.
func (w *Worker) http01(ctx context.Context, o order.Order) command.AgentReport {
	var body command.HTTP01
	if err := json.Unmarshal(o.Body, &body); err != nil {
		return w.failure(o, fmt.Errorf("the order cannot be read: %w", err), true)
	}
	var err error
	switch {
	case w.Responder == nil:
		err = fmt.Errorf("this agent does not know the order %q", o.Verb)
	case body.Withdraw:
		err = w.Responder.Hide(body.Answers)
	default:
		err = w.Responder.Show(ctx, body.Answers, body.Until)
	}
	if err != nil {
		return w.failure(o, err, true)
	}
	return o.Report(command.OutcomeCompleted, w.Clock.Now())
}
