package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/v1"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/natsauth"
)

// fleet is agents that do nothing but answer, with requests that were made beforehand, so that what is measured is the
// platform. They enrol, take orders and report as any agent does, through the leaf.
type fleet struct {
	agents []*simulated
	// csrs are the requests by common name.
	csrs map[string]string
	// deployed counts what they were told to install, and said to have.
	deployed atomic.Int64
	// ordered counts what they are told to install and keep for later.
	ordered atomic.Int64
	failed  atomic.Pointer[error]
}

func (f *fleet) byID() map[string]*simulated {
	agents := make(map[string]*simulated, len(f.agents))
	for _, a := range f.agents {
		agents[a.id] = a
	}
	return agents
}

type simulated struct {
	id, jwt, seed, public string
	signer                natsauth.Signer

	nc *nats.Conn
	js jetstream.JetStream
}

// enrol makes n agents, behind a site of their own or, if that is nil, behind the leaf of the installation.
func (in *installation) enrol(ctx context.Context, n int, behind *edgeSite) (*fleet, error) {
	f := &fleet{csrs: map[string]string{}}
	of := map[string]any{}
	if behind != nil {
		of["site_id"] = behind.id
	}
	for i := range n {
		var answer struct{ Token string }
		if err := in.call(ctx, "POST", "/api/v1/enrolment-tokens", of, &answer); err != nil {
			return nil, err
		}
		a, err := in.enrolOne(answer.Token, fmt.Sprintf("simulated-%d", i), behind)
		if err != nil {
			return nil, err
		}
		f.agents = append(f.agents, a)
	}
	return f, nil
}

func (in *installation) enrolOne(text, name string, behind *edgeSite) (*simulated, error) {
	plain, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, "cet_"))
	if err != nil {
		return nil, err
	}
	var token command.EnrolmentToken
	if err := json.Unmarshal(plain, &token); err != nil {
		return nil, err
	}
	if behind != nil {
		return enrolOver(behind.nc, subject.AgentRequest(behind.id, subject.AgentEnrol, token.ID), token.Secret, name)
	}
	nc, err := nats.Connect(in.leafURL, nats.CustomInboxPrefix(subject.Inbox(subject.AgentEnrol+"-"+token.ID)), nats.NoReconnect(),
		nats.UserJWT(func() (string, error) { return token.JWT, nil }, func([]byte) ([]byte, error) { return nil, nil }))
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	return enrolOver(nc, subject.SiteRequest(subject.AgentEnrol, token.ID), token.Secret, name)
}

func enrolOver(nc *nats.Conn, ask, secret, name string) (*simulated, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	seed, seedErr := pair.Seed()
	public, publicErr := pair.PublicKey()
	signer, signerErr := natsauth.NewSigner(string(seed))
	if err := errors.Join(seedErr, publicErr, signerErr); err != nil {
		return nil, err
	}
	body, err := json.Marshal(command.EnrolRequest{
		Secret: secret, PublicKey: public, Heartbeat: command.Heartbeat{Name: name, Hostname: name, OS: "linux", Architecture: "amd64", At: time.Now().UTC()},
	})
	if err != nil {
		return nil, err
	}
	msg, err := nc.Request(ask, body, 10*time.Second)
	if err != nil {
		return nil, err
	}
	var reply command.Reply[command.EnrolReply]
	if err := json.Unmarshal(msg.Data, &reply); err != nil || reply.Body == nil {
		return nil, fmt.Errorf("enrol %s: %s", name, msg.Data)
	}
	return &simulated{id: reply.Body.AgentID, jwt: reply.Body.UserJWT, seed: string(seed), public: public, signer: signer}, nil
}

