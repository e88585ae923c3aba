package natsauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// updateSubject is where servers with a resolver of their own take new account JWTs.
const updateSubject = "$SYS.REQ.CLAIMS.UPDATE"

// PushAccount gives a new account JWT to the servers, over a connection in account
// SYS. When it returns without an error the answering server has applied it: revoked
// users are disconnected.
func PushAccount(ctx context.Context, nc *nats.Conn, accountJWT string) error {
	reply, err := nc.RequestWithContext(ctx, updateSubject, []byte(accountJWT))
	if err != nil {
		return fmt.Errorf("push account: %w", err)
	}
	var answer struct {
		Error *struct {
			Code        int    `json:"code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return fmt.Errorf("push account: %w", err)
	}
	if answer.Error != nil {
		return fmt.Errorf("push account: %s (%d)", answer.Error.Description, answer.Error.Code)
	}
	return nil
}

// ErrStale says that an account JWT is not newer than the one it would replace.
var ErrStale = errors.New("account JWT is not newer than the current one")

// Newer checks an account JWT that came over a link that need not be trusted: it must
// be signed by the operator that the current one is signed by, be for the same
// account, and be newer. The time of a JWT has seconds; one of the same second
// replaces the current one only if it revokes all that the current one revokes.
func Newer(operatorJWT, current, candidate string) (*jwt.AccountClaims, error) {
	operator, err := jwt.DecodeOperatorClaims(operatorJWT)
	if err != nil {
		return nil, fmt.Errorf("operator JWT: %w", err)
	}
	next, err := jwt.DecodeAccountClaims(candidate)
	if err != nil {
		return nil, fmt.Errorf("account JWT: %w", err)
	}
	if !nkeys.IsValidPublicOperatorKey(next.Issuer) || !operator.DidSign(next) {
		return nil, errors.New("account JWT: not signed by the operator")
	}
	results := jwt.CreateValidationResults()
	next.Validate(results)
	if results.IsBlocking(true) {
		return nil, fmt.Errorf("account JWT: %w", errors.Join(results.Errors()...))
	}
	if current == "" {
		return next, nil
	}
	now, err := jwt.DecodeAccountClaims(current)
	if err != nil {
		return nil, fmt.Errorf("current account JWT: %w", err)
	}
	if next.Subject != now.Subject {
		return nil, errors.New("account JWT: for another account")
	}
	if candidate == current || next.IssuedAt < now.IssuedAt ||
		next.IssuedAt == now.IssuedAt && !supersedes(next, now) {
		return nil, ErrStale
	}
	return next, nil
}

func supersedes(next, now *jwt.AccountClaims) bool {
	for key, at := range now.Revocations {
		if next.Revocations[key] < at {
			return false
		}
	}
	return true
}
