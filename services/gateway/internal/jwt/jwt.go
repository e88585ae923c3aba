// Package jwt recognises callers by JSON web tokens (RFC 7519) that an issuer outside of
// certctl has signed, in the way that RFC 8725 recommends: the algorithms are fixed by what
// the keys are and never by the token, and issuer, audience and expiry must be there and
// right. Nothing is stored; a token is good until it expires.
package jwt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
)

const (
	// leeway is by how much clocks may differ.
	leeway   = time.Minute
	maxToken = 16 << 10
	maxName  = 255
)

// Verifier recognises tokens. It is safe for concurrent use.
type Verifier struct {
	config     Config
	clock      clock.Clock
	algorithms []jose.SignatureAlgorithm
	keys       func(ctx context.Context, header jose.Header) ([]any, error)
}

// New returns a verifier of tokens that are signed with the keys at config's JwksURL, or
// else with the secret. The config is valid. Keys are read when the first token comes.
func New(config Config, secret string, c clock.Clock, log *slog.Logger) (*Verifier, error) {
	v := &Verifier{config: config, clock: c}
	if config.JwksURL == "" {
		// A public key is no secret: were HS256 accepted beside the others, whoever has the
		// key set could sign with it.
		v.algorithms = []jose.SignatureAlgorithm{jose.HS256}
		v.keys = func(context.Context, jose.Header) ([]any, error) { return []any{[]byte(secret)}, nil }
		return v, nil
	}
	from, err := location(config.JwksURL)
	if err != nil {
		return nil, err
	}
	v.algorithms = append([]jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.ES512, jose.EdDSA}, byRSA...)
	v.keys = newKeySet(from, c, log).candidates
	return v, nil
}

// Mine reports whether a credential has the form of a signed token: three parts. No API key
// has a dot in it.
func (v *Verifier) Mine(credential string) bool {
	return strings.Count(credential, ".") == 2 && !strings.HasPrefix(credential, authn.KeyPrefix)
}

// Recognise returns the principal that a token names.
func (v *Verifier) Recognise(ctx context.Context, token string) (authn.Principal, error) {
	if len(token) > maxToken {
		return authn.Principal{}, refused(nil, "the token is larger than %d KiB", maxToken>>10)
	}
	parsed, err := jwt.ParseSigned(token, v.algorithms)
	if err != nil {
		return authn.Principal{}, refused(err, "the token is no JWT that is signed with an algorithm accepted here")
	}
	header := parsed.Headers[0]
	if kind, _ := header.ExtraHeaders[jose.HeaderType].(string); !aboutAccess(kind) {
		return authn.Principal{}, refused(nil, "the token is of the type %q, which is not for signing in", kind)
	}
	keys, err := v.keys(ctx, header)
	if err != nil {
		return authn.Principal{}, err
	}
	var standard jwt.Claims
	all := claims{}
	for _, key := range keys {
		if err = parsed.Claims(key, &standard, &all); err == nil {
			break
		}
	}
	switch {
	case errors.Is(err, jose.ErrCryptoFailure):
		return authn.Principal{}, refused(err, "the token's signature is wrong")
	case err != nil:
		return authn.Principal{}, refused(err, "the token's claims cannot be read")
	}
	if err := v.check(standard); err != nil {
		return authn.Principal{}, err
	}
	return v.principal(standard.Subject, all), nil
}

// aboutAccess tells tokens that say who somebody is from others that the same issuer signs
// with the same key (RFC 8725 section 3.11, RFC 9068 section 2.1).
func aboutAccess(kind string) bool {
	kind = strings.TrimPrefix(strings.ToLower(kind), "application/")
	return kind == "" || kind == "jwt" || kind == "at+jwt"
}

func (v *Verifier) check(c jwt.Claims) error {
	err := c.ValidateWithLeeway(jwt.Expected{
		Issuer: v.config.Issuer, AnyAudience: jwt.Audience{v.config.Audience}, Time: v.clock.Now(),
	}, leeway)
	switch {
	case errors.Is(err, jwt.ErrExpired):
		return refused(err, "the token has expired; get a new one")
	case errors.Is(err, jwt.ErrNotValidYet), errors.Is(err, jwt.ErrIssuedInTheFuture):
		return refused(err, "the token is not valid yet; are the clocks right?")
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return refused(err, "the token is from another issuer than %s", v.config.Issuer)
	case errors.Is(err, jwt.ErrInvalidAudience):
		return refused(err, "the token is not meant for %s", v.config.Audience)
	case err != nil:
		return refused(err, "the token's claims are not acceptable")
	case c.Expiry == nil:
		return refused(nil, "the token has no expiry (exp)")
	case c.Subject == "":
		return refused(nil, "the token names nobody (sub)")
	}
	return nil
}

func (v *Verifier) principal(subject string, c claims) authn.Principal {
	p := authn.Principal{ID: principalID(subject), Name: subject, Kind: authn.KindUser, Roles: v.config.roles(c), Scope: v.config.scope(c)}
	for _, claim := range []string{"name", "preferred_username", "email"} {
		if name, _ := c[claim].(string); name != "" {
			p.Name = name
			break
		}
	}
	p.Name = strings.ToValidUTF8(p.Name[:min(len(p.Name), maxName)], "")
	return p
}

var plain = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@|+-]{0,127}$`)

// principalID is a subject as the audit trail names it. One that could not stand in a
// header is told by its hash, under a prefix that is kept from the others.
func principalID(subject string) string {
	const hashed = "sha256-"
	if plain.MatchString(subject) && !strings.HasPrefix(subject, hashed) {
		return "user-" + subject
	}
	sum := sha256.Sum256([]byte(subject))
	return "user-" + hashed + hex.EncodeToString(sum[:16])
}

func refused(cause error, format string, a ...any) error {
	if cause == nil {
		return fault.New(fault.Unauthenticated, format, a...)
	}
	return fault.Wrap(cause, fault.Unauthenticated, format, a...)
}
