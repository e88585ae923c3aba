package acme

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	protocol "github.com/go-acme/lego/v4/acme"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// The types of the protocol's problems (RFC 8555 section 6.7), without their common beginning.
const (
	namespace           = "urn:ietf:params:acme:error:"
	accountDoesNotExist = "accountDoesNotExist"
	alreadyRevoked      = "alreadyRevoked"
	badReason           = "badRevocationReason"
	orderNotReady       = "orderNotReady"
	rateLimited         = "rateLimited"
	serverInternal      = "serverInternal"
	userActionRequired  = "userActionRequired"
)

// never are the problems that the same request will meet again. Any other may pass: what a name resolves to, who answers
// there and what an account may do are mended without a new request.
var never = map[string]bool{
	"badCSR": true, "badPublicKey": true, "badSignatureAlgorithm": true, "caa": true, "invalidProfile": true,
	"malformed": true, "rejectedIdentifier": true, "unsupportedIdentifier": true, badReason: true,
}

func problem(err error) *protocol.ProblemDetails {
	p, _ := errors.AsType[*protocol.ProblemDetails](err)
	return p
}

// is tells whether an error is a problem of a type.
func is(err error, kind string) bool {
	p := problem(err)
	return p != nil && p.Type == namespace+kind
}

// coded makes a fault of whatever went wrong with the CA, in the CA's words.
func coded(err error) error {
	if err == nil {
		return nil
	}
	if _, already := errors.AsType[*fault.Error](err); already {
		return err
	}
	if _, pending := errors.AsType[*ca.Pending](err); pending {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fault.Wrap(err, fault.Unavailable, "the ACME CA was not done in time")
	}
	p := problem(err)
	if p == nil {
		return fault.New(fault.Unavailable, "the ACME CA cannot be asked: %s", reason(err))
	}
	kind := strings.TrimPrefix(p.Type, namespace)
	f := fault.New(fault.Unavailable, "the ACME CA says: %s", words(p, kind))
	switch {
	case kind == rateLimited || p.HTTPStatus == http.StatusTooManyRequests:
		f.Code, f.RetryAfter = fault.RateLimited, comeAgain(err, p.Detail, time.Now())
	case never[kind]:
		f.Code = fault.Invalid
	case disbelief[kind]:
		return &ca.Unproven{Err: f}
	}
	return f
}

// words are a problem's, with those about each name, and the page where its user is to do something (RFC 8555 section 7.3.3).
func words(p *protocol.ProblemDetails, kind string) string {
	all := []string{p.Detail}
	for _, sub := range p.SubProblems {
		all = append(all, sub.Identifier.Value+": "+sub.Detail)
	}
	if kind == userActionRequired && p.Instance != "" {
		all = append(all, "see "+p.Instance)
	}
	return strings.Join(all, "; ") + " (" + kind + ")"
}
