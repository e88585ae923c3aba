package work

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/services/agent/internal/order"
)

// verify looks at what a target serves and compares it with what is ordered. It changes
// nothing, so there is nothing to be taken up after a crash: a repeat looks again. What
// was seen is final, be it nothing: whoever wants to know later asks again.
func (w *Worker) verify(ctx context.Context, o order.Order) command.AgentReport {
	var body command.Deploy
	if err := json.Unmarshal(o.Body, &body); err != nil {
		return w.failure(o, fmt.Errorf("the order cannot be read: %w", err), true)
	}
	t, err := w.open(body)
	if err != nil {
		return w.failure(o, err, true)
	}
	wanted, err := ordered(body)
	if err != nil {
		return w.failure(o, err, true)
	}
	seen, err := t.Served(ctx, wanted)
	switch {
	case err != nil:
		return w.failure(o, err, true)
	case seen != wanted.Fingerprint:
		r := w.failure(o, fmt.Errorf("the target serves the certificate %s, not %s", seen, wanted.Fingerprint), true)
		r.ServedFingerprintSHA256 = seen
		return r
	}
	r := o.Report(command.OutcomeCompleted, w.Clock.Now())
	r.ServedFingerprintSHA256 = seen
	return r
}
