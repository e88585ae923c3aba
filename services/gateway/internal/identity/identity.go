// Package identity tells who sends a request, by whatever credential the request bears.
//
// Each kind of credential is a [Kind]: API keys, JSON web tokens, the key of the
// configuration. They stand side by side in a [Chain]; signing in by OIDC will be one more,
// which reads a cookie where these read the Authorization header. What a recognised caller
// may do is package permission's business.
package identity

import (
	"context"
	"net/http"
	"strings"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/gateway/internal/permission"
)

// Kind is one kind of bearer credential.
type Kind interface {
	// Mine reports whether a credential is of this kind, good or not. No other kind is
	// asked about it then.
	Mine(credential string) bool
	// Recognise returns whose it is. Unauthenticated says that it is no good, Unavailable
	// that this cannot be told now.
	Recognise(ctx context.Context, credential string) (authn.Principal, error)
}

// Chain recognises callers by the first kind that their credential is of.
type Chain []Kind

// Recognise returns who sends a request.
func (c Chain) Recognise(r *http.Request) (authn.Principal, error) {
	credential, err := Bearer(r)
	if err != nil {
		return authn.Principal{}, err
	}
	for _, kind := range c {
		if kind.Mine(credential) {
			return kind.Recognise(r.Context(), credential)
		}
	}
	return authn.Principal{}, fault.New(fault.Unauthenticated, "the credential is of no kind that is accepted here; GET /api/v1/auth/info tells which are")
}

// Bearer takes the credential from a request. The scheme's case does not matter (RFC 9110
// section 11.1).
func Bearer(r *http.Request) (string, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return "", fault.New(fault.Unauthenticated, "a credential is needed; send the header Authorization: Bearer <key>")
	}
	scheme, key, found := strings.Cut(header, " ")
	if key = strings.TrimSpace(key); !found || !strings.EqualFold(scheme, "Bearer") || key == "" {
		return "", fault.New(fault.Unauthenticated, "the Authorization header must read: Bearer <key>")
	}
	return key, nil
}

// configured is an admin's key that stands in the configuration.
type configured struct{ hash [32]byte }

// Configured is the kind of the one key that the configuration holds. Of the key itself
// nothing is kept.
func Configured(secret string) Kind { return configured{authn.HashKey(secret)} }

func (c configured) Mine(credential string) bool {
	return authn.Equal(authn.HashKey(credential), c.hash)
}

func (configured) Recognise(context.Context, string) (authn.Principal, error) {
	return authn.Principal{ID: "key-configured", Name: "configured", Kind: authn.KindUser, Roles: []string{permission.Admin}}, nil
}
