package acme

import (
	"context"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/x509x"
)

const (
	// showPatience is for an agent to show what it is told to; it is longer than deployment waits for the agent.
	showPatience = 20 * time.Second
	// hidePatience is for the order to take it back.
	hidePatience = 5 * time.Second
	// jobs begins the ids of what agents are told to show.
	jobs = "job-h-"
)

// Agents reach the agents on hosts.
type Agents interface {
	// Show returns when a host answers to each proof at its name, which it does until a time at most. Its error is
	// Unavailable, and says why, if it does not.
	Show(ctx context.Context, agentID, job string, proofs []Proof, until time.Time) error
	// Hide takes back what was shown for a job, or was to be.
	Hide(ctx context.Context, agentID, job string, proofs []Proof) error
}

// Hosts prove names by HTTP-01 (RFC 8555 section 8.3) where they lead: by the agent on the host where the certificate is
// used first.
type Hosts struct{ Agents Agents }

// Type implements [Solver].
func (*Hosts) Type() string { return HTTP01 }

// Objection implements [Solver].
func (*Hosts) Objection(name x509x.Name) string { return new(Listener).Objection(name) }

// Present implements [Solver].
func (h *Hosts) Present(ctx context.Context, proofs []Proof) (func(), error) {
	agent, job := proofs[0].AgentID, id.New(jobs)
	withdraw := func() {
		// It has time of its own, for what was shown must go also when time is up. If it stays, the agent takes it back itself.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hidePatience)
		defer cancel()
		_ = h.Agents.Hide(ctx, agent, job, proofs)
	}
	until := time.Now().Add(DefaultTimeout)
	if ends, ok := ctx.Deadline(); ok {
		until = ends
	}
	showing, cancel := context.WithTimeout(ctx, showPatience)
	defer cancel()
	if err := h.Agents.Show(showing, agent, job, proofs, until); err != nil {
		withdraw()
		return nil, err
	}
	return withdraw, nil
}

// noAgent is the error of a certificate that is used on no host with an agent.
func (a *Authority) noAgent(agentID string) error {
	if _, by := a.config.Solver.(*Hosts); !by || agentID != "" {
		return nil
	}
	return fault.New(fault.Invalid,
		"this issuer proves names through the agent of a certificate's first target (http01_via is agent), and this certificate has no target with an agent")
}
