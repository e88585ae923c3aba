package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/publish"
)

const (
	// drawn is how many orders a site takes and answers at once, as a leaf does.
	drawn = 256
	// linkWithin bounds how long the link to the hub takes.
	linkWithin = 10 * time.Second
)

// edgeSite is a leaf that keeps nothing: its agents' answers go over account EDGE straight to the hub. What is measured with it
// is the platform alone, where a fleet behind a real leaf has the leaf's work on the same processors too.
type edgeSite struct {
	id   string
	link *server.Server
	nc   *nats.Conn
	hub  jetstream.JetStream

	mu      sync.Mutex
	holding bool            // under mu
	held    []jetstream.Msg // under mu: orders to install
}

// edgeSite makes a site, and connects it as a leaf does.
func (in *installation) edgeSite(ctx context.Context) (*edgeSite, error) {
	var made struct {
		ID    string `json:"id"`
		Token string `json:"token"`
	}
	if err := in.call(ctx, "POST", "/api/v1/sites", map[string]any{"name": "bench"}, &made); err != nil {
		return nil, err
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, err
	}
	var who struct {
		UserJWT string   `json:"user_jwt"`
		HubURLs []string `json:"hub_urls"`
	}
	if err := in.call(ctx, "POST", "/api/v1/sites/"+made.ID+"/enrol", map[string]any{"token": made.Token, "public_key": public}, &who); err != nil {
		return nil, err
	}
	s := &edgeSite{id: made.ID}
	return s, s.connect(ctx, who.HubURLs, func(nonce []byte) (string, []byte, error) {
		signature, err := pair.Sign(nonce)
		return who.UserJWT, signature, err
	})
}

func (s *edgeSite) connect(ctx context.Context, hubs []string, prove func([]byte) (string, []byte, error)) error {
	remote := &server.RemoteLeafOpts{SignatureCB: prove, RequestIsolation: true}
	for _, hub := range hubs {
		u, err := url.Parse(hub)
		if err != nil {
			return err
		}
		remote.URLs = append(remote.URLs, u)
	}
	o := &server.Options{ServerName: s.id, DontListen: true, NoLog: true, NoSigs: true, MaxPayload: 1 << 20}
	o.LeafNode.Remotes = []*server.RemoteLeafOpts{remote}
	var err error
	if s.link, err = server.NewServer(o); err != nil {
		return err
	}
	s.link.Start()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(ctx, linkWithin)
	defer cancel()
	for s.link.NumLeafNodes() == 0 {
		select {
		case <-ctx.Done():
			return errors.New("the site got no link to the hub")
		case <-tick.C:
		}
	}
	if s.nc, err = nats.Connect("", nats.InProcessServer(s.link), nats.CustomInboxPrefix(subject.Inbox(s.id))); err != nil {
		return err
	}
	s.hub, err = jetstream.NewWithDomain(s.nc, subject.DomainHub)
	return err
}

func (s *edgeSite) close() {
	if s.nc != nil {
		s.nc.Close()
	}
	if s.link != nil {
		s.link.Shutdown()
		s.link.WaitForShutdown()
	}
}

// serve answers orders in the name of the site's agents until ctx ends.
func (s *edgeSite) serve(ctx context.Context, f *fleet) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	orders, err := s.hub.Consumer(ctx, subject.StreamAgentCommands, s.id)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("orders of site %s: %w", s.id, err)
	}
	agents := f.byID()
	var all sync.WaitGroup
	// Two, so that orders are drawn while answers are on their way.
	for range 2 {
		all.Go(func() {
			for ctx.Err() == nil {
				batch, err := orders.Fetch(drawn, jetstream.FetchContext(ctx))
				if err != nil {
					return
				}
				if err := s.answer(ctx, f, agents, batch.Messages()); err != nil && ctx.Err() == nil {
					f.failed.Store(&err)
				}
			}
		})
	}
	return func() { cancel(); all.Wait(); s.close() }, nil
}

// answer reports orders as carried out, those that have come together in one write.
func (s *edgeSite) answer(ctx context.Context, f *fleet, agents map[string]*simulated, orders <-chan jetstream.Msg) error {
	for first := range orders {
		msgs := []jetstream.Msg{first}
	gathering:
		for len(msgs) < drawn {
			select {
			case m, open := <-orders:
				if !open {
					break gathering
				}
				msgs = append(msgs, m)
			default:
				break gathering
			}
		}
		if err := s.carryOut(ctx, f, agents, s.hold(f, msgs)); err != nil {
			return err
		}
		for _, m := range msgs {
			if err := m.Ack(); err != nil {
				return err
			}
		}
	}
	return nil
}

// carryOut reports on orders in one write.
func (s *edgeSite) carryOut(ctx context.Context, f *fleet, agents map[string]*simulated, orders []jetstream.Msg) error {
	if len(orders) == 0 {
		return nil
	}
	reports := make([]*nats.Msg, len(orders))
	installed := 0
	for i, m := range orders {
		to, ok := subject.ParseAgent(m.Subject())
		if !ok || agents[to.Agent] == nil {
			return fmt.Errorf("an order to nobody: %s", m.Subject())
		}
		report, err := f.carryOut(agents[to.Agent], m.Data())
		if err != nil {
			return err
		}
		if report.ServedFingerprintSHA256 != "" {
			installed++
		}
		if reports[i], err = agents[to.Agent].message(subject.AgentReport(s.id, to.Agent, subject.KindDeploy, report.JobID), m.Headers(), report); err != nil {
			return err
		}
	}
	if err := errors.Join(publish.All(ctx, s.hub, reports)...); err != nil {
		return err
	}
	f.deployed.Add(int64(installed))
	return nil
}

// hold keeps orders to install back while installations wait, and returns the others.
func (s *edgeSite) hold(f *fleet, orders []jetstream.Msg) []jetstream.Msg {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.holding {
		return orders
	}
	now := make([]jetstream.Msg, 0, len(orders))
	for _, m := range orders {
		if to, ok := subject.ParseAgent(m.Subject()); ok && to.Verb == command.VerbDeploy {
			s.held = append(s.held, m)
		} else {
			now = append(now, m)
		}
	}
	f.ordered.Store(int64(len(s.held)))
	return now
}

// wait has installations wait from now on: agents answer with requests alone.
func (s *edgeSite) wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holding = true
}

// install carries out what has waited, and what comes from now on at once.
func (s *edgeSite) install(ctx context.Context, f *fleet) error {
	s.mu.Lock()
	held := s.held
	s.holding, s.held = false, nil
	s.mu.Unlock()
	for part := range slices.Chunk(held, drawn) {
		if err := s.carryOut(ctx, f, f.byID(), part); err != nil {
			return err
		}
	}
	return nil
}
