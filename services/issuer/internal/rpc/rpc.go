// Package rpc answers the requests of other services that are no HTTP operations: the revocation service has its lists
// and its OCSP responders' certificates signed here, because the CA's key never leaves this process.
//
// A request is the JSON of a command, the answer a command.Reply. Who may ask is decided by the bus's permissions.
package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

const (
	queue   = "issuer"
	timeout = 10 * time.Second
)

// Issuers finds the CA behind an issuer's id.
type Issuers interface {
	// Opened is NotFound for an id that is unknown. An issuer that is switched off is there: what it has issued goes on
	// being revoked and checked.
	Opened(ctx context.Context, id string) (ca.Issuer, error)
}

// Serve answers requests until ctx ends, then finishes those in hand.
func Serve(ctx context.Context, nc *nats.Conn, issuers Issuers, log *slog.Logger) error {
	s := server{issuers: issuers, log: log, ctx: context.WithoutCancel(ctx)}
	var subs []*nats.Subscription
	for operation, answer := range map[string]nats.MsgHandler{
		"signCRL":            handle(&s, s.signCRL),
		"issueOCSPResponder": handle(&s, s.issueResponder),
	} {
		sub, err := nc.QueueSubscribe(subject.Operation("issuer", operation), queue, answer)
		if err != nil {
			return fmt.Errorf("serve %s: %w", operation, err)
		}
		subs = append(subs, sub)
	}
	<-ctx.Done()
	for _, sub := range subs {
		// It fails only on a connection that is closed, and then nothing comes any more.
		_ = sub.Drain()
	}
	s.running.Wait()
	return nil
}

type server struct {
	issuers Issuers
	log     *slog.Logger
	ctx     context.Context // of every request; they outlive the order to stop
	running sync.WaitGroup
}

// handle answers each request in a goroutine of its own: a long list must not hold up the others.
func handle[Request, Answer any](s *server, answer func(context.Context, Request) (*Answer, error)) nats.MsgHandler {
	return func(m *nats.Msg) {
		s.running.Go(func() {
			ctx, cancel := context.WithTimeout(obs.ExtractNATS(s.ctx, m.Header), timeout)
			defer cancel()
			var reply command.Reply[Answer]
			var request Request
			err := json.Unmarshal(m.Data, &request)
			if err != nil {
				err = fault.Wrap(err, fault.Invalid, "the request is not what this operation takes")
			} else {
				reply.Body, err = answer(ctx, request)
			}
			if err != nil {
				f := fault.From(err)
				reply.Body, reply.Fault = nil, &command.Fault{Code: string(f.Code), Message: f.Message}
				s.log.WarnContext(ctx, "a request was refused", obs.KeySubject, m.Subject, obs.KeyError, err)
			}
			s.respond(ctx, m, reply)
		})
	}
}

func (s *server) respond(ctx context.Context, m *nats.Msg, reply any) {
	b, err := json.Marshal(reply)
	if err == nil {
		err = m.Respond(b)
	}
	if err != nil {
		s.log.WarnContext(ctx, "an answer could not be sent", obs.KeySubject, m.Subject, obs.KeyError, err)
	}
}

// opened finds the CA of an issuer with one of its keys, with the one in use if none is named.
func (s *server) opened(ctx context.Context, issuerID, keyID string) (ca.Issuer, error) {
	issuer, err := s.issuers.Opened(ctx, issuerID)
	if err != nil || keyID == "" {
		return issuer, err
	}
	keyed, ok := issuer.(ca.Keyed)
	if !ok {
		return nil, fault.New(fault.NotFound, "the keys of issuer %s are not here", issuerID)
	}
	return keyed.WithKey(keyID)
}

func (s *server) signCRL(ctx context.Context, r command.SignCRL) (*command.SignedCRL, error) {
	issuer, err := s.opened(ctx, r.IssuerID, r.KeyID)
	if err != nil {
		return nil, err
	}
	signer, ok := issuer.(ca.CRLSigner)
	if !ok || !signer.SignsCRLs() {
		return nil, fault.New(fault.Precondition, "issuer %s signs no revocation lists", r.IssuerID)
	}
	list := ca.RevocationList{Number: big.NewInt(r.Number), Entries: make([]ca.Revoked, len(r.Entries))}
	if list.ThisUpdate, err = parseTime("this_update", r.ThisUpdate); err != nil {
		return nil, err
	}
	if list.NextUpdate, err = parseTime("next_update", r.NextUpdate); err != nil {
		return nil, err
	}
	for i, e := range r.Entries {
		entry := ca.Revoked{Reason: e.ReasonCode}
		if entry.Serial, err = x509x.ParseSerial(e.SerialNumber); err != nil {
			return nil, err
		}
		if entry.At, err = parseTime("revoked_at", e.RevokedAt); err != nil {
			return nil, err
		}
		list.Entries[i] = entry
	}
	der, err := signer.SignCRL(ctx, list)
	if err != nil {
		return nil, err
	}
	return &command.SignedCRL{DER: der}, nil
}

func parseTime(field, s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fault.InvalidFields(fault.Field{Name: field, Reason: "is no time of RFC 3339"})
	}
	return t.UTC(), nil
}

func (s *server) issueResponder(ctx context.Context, r command.IssueOCSPResponder) (*command.OCSPResponder, error) {
	issuer, err := s.opened(ctx, r.IssuerID, r.KeyID)
	if err != nil {
		return nil, err
	}
	responders, ok := issuer.(ca.OCSPResponderIssuer)
	if !ok {
		return nil, fault.New(fault.Precondition, "issuer %s lets nobody answer OCSP in its name", r.IssuerID)
	}
	csr, err := x509x.ParseCSR([]byte(r.CSRPEM))
	if err != nil {
		return nil, err
	}
	issued, err := responders.IssueOCSPResponder(ctx, csr)
	if err != nil {
		return nil, err
	}
	leaf, err := x509x.ParseCertificates(issued.ChainPEM)
	if err != nil {
		return nil, fmt.Errorf("read the responder's certificate: %w", err)
	}
	return &command.OCSPResponder{PEMChain: string(x509x.EncodeCertificates(leaf[0], issuer.Chain()[0]))}, nil
}
