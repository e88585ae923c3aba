package acme

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	protocol "github.com/go-acme/lego/v4/acme"
	"github.com/go-jose/go-jose/v4"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// nonceTries is how often a request is signed anew whose nonce the CA does not take.
const nonceTries = 8

// RotateAccountKey implements [ca.AccountKeyRotator] (RFC 8555 section 7.3.5). The new key is stored before the CA hears of
// it; which of the two the CA knows after it was cut short is asked the next time.
func (a *Authority) RotateAccountKey(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.config.Timeout)
	defer cancel()
	if err := a.register(ctx); err != nil {
		return coded(err)
	}
	// Whatever has become of it meanwhile.
	stored, err := a.stored(ctx)
	if err != nil {
		return err
	}
	if stored.Next != nil {
		if known, err := a.confirm(ctx, stored); known || err != nil {
			return err
		}
	}
	made, err := a.sealedKey()
	if err != nil {
		return err
	}
	if stored, err = a.deps.Accounts.AddNextKey(ctx, *stored, made); err != nil {
		return err
	}
	if err := a.adopt(stored); err != nil {
		return err
	}
	next, err := a.unseal(stored, stored.Next)
	if err != nil {
		return err
	}
	s, err := a.connect(ctx)
	if err != nil {
		return coded(err)
	}
	defer s.close()
	if err := s.changeKey(ctx, a.key.Load(), next); err != nil {
		return coded(err)
	}
	return a.promote(ctx, stored)
}

// promote puts the next key of an account in its place.
func (a *Authority) promote(ctx context.Context, stored *ca.Account) error {
	if err := a.deps.Accounts.AdoptNextKey(ctx, stored.IssuerID, stored.Directory, stored.Next); err != nil {
		return err
	}
	now := *stored
	now.Sealed, now.Next = stored.Next, nil
	return a.adopt(&now)
}

// confirm finds out whether the CA knows an account by its next key, and puts that in its place if so.
func (a *Authority) confirm(ctx context.Context, stored *ca.Account) (known bool, err error) {
	next, err := a.unseal(stored, stored.Next)
	if err != nil {
		return false, err
	}
	s, err := connect(ctx, a.config.Directory, a.config.Roots, "", next)
	if err != nil {
		return false, coded(err)
	}
	defer s.close()
	_, err = s.core.Accounts.New(protocol.Account{OnlyReturnExisting: true})
	if is(err, accountDoesNotExist) {
		return false, nil
	}
	if err != nil {
		return false, coded(err)
	}
	return true, a.promote(ctx, stored)
}

// outdated reports whether the CA refused a signature because the account's key was replaced, by another replica or
// before this process was cut short; the authority has the new one then. Used is the account that was signed for, which
// may have been replaced here meanwhile.
func (a *Authority) outdated(ctx context.Context, used *ca.Account, err error) bool {
	if !is(err, "malformed") && !is(err, "unauthorized") {
		return false
	}
	stored, storeErr := a.deps.Accounts.Account(ctx, a.config.IssuerID, a.config.Directory)
	if storeErr != nil || stored == nil {
		return false
	}
	if !bytes.Equal(stored.Sealed, used.Sealed) {
		return a.adopt(stored) == nil
	}
	if stored.Next == nil {
		return false
	}
	known, confirmErr := a.confirm(ctx, stored)
	return known && confirmErr == nil
}

// changeKey has the CA know the account by another key.
func (s *session) changeKey(ctx context.Context, old, next *ecdsa.PrivateKey) error {
	url := s.core.GetDirectory().KeyChangeURL
	if url == "" {
		return fault.New(fault.Precondition, "the ACME CA does not let account keys be replaced")
	}
	claim, err := json.Marshal(map[string]any{"account": s.account, "oldKey": jose.JSONWebKey{Key: old.Public()}})
	if err != nil {
		return fmt.Errorf("replace the account key: %w", err)
	}
	inner, err := signed(claim, next, &jose.SignerOptions{EmbedJWK: true}, map[jose.HeaderKey]string{"url": url})
	if err != nil {
		return err
	}
	return s.send(ctx, url, inner, old)
}

// send posts what lego has no message for, signed by the account's key.
func (s *session) send(ctx context.Context, url string, payload []byte, key *ecdsa.PrivateKey) (err error) {
	for range nonceTries {
		var body []byte
		body, err = signed(payload, key, &jose.SignerOptions{NonceSource: nonces{ctx, s}}, map[jose.HeaderKey]string{"url": url, "kid": s.account})
		if err != nil {
			return err
		}
		if err = s.post(ctx, url, body); !is(err, "badNonce") {
			return err
		}
	}
	return err
}

func signed(payload []byte, key *ecdsa.PrivateKey, options *jose.SignerOptions, headers map[jose.HeaderKey]string) ([]byte, error) {
	for name, value := range headers {
		options = options.WithHeader(name, value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, options)
	if err != nil {
		return nil, fmt.Errorf("sign for the ACME account: %w", err)
	}
	signature, err := signer.Sign(payload)
	if err != nil {
		return nil, fmt.Errorf("sign for the ACME account: %w", err)
	}
	return []byte(signature.FullSerialize()), nil
}

// nonces asks the CA for a nonce for each signature.
type nonces struct {
	ctx     context.Context
	session *session
}

// Nonce implements [jose.NonceSource].
func (n nonces) Nonce() (string, error) {
	req, err := http.NewRequestWithContext(n.ctx, http.MethodHead, n.session.core.GetDirectory().NewNonceURL, http.NoBody)
	if err != nil {
		return "", err
	}
	res, err := n.session.core.HTTPClient.Do(req)
	if err != nil {
		return "", err
	}
	_ = res.Body.Close()
	return res.Header.Get("Replay-Nonce"), nil
}

// post sends a message that is signed. Its error is a problem if the CA says so.
func (s *session) post(ctx context.Context, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/jose+json")
	res, err := s.core.HTTPClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode < http.StatusBadRequest {
		return err
	}
	p := protocol.ProblemDetails{HTTPStatus: res.StatusCode}
	if err := json.Unmarshal(text, &p); err != nil {
		return fault.New(fault.Unavailable, "the ACME CA answers HTTP %d", res.StatusCode)
	}
	return &p
}
