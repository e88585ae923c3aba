package deployment

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme"
)

// Agents has deployment, which alone gives orders to agents, have them answer CAs. It implements [acme.Agents].
type Agents struct{ nc *nats.Conn }

// NewAgents returns Agents over a connection.
func NewAgents(nc *nats.Conn) *Agents { return &Agents{nc} }

// Show implements [acme.Agents].
func (a *Agents) Show(ctx context.Context, agentID, job string, proofs []acme.Proof, until time.Time) error {
	return a.ask(ctx, command.AnswerHTTP01{ID: job, AgentID: agentID, HTTP01: command.HTTP01{Answers: answers(proofs), Until: until}})
}

// Hide implements [acme.Agents].
func (a *Agents) Hide(ctx context.Context, agentID, job string, proofs []acme.Proof) error {
	return a.ask(ctx, command.AnswerHTTP01{ID: job, AgentID: agentID, HTTP01: command.HTTP01{Answers: answers(proofs), Withdraw: true}})
}

func answers(proofs []acme.Proof) []command.HTTP01Answer {
	out := make([]command.HTTP01Answer, len(proofs))
	for i, p := range proofs {
		out[i] = command.HTTP01Answer{Token: p.Token, KeyAuthorization: p.Answer}
	}
	return out
}

func (a *Agents) ask(ctx context.Context, q command.AnswerHTTP01) error {
	body, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("ask agent %s to answer a CA: %w", q.AgentID, err)
	}
	m := nats.NewMsg(subject.Operation("deployment", "answerHTTP01"))
	m.Data = body
	obs.InjectNATS(ctx, m.Header)
	res, err := a.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "agent %s cannot be asked to answer a CA at the moment", q.AgentID)
	}
	var reply command.Reply[command.AnsweredHTTP01]
	if err := json.Unmarshal(res.Data, &reply); err != nil {
		return fault.Wrap(err, fault.Unavailable, "agent %s cannot be asked to answer a CA at the moment", q.AgentID)
	}
	if reply.Fault != nil {
		return fault.New(fault.Code(reply.Fault.Code), "%s", reply.Fault.Message)
	}
	return nil
}
