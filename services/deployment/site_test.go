package deployment_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
)

// agent is a host that obeys, in the form in which the hub sees it: through a leaf.
type agent struct {
	*platform
	id, seed, key string
	pinned        string
	// behave says what the agent reports of an order; nil means that it is well.
	behave func(c command.AgentCommand) []command.AgentReport

	mu   sync.Mutex
	took []command.AgentCommand
}

// enrol makes an agent of site-local, with a token.
func (p *platform) enrol() *agent {
	p.Helper()
	var token deploymentapi.EnrolmentToken
	p.do("POST", "/api/v1/enrolment-tokens", "createEnrolmentToken", map[string]any{}, &token)
	carried, err := fleet.DecodeToken(token.Token)
	if err != nil {
		p.Fatal(err)
	}
	a := &agent{platform: p}
	if a.seed, a.key, err = natsauth.NewUserKey(); err != nil {
		p.Fatal(err)
	}
	var reply command.Reply[command.EnrolReply]
	p.ask(subject.AgentRequest(token.SiteID, subject.AgentEnrol, token.ID), command.EnrolRequest{
		Secret: carried.Secret, PublicKey: a.key, Heartbeat: command.Heartbeat{Hostname: "web-1"},
	}, &reply)
	if reply.Fault != nil {
		p.Fatalf("enrol: %+v", reply.Fault)
	}
	a.id, a.pinned = reply.Body.AgentID, reply.Body.PlatformKey
	return a
}

func (p *platform) ask(on string, body, reply any) {
	p.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		p.Fatal(err)
	}
	answer, err := p.edge.NC.Request(on, text, 5*time.Second)
	if err != nil {
		p.Fatalf("%s: %v", on, err)
	}
	if err := json.Unmarshal(answer.Data, reply); err != nil {
		p.Fatalf("%s: %v", on, err)
	}
}

// target makes a target of the agent.
func (a *agent) target(targetID string) {
	a.Helper()
	a.do("POST", "/api/v1/targets", "createTarget", map[string]any{
		"id": targetID, "name": targetID, "type": "nginx", "agent_id": a.id,
		"config": map[string]any{"cert_path": "/etc/tls/w.crt", "key_path": "/etc/tls/w.key"},
	}, nil)
}

// leaf draws the orders of site-local and has the agents obey them, until the test
// ends. Each report is brought twice, under two ids.
func (p *platform) leaf(agents ...*agent) {
	p.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(p.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			p.draw(ctx, agents)
		}
	})
	p.Cleanup(func() { stop(); running.Wait() })
}

func (p *platform) draw(ctx context.Context, agents []*agent) {
	fetch, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	durable, err := p.edge.JS.Consumer(fetch, subject.StreamAgentCommands, fleet.LocalSite)
	if err != nil {
		return
	}
	batch, err := durable.Fetch(50, jetstream.FetchContext(fetch))
	if err != nil {
		return
	}
	for m := range batch.Messages() {
		to, ok := subject.ParseAgent(m.Subject())
		if !ok {
			p.Errorf("order on %s", m.Subject())
		}
		for _, a := range agents {
			if a.id == to.Agent {
				a.obey(m)
			}
		}
		if err := m.Ack(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			p.Logf("ack: %v", err)
		}
	}
}

func (a *agent) obey(m jetstream.Msg) {
	var signed command.Signed
	var c command.AgentCommand
	err := json.Unmarshal(m.Data(), &signed)
	if err == nil {
		err = natsauth.VerifyCommand(a.pinned, signed.Payload, signed.Signature)
	}
	if err == nil {
		err = json.Unmarshal(signed.Payload, &c)
	}
	if err != nil || c.AgentID != a.id {
		a.Errorf("order %s: %v, %+v", m.Subject(), err, c)
		return
	}
	a.mu.Lock()
	a.took = append(a.took, c)
	a.mu.Unlock()
	behave := a.behave
	if behave == nil {
		behave = well
	}
	for _, r := range behave(c) {
		for range 2 {
			a.report(a.seed, r)
		}
	}
}

func (a *agent) orders() []command.AgentCommand {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.took)
}

// report is published with the signature of a seed.
func (a *agent) report(seed string, r command.AgentReport) {
	r.AgentID, r.At = a.id, time.Now()
	payload, err := json.Marshal(r)
	if err != nil {
		a.Errorf("encode report: %v", err)
	}
	signature, err := natsauth.SignReport(seed, payload)
	if err != nil {
		a.Errorf("sign report: %v", err)
	}
	body, err := json.Marshal(command.Signed{Payload: payload, Signature: signature, KeyID: a.key})
	if err != nil {
		a.Errorf("encode report: %v", err)
	}
	a.store(a.edge, bus.Message{
		Subject: subject.AgentReport(fleet.LocalSite, a.id, subject.KindDeploy, r.JobID), ID: id.New("rep-"),
		Type: "certctl.agent.report.v1", Source: "/certctl/agent", Time: r.At, Body: body,
	})
}

func about(c command.AgentCommand, outcome string) command.AgentReport {
	return command.AgentReport{JobID: c.JobID, Attempt: c.Attempt, Verb: c.Verb, Outcome: outcome}
}

// well is an agent on which everything works.
func well(c command.AgentCommand) []command.AgentReport {
	if c.Verb == command.VerbKeyRequest {
		r := about(c, command.OutcomeCSR)
		r.CSRPEM = "request of " + c.JobID
		return []command.AgentReport{r}
	}
	done := about(c, command.OutcomeCompleted)
	var body command.Deploy
	if json.Unmarshal(c.Body, &body) == nil {
		done.ServedFingerprintSHA256 = body.FingerprintSHA256
	}
	return []command.AgentReport{about(c, command.OutcomeStarted), done}
}
