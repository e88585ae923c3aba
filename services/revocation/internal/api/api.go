// Package api answers relying parties: CA certificates, revocation lists and OCSP. It
// asks for no key, because those who check a certificate have none.
package api

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/certctl/certctl/contracts/httpapi/revocationapi"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/revocation/internal/crl"
	"github.com/certctl/certctl/services/revocation/internal/ocsp"
	"github.com/certctl/certctl/services/revocation/internal/postgres"
)

// maxRequest is far above any OCSP request that asks for one certificate.
const maxRequest = 16 << 10

// caMaxAge is for how long caches may keep the certificates of a CA.
const caMaxAge = time.Hour

// API implements the operations.
type API struct {
	Store     postgres.Store
	Lists     *crl.Lists
	Responder *ocsp.Responder
	Clock     clock.Clock
}

var _ revocationapi.StrictServerInterface = API{}

// Handler returns the operations' handler. It expects the middleware of the listener
// that it is put on to give requests their ids.
func (a API) Handler() http.Handler {
	r := chi.NewRouter()
	r.Use(httpx.BodyLimit(maxRequest))
	r.NotFound(httpx.NotFound)
	r.MethodNotAllowed(httpx.MethodNotAllowed)
	return revocationapi.HandlerWithOptions(revocationapi.NewStrictHandlerWithOptions(a, nil, revocationapi.StrictHTTPServerOptions{
		RequestErrorHandlerFunc:  httpx.WriteRequestError,
		ResponseErrorHandlerFunc: httpx.WriteProblem,
	}), revocationapi.ChiServerOptions{BaseRouter: r, ErrorHandlerFunc: httpx.WriteRequestError})
}

// keep tells caches for how long they may keep an answer.
func keep(w http.ResponseWriter, d time.Duration) {
	if d < time.Second {
		w.Header().Set("Cache-Control", "no-store")
		return
	}
	w.Header().Set("Cache-Control", "public, max-age="+strconv.Itoa(int(d.Seconds())))
}

// known finds who relying parties ask about: an issuer, or one of its keys.
func (a API) known(ctx context.Context, issuerID string) (postgres.Authority, error) {
	if !id.Valid(issuerID) {
		return postgres.Authority{}, fault.New(fault.NotFound, "issuer not found: %q is not an id that anything has", issuerID)
	}
	i, found, err := a.Store.Authority(ctx, issuerID)
	if err != nil {
		return postgres.Authority{}, err
	}
	if !found {
		return postgres.Authority{}, fault.New(fault.NotFound, "issuer not found: %s", issuerID)
	}
	return i, nil
}

// GetCACertificates returns the chain of an issuer.
func (a API) GetCACertificates(ctx context.Context, r revocationapi.GetCACertificatesRequestObject) (revocationapi.GetCACertificatesResponseObject, error) {
	i, err := a.known(ctx, r.IssuerID)
	if err != nil {
		return nil, err
	}
	if i.CAChainPEM == "" {
		return nil, fault.New(fault.NotFound, "the CA of issuer %s is not known", i.ID)
	}
	return caResponse(i.CAChainPEM), nil
}

// GetCACertificate returns the certificate of the issuing CA alone.
func (a API) GetCACertificate(ctx context.Context, r revocationapi.GetCACertificateRequestObject) (revocationapi.GetCACertificateResponseObject, error) {
	i, err := a.known(ctx, r.IssuerID)
	if err != nil {
		return nil, err
	}
	if i.CAChainPEM == "" {
		return nil, fault.New(fault.NotFound, "the CA of issuer %s is not known", i.ID)
	}
	chain, err := x509x.ParseCertificates([]byte(i.CAChainPEM))
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "the CA certificates of %s cannot be read", i.ID)
	}
	return certificateResponse(chain[0].Raw), nil
}

type certificateResponse []byte