// run has the agents take orders until ctx ends.
func (f *fleet) run(ctx context.Context, leafURL string) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	stop = func() {
		cancel()
		all.Wait()
		for _, a := range f.agents {
			if a.nc != nil {
				a.nc.Close()
			}
		}
	}
	for _, a := range f.agents {
		orders, err := a.connect(ctx, leafURL)
		if err != nil {
			stop()
			return nil, fmt.Errorf("agent %s: %w", a.id, err)
		}
		all.Go(func() {
			for ctx.Err() == nil {
				batch, err := orders.Fetch(4, jetstream.FetchContext(ctx))
				if err != nil {
					return
				}
				for msg := range batch.Messages() {
					if err := f.answer(ctx, a, msg); err != nil && ctx.Err() == nil {
						f.failed.Store(&err)
					}
				}
			}
		})
	}
	return stop, nil
}

func (a *simulated) connect(ctx context.Context, leafURL string) (jetstream.Consumer, error) {
	var err error
	a.nc, err = nats.Connect(leafURL, nats.UserJWTAndSeed(a.jwt, a.seed), nats.CustomInboxPrefix(subject.Inbox(a.id)))
	if err != nil {
		return nil, err
	}
	if a.js, err = jetstream.New(a.nc); err != nil {
		return nil, err
	}
	if _, err := a.nc.RequestWithContext(ctx, subject.SiteRequest(a.id, command.VerbHello), []byte("{}")); err != nil {
		return nil, err
	}
	return a.js.Consumer(ctx, subject.StreamSiteCommands, a.id)
}

// answer reports an order as carried out.
func (f *fleet) answer(ctx context.Context, a *simulated, msg jetstream.Msg) error {
	report, err := f.carryOut(a, msg.Data())
	if err != nil {
		return err
	}
	m, err := a.message(subject.SiteReport(a.id, subject.KindDeploy, report.JobID), msg.Headers(), report)
	if err != nil {
		return err
	}
	if _, err := a.js.PublishMsg(ctx, m); err != nil {
		return err
	}
	if report.ServedFingerprintSHA256 != "" {
		f.deployed.Add(1)
	}
	return msg.Ack()
}

// carryOut is what an agent has to report on an order.
func (f *fleet) carryOut(a *simulated, data []byte) (report command.AgentReport, err error) {
	var signed command.Signed
	var order command.AgentCommand
	if err := errors.Join(json.Unmarshal(data, &signed), json.Unmarshal(signed.Payload, &order)); err != nil {
		return report, err
	}
	report = command.AgentReport{JobID: order.JobID, Attempt: order.Attempt, AgentID: a.id, Verb: order.Verb, At: time.Now().UTC()}
	switch order.Verb {
	case command.VerbKeyRequest:
		var asked command.KeyRequest
		if err := json.Unmarshal(order.Body, &asked); err != nil {
			return report, err
		}
		report.Outcome, report.CSRPEM = command.OutcomeCSR, f.csrs[asked.CommonName]
	case command.VerbDeploy:
		var asked command.Deploy
		if err := json.Unmarshal(order.Body, &asked); err != nil {
			return report, err
		}
		report.Outcome, report.ServedFingerprintSHA256 = command.OutcomeCompleted, asked.FingerprintSHA256
	default:
		return report, fmt.Errorf("nobody expects an order to %s", order.Verb)
	}
	return report, nil
}

// message is a signed report on what the headers of an order are of.
func (a *simulated) message(to string, cause nats.Header, report command.AgentReport) (*nats.Msg, error) {
	payload, err := json.Marshal(report)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(command.Signed{Payload: payload, Signature: a.signer.Report(payload), KeyID: a.public})
	if err != nil {
		return nil, err
	}
	m := nats.NewMsg(to)
	m.Data = body
	id := fmt.Sprintf("rep-%s-%d-%s", report.JobID, report.Attempt, report.Outcome)
	for name, value := range map[string]string{
		jetstream.MsgIDHeader: id, "ce-specversion": "1.0", "ce-id": id, "ce-type": "certctl.agent.report.v1", "ce-source": "/certctl/agent/" + a.id,
		"ce-subject": "job/" + report.JobID, "ce-time": report.At.Format(time.RFC3339Nano), "ce-datacontenttype": "application/json",
	} {
		m.Header[name] = []string{value}
	}
	if cause := cause["ce-id"]; len(cause) > 0 {
		m.Header["ce-causationid"] = cause
	}
	return m, nil
}
