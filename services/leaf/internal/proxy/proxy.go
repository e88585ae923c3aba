// Package proxy answers the questions of a site's agents.
//
// Some the leaf answers itself, whether or not there is a hub: "hello", which makes
// sure that the agent's durable exists, and "heartbeat", which is gathered. All others
// are asked at the hub in the leaf's name, and the answer is passed back as it came.
// While there is no hub the answer is "unavailable", at once.
//
// Who asks is taken from the subject, which the server has checked, and the site is
// the leaf's own, which the hub checks again.
package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/leaf/internal/heartbeat"
	"github.com/certctl/certctl/services/leaf/internal/metric"
	"github.com/certctl/certctl/services/leaf/internal/roster"
)

const (
	// maxInFlight bounds the questions under way; more are told to come back.
	maxInFlight = 256
	askTimeout  = 10 * time.Second
)

// Proxy answers the questions of one site. Its fields are set before Listen, which
// comes before Run.
type Proxy struct {
	Site       string
	NC         *nats.Conn
	Roster     *roster.Roster
	Heartbeats *heartbeat.Gatherer
	Metrics    *metric.Leaf
	Log        *slog.Logger

	sub       *nats.Subscription
	questions chan *nats.Msg
}

// Listen begins to take questions, which wait until Run answers them.
func (p *Proxy) Listen() (err error) {
	p.questions = make(chan *nats.Msg, maxInFlight)
	if p.sub, err = p.NC.ChanSubscribe(subject.AllSiteRequests, p.questions); err != nil {
		return fmt.Errorf("listen to agents: %w", err)
	}
	if err := p.NC.FlushTimeout(askTimeout); err != nil {
		return fmt.Errorf("listen to agents: %w", err)
	}
	return nil
}

// Run answers until ctx ends.
func (p *Proxy) Run(ctx context.Context) error {
	var underWay sync.WaitGroup
	defer underWay.Wait()
	slots := make(chan struct{}, maxInFlight)
	defer func() {
		if err := p.sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			p.Log.Warn("stop listening to agents", "error", err)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-p.questions:
			select {
			case slots <- struct{}{}:
				underWay.Go(func() {
					defer func() { <-slots }()
					p.handle(ctx, m)
				})
			default:
				p.answer(m, "any", fault.New(fault.RateLimited, "the leaf is busy"))
			}
		}
	}
}

func (p *Proxy) handle(ctx context.Context, m *nats.Msg) {
	from, ok := subject.ParseSite(m.Subject)
	if !ok || from.Agent == subject.AgentSite {
		p.answer(m, "unknown", fault.New(fault.Forbidden, "nobody may ask this"))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	switch {
	case from.Agent == subject.AgentEnrol:
		p.enrol(ctx, m, from.Verb)
	case from.Verb == command.VerbHello:
		p.answer(m, from.Verb, p.Roster.Ensure(ctx, from.Agent))
	case from.Verb == command.VerbHeartbeat:
		p.answer(m, from.Verb, p.heartbeat(m, from.Agent))
	default:
		if reply := p.forward(ctx, m, from.Verb, subject.AgentRequest(p.Site, from.Agent, from.Verb)); reply != nil {
			p.pass(m, reply)
		}
	}
}

func (p *Proxy) heartbeat(m *nats.Msg, agentID string) error {
	var beat command.Heartbeat
	if err := json.Unmarshal(m.Data, &beat); err != nil {
		return fault.Wrap(err, fault.Invalid, "the heartbeat is not JSON")
	}
	p.Heartbeats.Add(agentID, beat, time.Now().UTC())
	return nil
}

// enrol passes a token to the hub. A new agent has its durable before it hears that it
// is one, so that its first order cannot come too early.
func (p *Proxy) enrol(ctx context.Context, m *nats.Msg, tokenID string) {
	reply := p.forward(ctx, m, subject.AgentEnrol, subject.AgentRequest(p.Site, subject.AgentEnrol, tokenID))
	if reply == nil {
		return
	}
	var enrolled command.Reply[command.EnrolReply]
	if json.Unmarshal(reply.Data, &enrolled) == nil && enrolled.Body != nil && subject.Token(enrolled.Body.AgentID) {
		if err := p.Roster.Ensure(ctx, enrolled.Body.AgentID); err != nil {
			// The agent's hello makes up for it, or tells the agent why not.
			p.Log.Warn("durable of a new agent", "agent_id", enrolled.Body.AgentID, "error", err)
		}
	}
	p.pass(m, reply)
}

// forward asks the hub. Without an answer it tells the agent why and returns nil.
func (p *Proxy) forward(ctx context.Context, m *nats.Msg, verb, to string) *nats.Msg {
	question := nats.NewMsg(to)
	question.Data = m.Data
	for key, values := range m.Header {
		if !strings.HasPrefix(key, "Nats-") {
			question.Header[key] = values
		}
	}
	reply, err := p.NC.RequestMsgWithContext(ctx, question)
	if err != nil {
		p.answer(m, verb, fault.Wrap(err, fault.Unavailable, "the hub cannot be reached"))
		return nil
	}
	p.Metrics.Requests.WithLabelValues(known(verb), "forwarded").Inc()
	return reply
}

func (p *Proxy) pass(m, reply *nats.Msg) {
	if m.Reply == "" {
		return
	}
	if err := m.RespondMsg(&nats.Msg{Data: reply.Data, Header: reply.Header}); err != nil {
		p.Log.Warn("pass an answer to an agent", "subject", m.Subject, "error", err)
	}
}

func (p *Proxy) answer(m *nats.Msg, verb string, err error) {
	reply, outcome := command.Reply[struct{}]{Body: &struct{}{}}, "answered"
	if err != nil {
		f := fault.From(err)
		reply, outcome = command.Reply[struct{}]{Fault: &command.Fault{Code: string(f.Code), Message: f.Message}}, string(f.Code)
		p.Log.Debug("question of an agent", "subject", m.Subject, "error", err)
	}
	p.Metrics.Requests.WithLabelValues(known(verb), outcome).Inc()
	if m.Reply == "" {
		return
	}
	data, err := json.Marshal(reply)
	if err == nil {
		err = m.Respond(data)
	}
	if err != nil {
		p.Log.Warn("answer an agent", "subject", m.Subject, "error", err)
	}
}

// known keeps agents from making up labels.
func known(verb string) string {
	switch verb {
	case command.VerbHello, command.VerbHeartbeat, command.VerbRefresh, subject.AgentEnrol:
		return verb
	}
	return "other"
}
