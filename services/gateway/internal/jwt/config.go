package jwt

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/certctl/certctl/services/gateway/internal/identity"
	"github.com/certctl/certctl/services/gateway/internal/permission"
)

// Config says whose tokens are accepted and what their claims mean. It is read from
// CERTCTL_JWT_*.
type Config struct {
	JwksURL           string            `split_words:"true" desc:"Where the issuer publishes its keys (JWKS): https, file, or http on loopback. Either this or CERTCTL_AUTH_SECRET."`
	Issuer            string            `split_words:"true" desc:"The iss that tokens must have."`
	Audience          string            `split_words:"true" desc:"The aud that tokens must have among theirs."`
	RolesClaim        string            `split_words:"true" default:"roles" desc:"The claim that lists roles, as a list or separated by spaces; dots lead into objects, as in realm_access.roles."`
	RoleMapping       map[string]string `split_words:"true" desc:"What the values of the roles claim mean here, as in pki-admins:admin,pki-ops:operator. Once set, others mean nothing."`
	TeamsClaim        string            `split_words:"true" desc:"The claim that limits a caller to teams; * in it is no limit, and a token without it admits none. Unset: no limit."`
	EnvironmentsClaim string            `split_words:"true" desc:"The same for environments."`
	IssuersClaim      string            `split_words:"true" desc:"The same for issuers."`
	ProfilesClaim     string            `split_words:"true" desc:"The same for profiles."`
}

// minSecret is as long as the hash of HS256, as RFC 7518 section 3.2 demands.
const minSecret = 32

// Validate says what has to be set, and how. The secret is the one of CERTCTL_AUTH_SECRET.
func (c Config) Validate(secret string) error {
	var errs []error
	switch {
	case c.JwksURL == "" && secret == "":
		errs = append(errs, errors.New("CERTCTL_AUTH_TYPE=jwt needs the issuer's keys: set CERTCTL_JWT_JWKS_URL to where it publishes them, or CERTCTL_AUTH_SECRET to the secret that you share with it"))
	case c.JwksURL != "" && secret != "":
		errs = append(errs, errors.New("CERTCTL_JWT_JWKS_URL and CERTCTL_AUTH_SECRET are both set; tokens are signed either way, so set one"))
	case secret != "" && len(secret) < minSecret:
		errs = append(errs, fmt.Errorf("CERTCTL_AUTH_SECRET has %d bytes and needs at least %d; make one with: openssl rand -base64 32", len(secret), minSecret))
	case c.JwksURL != "":
		if _, err := location(c.JwksURL); err != nil {
			errs = append(errs, err)
		}
	}
	if c.Issuer == "" {
		errs = append(errs, errors.New("CERTCTL_JWT_ISSUER must be the iss of the tokens, else anybody's would do"))
	}
	if c.Audience == "" {
		errs = append(errs, errors.New("CERTCTL_JWT_AUDIENCE must be the aud of tokens that are meant for certctl, else those for other services would do"))
	}
	for from, to := range c.RoleMapping {
		if !slices.Contains(permission.Roles(), to) {
			errs = append(errs, fmt.Errorf("CERTCTL_JWT_ROLE_MAPPING maps %s to %q, which is no role; there are %s", from, to, strings.Join(permission.Roles(), ", ")))
		}
	}
	return errors.Join(errs...)
}

// location checks where keys are to be read from.
func location(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("CERTCTL_JWT_JWKS_URL is no URL")
	}
	return u, trusted(u)
}

// trusted refuses keys that somebody could change on their way.
func trusted(u *url.URL) error {
	switch {
	case u.Scheme == "https" && u.Host != "",
		u.Scheme == "file" && u.Host == "" && u.Path != "",
		u.Scheme == "http" && identity.Loopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("keys are read from https://…, file:///… or, on this machine, http://127.0.0.1…; not from %s", u.Redacted())
}
