// Package revocation answers relying parties for the certificates that certctl issued.
//
// It learns every issued serial number from events, and serves CA certificates, a
// signed revocation list and OCSP for them, on a listener of its own: those who check a
// certificate never pass through the gateway or the bus. Keys of CAs stay with the
// issuer service, which signs lists and certifies the OCSP responder.
//
// Nothing can be revoked yet: lists are empty, and OCSP says good or unknown.
package revocation

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/revocation/internal/api"
	"github.com/certctl/certctl/services/revocation/internal/crl"
	"github.com/certctl/certctl/services/revocation/internal/issuer"
	"github.com/certctl/certctl/services/revocation/internal/ocsp"
	"github.com/certctl/certctl/services/revocation/internal/postgres"
)

// Config is read from CERTCTL_*.
type Config struct {
	// RevocationListen is loopback by default. Relying parties ask over plain HTTP (RFC
	// 5280 section 8): what they get is signed, and none of it is secret.
	RevocationListen string `split_words:"true" default:"127.0.0.1:8081" desc:"Address on which CRL, OCSP and CA certificates are served over HTTP, when the service runs by itself."`

	// Mount, if set, is given the handler instead of a listener being opened.
	Mount func(http.Handler) `ignored:"true"`
}

const name = "revocation"

// pace has the serial numbers of so much time learnt together. Until then OCSP does not know them, as while their event
// is on its way.
const pace = 20 * time.Millisecond

// Run learns and answers until ctx ends.
func Run(ctx context.Context, cfg Config, deps service.Deps) error {
	store, asks := postgres.Store{Pool: deps.DB}, issuer.Client{NC: deps.Bus.NC}
	lists, responder := crl.New(store, asks, deps.Clock), ocsp.New(store, asks, deps.Clock)
	defer lists.Wait()
	defer responder.Wait()
	handler := api.API{Store: store, Clock: deps.Clock, Lists: lists, Responder: responder}.Handler()

	g, ctx := errgroup.WithContext(ctx)
	if cfg.Mount != nil {
		cfg.Mount(handler)
	} else {
		stack := httpx.RequestID(httpx.Log(deps.Log)(httpx.Recover(deps.Log)(handler)))
		g.Go(func() error {
			return httpx.Serve(ctx, httpx.Listener{Address: cfg.RevocationListen, Public: true, Log: deps.Log}, stack)
		})
	}
	spec := bus.Spec{
		Stream: subject.StreamEvents, Durable: subject.ConsumerRevocationEvents, Batch: 256, Pace: pace, Idempotent: true,
		DLQSubject: subject.DeadLetter(name, subject.ConsumerRevocationEvents),
	}
	g.Go(func() error { return deps.Bus.Consume(ctx, spec, deps.DB, learn) })
	// It owns no operation on the bus, but is seen there like the others.
	g.Go(func() error {
		return natshttp.Serve(ctx, deps.Bus.NC, natshttp.Options{Service: name, Log: deps.Log}, http.NotFoundHandler())
	})
	return g.Wait()
}

// learn keeps what the messages tell of issuers and serial numbers. What it was told before changes nothing: a serial
// number is known, and of an issuer nothing newer is said.
func learn(ctx context.Context, tx pgx.Tx, messages []bus.Message) error {
	var serials []postgres.Serial
	for _, m := range messages {
		switch m.Type {
		case event.Type(event.IssuerConfigured{}):
			i, err := issuerOf(m)
			if err != nil {
				return err
			}
			if err := postgres.SaveIssuer(ctx, tx, i); err != nil {
				return err
			}
		case event.Type(event.CertificateIssued{}), event.Type(event.CertificateRenewed{}):
			s, err := serialOf(m)
			if err != nil {
				return err
			}
			serials = append(serials, s)
		}
	}
	return postgres.SaveSerials(ctx, tx, serials)
}

func issuerOf(m bus.Message) (postgres.Issuer, error) {
	var e event.IssuerConfigured
	if err := decode(m, &e); err != nil {
		return postgres.Issuer{}, err
	}
	// The CA of an issuer that is asked over the network may not be known.
	if e.CAChainPEM != "" {
		if _, err := x509x.ParseCertificates([]byte(e.CAChainPEM)); err != nil {
			return postgres.Issuer{}, fmt.Errorf("CA certificates of %s: %w", e.IssuerID, err)
		}
	}
	i := postgres.Issuer{
		ID: e.IssuerID, Name: e.Name, Type: e.Type, CAChainPEM: e.CAChainPEM, SignsCRL: e.SignsCRL, Version: m.AggVersion,
	}
	for _, a := range e.Authorities {
		if _, err := x509x.ParseCertificates([]byte(a.CAChainPEM)); err != nil {
			return postgres.Issuer{}, fmt.Errorf("CA certificates of %s: %w", a.ID, err)
		}
		i.Authorities = append(i.Authorities, postgres.Authority{
			ID: a.ID, IssuerID: e.IssuerID, KeyID: a.KeyID, CAChainPEM: a.CAChainPEM, SignsCRL: a.SignsCRL,
		})
	}
	return i, nil
}

func serialOf(m bus.Message) (postgres.Serial, error) {
	var e event.CertificateIssued // a renewal has the same fields and one more
	if err := decode(m, &e); err != nil {
		return postgres.Serial{}, err
	}
	number, err := x509x.CanonicalSerial(e.SerialNumber)
	if err != nil {
		return postgres.Serial{}, fmt.Errorf("serial number of %s: %w", e.VersionID, err)
	}
	s := postgres.Serial{
		IssuerID: e.IssuerID, SerialNumber: number, CertificateID: e.CertificateID, VersionID: e.VersionID, NotAfter: e.NotAfter,
		AuthorityKeyID: e.AuthorityKeyID,
	}
	// Older events leave it to the certificate.
	if e.AuthorityKeyID != "" || e.PEMChain == "" {
		return s, nil
	}
	chain, err := x509x.ParseCertificates([]byte(e.PEMChain))
	if err != nil {
		return postgres.Serial{}, fmt.Errorf("certificate of %s: %w", e.VersionID, err)
	}
	s.AuthorityKeyID = hex.EncodeToString(chain[0].AuthorityKeyId)
	return s, nil
}

func decode(m bus.Message, into any) error {
	if err := json.Unmarshal(m.Body, into); err != nil {
		return fault.Wrap(err, fault.Invalid, "%s cannot be read", m.Type)
	}
	return nil
}
