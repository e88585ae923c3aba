// Package rpc answers the requests of other services that are no HTTP operations: the issuer has agents show CAs that
// names lead to their hosts.
//
// A request is the JSON of a command, the answer a command.Reply. Who may ask is decided by the bus's permissions.
package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
)

const (
	queue = "deployment"
	// timeout is for an agent to answer: the asker waits for longer.
	timeout = 15 * time.Second
	// atOnce bounds how many agents are waited for.
	atOnce = 256
)

// Desk gives orders to agents.
type Desk interface {
	// ShowHTTP01 calls committed when there is an order to be sent, and returns when the agent has carried it out.
	ShowHTTP01(ctx context.Context, a command.AnswerHTTP01, committed func()) error
	HideHTTP01(ctx context.Context, a command.AnswerHTTP01) error
}

// Server answers. Its fields are set before Serve.
type Server struct {
	Desk Desk
	Log  *slog.Logger
	// Committed is called after a commit that left something to be said.
	Committed func()

	running sync.WaitGroup
}

// Serve answers requests until ctx ends, and then those in hand without waiting for agents any more.
func (s *Server) Serve(ctx context.Context, nc *nats.Conn) error {
	free := make(chan struct{}, atOnce)
	sub, err := nc.QueueSubscribe(subject.Operation("deployment", "answerHTTP01"), queue, func(m *nats.Msg) {
		free <- struct{}{}
		s.running.Go(func() {
			defer func() { <-free }()
			s.answer(ctx, m)
		})
	})
	if err != nil {
		return fmt.Errorf("serve answerHTTP01: %w", err)
	}
	<-ctx.Done()
	// It fails only on a connection that is closed, and then nothing comes any more.
	_ = sub.Drain()
	s.running.Wait()
	return nil
}

func (s *Server) answer(ctx context.Context, m *nats.Msg) {
	ctx, cancel := context.WithTimeout(obs.ExtractNATS(ctx, m.Header), timeout)
	defer cancel()
	reply := command.Reply[command.AnsweredHTTP01]{Body: &command.AnsweredHTTP01{}}
	if err := s.http01(ctx, m.Data); err != nil {
		f := fault.From(err)
		reply.Body, reply.Fault = nil, &command.Fault{Code: string(f.Code), Message: f.Message}
		s.Log.WarnContext(ctx, "a request was refused", obs.KeySubject, m.Subject, obs.KeyError, err)
	}
	text, err := json.Marshal(reply)
	if err == nil {
		err = m.Respond(text)
	}
	if err != nil {
		s.Log.WarnContext(ctx, "an answer could not be sent", obs.KeySubject, m.Subject, obs.KeyError, err)
	}
}

func (s *Server) http01(ctx context.Context, text []byte) error {
	var a command.AnswerHTTP01
	if err := json.Unmarshal(text, &a); err != nil {
		return fault.Wrap(err, fault.Invalid, "the request is not what this operation takes")
	}
	if a.Withdraw {
		// What is shown is to be taken back, also if the service stops.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		defer cancel()
		err := s.Desk.HideHTTP01(ctx, a)
		s.Committed()
		return err
	}
	return s.Desk.ShowHTTP01(ctx, a, s.Committed)
}
