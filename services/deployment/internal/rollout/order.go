package rollout

import (
	"time"

	"github.com/certctl/certctl/libs/retry"
)

// OrderState is how far an order has come.
type OrderState string

// The states of an order. The first two are open.
const (
	OrderSent       OrderState = "Sent"
	OrderStarted    OrderState = "Started"
	OrderDone       OrderState = "Done"
	OrderFailed     OrderState = "Failed"
	OrderSuperseded OrderState = "Superseded"
	OrderExpired    OrderState = "Expired"
)

// busy is how long an agent that said that it began may be silent before the order is
// sent again; an agent at work on it, or done with it, takes no harm from the repeat.
const busy = 10 * time.Minute

// Order is one attempt at a job, as it was given to an agent.
type Order struct {
	JobID         string
	Attempt       int
	Verb          string
	AgentID       string
	SiteID        string
	CertificateID string

	State OrderState
	// Body is what is ordered, as JSON, without the chain of certificates, which its job's version has. It is stored as
	// long as the order is open, and read for those that are sent again.
	Body []byte
	// Signed is the order as it is sent, of one that is about to be.
	Signed []byte
	// Sends counts how often it was sent.
	Sends int
	// Deadline is when it is sent again if it is still unanswered.
	Deadline time.Time
	// ExpiresAt is when the agent refuses to begin with it.
	ExpiresAt time.Time
	CreatedAt time.Time
	ClosedAt  time.Time
	// Reason is what the agent said of answers to a CA that it could not show.
	Reason string

	Correlation, TraceParent string
}

// Open reports whether the order is unanswered.
func (o *Order) Open() bool { return o.State == OrderSent || o.State == OrderStarted }

// Resend notes that the order is sent once more, and when it is due again. A host may
// be away for days, so the waits grow; the last one ends where the order does.
func (o *Order) Resend(now time.Time, waits retry.Policy) {
	o.Sends++
	o.Deadline = now.Add(waits.Delay(o.Sends, nil))
	if o.Deadline.After(o.ExpiresAt) {
		o.Deadline = o.ExpiresAt
	}
}

// Close ends the order.
func (o *Order) Close(how OrderState, now time.Time) {
	o.State = how
	o.Deadline, o.ClosedAt = time.Time{}, now
}

func (o *Order) start(now time.Time) {
	o.State = OrderStarted
	o.Deadline = now.Add(busy)
}
