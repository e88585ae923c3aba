// Package agentrpc answers what agents and leaves ask over account EDGE: to be
// enrolled, to be given a fresh JWT, to be known to live.
//
// Who asks is taken from the subject alone, which the servers check; a body cannot
// claim another name. Any number of replicas answer, each question once. Every answer
// is a command.Reply: a refusal says why, in words for the person at the host.
package agentrpc

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/trace"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/deployment/internal/enrolment"
)

const (
	queue = "deployment"
	// patience is that of an agent: it asks again after it.
	patience = 5 * time.Second
	// inFlight bounds the questions that are answered at once; more wait in line.
	inFlight = 32
)

// Server answers questions.
type Server struct {
	DB     *pgxpool.Pool
	NC     *nats.Conn
	Office *enrolment.Office
	Clock  clock.Clock
	Log    *slog.Logger
	// OrderDeadline is how long an order may stay unanswered once its agent is back.
	OrderDeadline time.Duration
	// Committed is called after a commit that left something in the outbox.
	Committed func()
}

// Run answers until ctx ends, then finishes what is in hand.
func (s *Server) Run(ctx context.Context) error {
	questions := make(chan *nats.Msg, 4*inFlight)
	sub, err := s.NC.ChanQueueSubscribe(subject.AllAgentRequests, queue, questions)
	if err != nil {
		return fmt.Errorf("listen to agents: %w", err)
	}
	work := context.WithoutCancel(ctx)
	var hands sync.WaitGroup
	for range inFlight {
		hands.Go(func() {
			for {
				select {
				case m := <-questions:
					s.answer(work, m)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	<-ctx.Done()
	if err := sub.Unsubscribe(); err != nil {
		s.Log.Warn("stop listening to agents", obs.KeyError, err)
	}
	hands.Wait()
	for {
		select {
		case m := <-questions:
			s.answer(work, m)
		default:
			return nil
		}
	}
}

func (s *Server) answer(ctx context.Context, m *nats.Msg) {
	ctx, cancel := context.WithTimeout(obs.ExtractNATS(ctx, m.Header), patience)
	defer cancel()
	ctx, span := obs.StartSpan(ctx, "agent request", trace.SpanKindServer)
	defer span.End()
	start := time.Now()
	body, err := s.guarded(ctx, m)
	if err = pg.Fault(err); err != nil {
		s.log(ctx, m, err, time.Since(start))
	}
	if m.Reply == "" {
		return
	}
	reply := command.Reply[any]{Body: &body}
	if err != nil {
		f := fault.From(err)
		reply = command.Reply[any]{Fault: &command.Fault{Code: string(f.Code), Message: f.Message}}
	}
	text, err := json.Marshal(reply)
	if err == nil {
		err = m.Respond(text)
	}
	if err != nil {
		s.log(ctx, m, fmt.Errorf("respond: %w", err), time.Since(start))
	}
}

// log tells of a refusal without the token's or the request's content.
func (s *Server) log(ctx context.Context, m *nats.Msg, err error, took time.Duration) {
	level := slog.LevelWarn
	if fault.CodeOf(err) == fault.Internal {
		level = slog.LevelError
	}
	s.Log.Log(ctx, level, "agent request refused", obs.KeySubject, m.Subject, obs.KeyError, err, obs.KeyDuration, took.Milliseconds())
}

func (s *Server) guarded(ctx context.Context, m *nats.Msg) (body any, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.Log.ErrorContext(ctx, "agent request panicked", "panic", p, "stack", string(debug.Stack()))
			err = fault.New(fault.Internal, "internal error")
		}
	}()
	who, ok := subject.ParseAgent(m.Subject)
	if !ok {
		return nil, fault.New(fault.Invalid, "%s is no question", m.Subject)
	}
	switch {
	case who.Agent == subject.AgentEnrol:
		var ask command.EnrolRequest
		if err := decode(m.Data, &ask); err != nil {
			return nil, err
		}
		return s.Office.Agent(ctx, who.Site, who.Verb, ask)
	case who.Agent == subject.AgentSite && who.Verb == command.VerbHeartbeats:
		return s.heartbeats(ctx, who.Site, m.Data)
	case who.Agent == subject.AgentSite && who.Verb == command.VerbRefresh:
		return s.Office.RefreshSite(ctx, who.Site)
	case who.Agent == subject.AgentSite:
		return nil, unknownVerb(who)
	case who.Verb == command.VerbRefresh:
		return s.Office.RefreshAgent(ctx, who)
	case who.Verb == command.VerbHeartbeat:
		return s.heartbeat(ctx, who, m.Data)
	default:
		return nil, unknownVerb(who)
	}
}

func unknownVerb(who subject.Agent) error {
	return fault.New(fault.NotFound, "there is no question %q", who.Verb)
}

func decode(data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return fault.Wrap(err, fault.Invalid, "the question is not of the form that is expected")
	}
	return nil
}
