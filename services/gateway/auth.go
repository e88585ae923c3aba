package gateway

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/gateway/internal/apikey"
	"github.com/certctl/certctl/services/gateway/internal/edge"
	"github.com/certctl/certctl/services/gateway/internal/identity"
	"github.com/certctl/certctl/services/gateway/internal/jwt"
)

// The ways in which callers prove who they are.
const (
	authKeys = "api-key"
	authJWT  = "jwt"
	authNone = "none"
)

// minConfigured keeps words that can be guessed from being an admin's key.
const minConfigured = 16

func (c *Config) validateAuth() error {
	switch c.AuthType {
	case authKeys:
		if n := len(c.AuthSecret); n > 0 && n < minConfigured {
			return fmt.Errorf("CERTCTL_AUTH_SECRET is a key of an admin and has %d characters, which can be guessed; it needs at least %d: openssl rand -base64 32", n, minConfigured)
		}
		return nil
	case authJWT:
		return c.JWT.Validate(c.AuthSecret)
	case authNone:
		if c.AuthNoneAcknowledged != "yes" {
			return errors.New("CERTCTL_AUTH_TYPE=none makes everybody an admin who reaches the address; if that is what you want, set CERTCTL_AUTH_NONE_ACKNOWLEDGED=yes, else leave CERTCTL_AUTH_TYPE unset")
		}
		if !identity.Loopback(c.ServerHost) {
			return fmt.Errorf("CERTCTL_AUTH_TYPE=none is for this machine alone, and CERTCTL_SERVER_HOST is %s; set that to 127.0.0.1, or CERTCTL_AUTH_TYPE to api-key", c.ServerHost)
		}
		return nil
	}
	return fmt.Errorf("CERTCTL_AUTH_TYPE is %q; it can be %s, %s or %s", c.AuthType, authKeys, authJWT, authNone)
}

// callers recognises callers as the configuration says. API keys are good in every way, for
// agents and scripts.
func (c *Config) callers(keys *apikey.Store, deps service.Deps) (edge.Recogniser, error) {
	switch {
	case c.AuthType == authJWT:
		tokens, err := jwt.New(c.JWT, c.AuthSecret, deps.Clock, deps.Log)
		if err != nil {
			return nil, err
		}
		return identity.Chain{tokens, keys}, nil
	case c.AuthType == authNone:
		deps.Log.Warn("nobody is asked who he is", "warning", identity.Warning, "host", c.ServerHost)
		return identity.Anybody{Chain: identity.Chain{keys}}, nil
	case c.AuthSecret != "":
		return identity.Chain{identity.Configured(c.AuthSecret), keys}, nil
	}
	return identity.Chain{keys}, nil
}

// BreakGlass makes an API key in the database of a gateway, for whoever has lost all keys.
// It is told in the audit trail like any other.
func BreakGlass(ctx context.Context, pool *pgxpool.Pool, name string, roles []string) (id, key string, err error) {
	made, key, err := apikey.NewStore(pool, clock.System).BreakGlass(ctx, name, roles)
	return made.ID, key, err
}
