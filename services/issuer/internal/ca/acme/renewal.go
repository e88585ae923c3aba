package acme

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	protocol "github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// Between two questions, whatever the CA says (RFC 9773 section 4.3.3), and if it says nothing.
const (
	soonest, latest = time.Minute, 24 * time.Hour
	usual           = 6 * time.Hour
)

// RenewalAdvice implements [ca.RenewalAdviser].
func (a *Authority) RenewalAdvice(ctx context.Context, leaf []byte) (ca.RenewalAdvice, error) {
	cert, err := x509.ParseCertificate(leaf)
	if err != nil {
		return ca.RenewalAdvice{}, fault.Wrap(err, fault.Invalid, "the certificate cannot be read")
	}
	s, err := a.connect(ctx)
	if err != nil {
		return ca.RenewalAdvice{}, coded(err)
	}
	defer s.close()
	res, err := s.core.Certificates.GetRenewalInfo(renewalID(cert))
	if errors.Is(err, api.ErrNoARI) {
		return ca.RenewalAdvice{}, fault.New(fault.NotFound, "the ACME CA does not say when to renew")
	}
	if err != nil {
		return ca.RenewalAdvice{}, coded(err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusTooManyRequests:
		limited := fault.New(fault.RateLimited, "the ACME CA is asked too often when to renew")
		limited.RetryAfter = max(s.wire.asked(), soonest)
		return ca.RenewalAdvice{}, limited
	case res.StatusCode >= 400 && res.StatusCode < 500:
		return ca.RenewalAdvice{}, fault.New(fault.NotFound, "the ACME CA does not know the certificate: HTTP %d", res.StatusCode)
	case res.StatusCode != http.StatusOK:
		return ca.RenewalAdvice{}, fault.New(fault.Unavailable, "the ACME CA does not say when to renew: HTTP %d", res.StatusCode)
	}
	var said protocol.RenewalInfoResponse
	if err := json.NewDecoder(res.Body).Decode(&said); err != nil {
		return ca.RenewalAdvice{}, fault.Wrap(err, fault.Unavailable, "what the ACME CA says about renewal cannot be read")
	}
	advice := ca.RenewalAdvice{
		Start: said.SuggestedWindow.Start, End: said.SuggestedWindow.End, Explanation: said.ExplanationURL, Again: s.wire.asked(),
	}
	if !advice.End.After(advice.Start) {
		return ca.RenewalAdvice{}, fault.New(fault.Unavailable, "the ACME CA says to renew between %s and %s, which is no time",
			advice.Start.Format(time.RFC3339), advice.End.Format(time.RFC3339))
	}
	if advice.Again == 0 {
		advice.Again = usual
	}
	advice.Again = min(max(advice.Again, soonest), latest)
	return advice, nil
}

// renewalID is how RFC 9773 section 4.1 calls a certificate.
func renewalID(cert *x509.Certificate) string {
	serial := cert.SerialNumber.Bytes()
	if len(serial) == 0 || serial[0] >= 0x80 {
		serial = append([]byte{0}, serial...) // as in DER, where it would be negative without
	}
	return base64.RawURLEncoding.EncodeToString(cert.AuthorityKeyId) + "." + base64.RawURLEncoding.EncodeToString(serial)
}
