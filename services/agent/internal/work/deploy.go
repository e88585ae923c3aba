package work

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/agent/internal/journal"
	"github.com/certctl/certctl/services/agent/internal/keystore"
	"github.com/certctl/certctl/services/agent/internal/order"
	"github.com/certctl/certctl/services/agent/internal/target"
)

// deploy installs a certificate. The key becomes the certificate's key in the store
// once the target serves it.
func (w *Worker) deploy(ctx context.Context, o order.Order) command.AgentReport {
	var body command.Deploy
	if err := json.Unmarshal(o.Body, &body); err != nil {
		return w.failure(o, fmt.Errorf("the order cannot be read: %w", err), true)
	}
	told := w.tellStarted(ctx, o)
	served, err := w.install(ctx, o, body)
	<-told
	if err != nil {
		return w.undone(o, target.AsError(err), served)
	}
	r := o.Report(command.OutcomeCompleted, w.Clock.Now())
	r.ServedFingerprintSHA256 = served
	return r
}

// tellStarted runs beside the work, and is waited for: a start must not be told after
// the end. That it is told at all is not worth failing for.
func (w *Worker) tellStarted(ctx context.Context, o order.Order) <-chan struct{} {
	told := make(chan struct{})
	go func() {
		defer close(told)
		payload, err := json.Marshal(o.Report(command.OutcomeStarted, w.Clock.Now()))
		if err == nil {
			var signed command.Signed
			if signed, err = w.Identity.SignReport(payload); err == nil {
				err = w.Reporter.Report(ctx, o, command.OutcomeStarted, signed)
			}
		}
		if err != nil {
			w.log(o).WarnContext(ctx, "start of the order not told", "error", err)
		}
	}()
	return told
}

func (w *Worker) install(ctx context.Context, o order.Order, body command.Deploy) (string, error) {
	t, err := w.open(body)
	if err != nil {
		return "", err
	}
	bundle, err := ordered(body)
	if err != nil {
		return "", err
	}
	key, err := w.keyFor(body.CertificateID, bundle.Leaf(), t)
	if err != nil {
		return "", err
	}
	bundle.KeyPEM = key.PEM
	p, err := w.progress(o)
	if err != nil {
		return "", err
	}
	served, err := t.Deploy(ctx, bundle, p)
	if err != nil {
		return served, err
	}
	if key.Stored() {
		if err := w.Keys.Promote(body.CertificateID, key); err != nil {
			// The key is found as a candidate too.
			w.log(o).WarnContext(ctx, "key not promoted", "error", err)
		}
	}
	return served, nil
}

// ordered is what an order is about, without the key.
func ordered(body command.Deploy) (target.Bundle, error) {
	chain, err := x509x.ParseCertificates([]byte(body.PEMChain))
	if err != nil {
		return target.Bundle{}, target.Refuse("the ordered chain: %w", err)
	}
	b := target.Bundle{Chain: chain, Fingerprint: x509x.Fingerprint(chain[0].Raw)}
	if body.FingerprintSHA256 != "" && !strings.EqualFold(body.FingerprintSHA256, b.Fingerprint) {
		return b, target.Refuse("the ordered chain begins with %s, not with %s as the order says", b.Fingerprint, body.FingerprintSHA256)
	}
	return b, nil
}

func (w *Worker) open(body command.Deploy) (target.Target, error) {
	kind, ok := w.Targets[body.TargetType]
	if !ok {
		var known []string
		for name := range w.Targets {
			known = append(known, name)
		}
		slices.Sort(known)
		return nil, target.Refuse("this agent does not install in targets of type %q, only in %s", body.TargetType, strings.Join(known, ", "))
	}
	return kind.Open(body.TargetConfig)
}

// keyFor finds the private key of a leaf: one that this agent made, or the one that is
// in use at the target, if the certificate was requested with it by other means.
func (w *Worker) keyFor(certificateID string, leaf *x509.Certificate, t target.Target) (keystore.Key, error) {
	key, err := w.Keys.Find(certificateID, leaf.PublicKey)
	if err == nil {
		return key, nil
	}
	if held := t.HoldsKey(); len(held) > 0 {
		if signer, parseErr := x509x.ParsePrivateKey(held); parseErr == nil && x509x.SameKey(signer.Public(), leaf.PublicKey) {
			return keystore.Key{Signer: signer, PEM: held}, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return keystore.Key{}, target.Refuse(
			"this host has no private key for the certificate %s (serial %s): its key was made elsewhere, or deleted here; renew the certificate so that a new key is made",
			certificateID, x509x.SerialHex(leaf.SerialNumber))
	}
	return keystore.Key{}, &target.Error{State: target.Untouched, Permanent: fault.CodeOf(err) == fault.Invalid, Err: err}
}

func (w *Worker) undone(o order.Order, e *target.Error, served string) command.AgentReport {
	r := w.failure(o, e, e.Permanent)
	r.ServedFingerprintSHA256 = served
	if e.State == target.Restored {
		r.Outcome = command.OutcomeRolledBack
	}
	return r
}

// clear has the target delete what it kept for a deployment that is finished.
func (w *Worker) clear(o order.Order, begun journal.Begun) error {
	if o.Verb != command.VerbDeploy {
		return nil
	}
	var body command.Deploy
	if err := json.Unmarshal(o.Body, &body); err != nil {
		return fmt.Errorf("decode order: %w", err)
	}
	t, err := w.open(body)
	if err != nil {
		return err
	}
	return t.Clear(&progress{worker: w, order: o, checkpoint: begun.Checkpoint})
}

// progress keeps a target's memory of one deployment in the journal.
type progress struct {
	worker     *Worker
	order      order.Order
	checkpoint json.RawMessage
}

func (w *Worker) progress(o order.Order) (*progress, error) {
	begun, _, err := w.Journal.Begun(o.Key())
	return &progress{worker: w, order: o, checkpoint: begun.Checkpoint}, err
}

// Load returns the checkpoint.
func (p *progress) Load() json.RawMessage { return p.checkpoint }

// Save makes a checkpoint durable.
func (p *progress) Save(checkpoint json.RawMessage) error {
	origin, err := json.Marshal(p.order.Origin)
	if err != nil {
		return err
	}
	err = p.worker.Journal.Save(p.order.Key(), journal.Begun{
		Order: p.order.Signed, Origin: origin, At: p.worker.Clock.Now(), Checkpoint: checkpoint,
	})
	if err == nil {
		p.checkpoint = checkpoint
	}
	return err
}