// VisitGetCACertificateResponse implements the contract's response.
func (c certificateResponse) VisitGetCACertificateResponse(w http.ResponseWriter) error {
	keep(w, caMaxAge)
	return revocationapi.GetCACertificate200ApplicationPkixCertResponse{
		Body: bytes.NewReader(c), ContentLength: int64(len(c)),
	}.VisitGetCACertificateResponse(w)
}

type caResponse string

// VisitGetCACertificatesResponse implements the contract's response.
func (c caResponse) VisitGetCACertificatesResponse(w http.ResponseWriter) error {
	keep(w, caMaxAge)
	return revocationapi.GetCACertificates200ApplicationXPemFileResponse{
		Body: strings.NewReader(string(c)), ContentLength: int64(len(c)),
	}.VisitGetCACertificatesResponse(w)
}

// GetCRL returns the current list of an issuer.
func (a API) GetCRL(ctx context.Context, r revocationapi.GetCRLRequestObject) (revocationapi.GetCRLResponseObject, error) {
	i, err := a.known(ctx, r.IssuerID)
	if err != nil {
		return nil, err
	}
	if !i.SignsCRL {
		return nil, fault.New(fault.NotFound, "certctl has no revocation list of issuer %s: its CA publishes its own, or none", i.ID)
	}
	list, err := a.Lists.Current(ctx, i)
	if err != nil {
		return nil, err
	}
	return crlResponse{list: list, now: a.Clock.Now()}, nil
}

// crlResponse adds the caching that a list allows: for an hour, but never beyond its end.
type crlResponse struct {
	list postgres.CRL
	now  time.Time
}

// VisitGetCRLResponse implements the contract's response.
func (c crlResponse) VisitGetCRLResponse(w http.ResponseWriter) error {
	keep(w, min(time.Hour, c.list.NextUpdate.Sub(c.now)))
	h := w.Header()
	h.Set("Last-Modified", c.list.ThisUpdate.UTC().Format(http.TimeFormat))
	h.Set("ETag", `"`+strconv.FormatInt(c.list.Number, 10)+`"`)
	return revocationapi.GetCRL200ApplicationPkixCrlResponse{
		Body: bytes.NewReader(c.list.DER), ContentLength: int64(len(c.list.DER)),
	}.VisitGetCRLResponse(w)
}

// PostOCSP answers a request in the body.
func (a API) PostOCSP(ctx context.Context, r revocationapi.PostOCSPRequestObject) (revocationapi.PostOCSPResponseObject, error) {
	i, err := a.known(ctx, r.IssuerID)
	if err != nil {
		return nil, err
	}
	request, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, httpx.DecodeFault(err)
	}
	answer, err := a.Responder.Answer(ctx, i, request)
	if err != nil {
		return nil, err
	}
	return revocationapi.PostOCSP200ApplicationOcspResponseResponse{
		Body: bytes.NewReader(answer.DER), ContentLength: int64(len(answer.DER)),
	}, nil
}

// GetOCSP answers for a serial number in the path.
func (a API) GetOCSP(ctx context.Context, r revocationapi.GetOCSPRequestObject) (revocationapi.GetOCSPResponseObject, error) {
	i, err := a.known(ctx, r.IssuerID)
	if err != nil {
		return nil, err
	}
	serial, err := x509x.ParseSerial(r.Serial)
	if err != nil {
		return nil, err
	}
	answer, err := a.Responder.AnswerSerial(ctx, i, serial)
	if err != nil {
		return nil, err
	}
	return ocspResponse(answer), nil
}

type ocspResponse ocsp.Answer

// VisitGetOCSPResponse implements the contract's response.
func (o ocspResponse) VisitGetOCSPResponse(w http.ResponseWriter) error {
	keep(w, o.Keep)
	return revocationapi.GetOCSP200ApplicationOcspResponseResponse{
		Body: bytes.NewReader(o.DER), ContentLength: int64(len(o.DER)),
	}.VisitGetOCSPResponse(w)
}
