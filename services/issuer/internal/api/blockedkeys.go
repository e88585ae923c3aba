package api

import (
	"context"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/blockedkey"
)

// ListBlockedKeys implements the operation of that name.
func (s *server) ListBlockedKeys(ctx context.Context, r issuerapi.ListBlockedKeysRequestObject) (issuerapi.ListBlockedKeysResponseObject, error) {
	at, err := pageOf(r.Params.Page, r.Params.PerPage, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	reason, err := filter("reason", (*string)(r.Params.Reason))
	if err != nil {
		return nil, err
	}
	found, err := s.store.BlockedKeyList(ctx, reason, at)
	if err != nil {
		return nil, err
	}
	out := issuerapi.ListBlockedKeys200JSONResponse{
		Data: make([]issuerapi.BlockedKey, len(found.Rows)), Total: found.Total,
		Page: at.Number, PerPage: at.Size, NextCursor: next(found.Next),
	}
	for i := range found.Rows {
		out.Data[i] = blockedKey(&found.Rows[i])
	}
	return out, nil
}

// BlockKey implements the operation of that name.
func (s *server) BlockKey(ctx context.Context, r issuerapi.BlockKeyRequestObject) (issuerapi.BlockKeyResponseObject, error) {
	p, origin := asking(ctx)
	b := r.Body
	k, err := s.keys.Block(ctx, p, origin, blockedkey.Given{
		CertificatePEM: value(b.CertificatePem), RequestPEM: value(b.CsrPem), PublicKeyPEM: value(b.PublicKeyPem), SPKISHA256: value(b.SpkiSha256),
	}, blockedkey.Reason(b.Reason), value(b.Comment))
	if err != nil {
		return nil, err
	}
	return issuerapi.BlockKey201JSONResponse(blockedKey(&k)), nil
}

// GetBlockedKey implements the operation of that name.
func (s *server) GetBlockedKey(ctx context.Context, r issuerapi.GetBlockedKeyRequestObject) (issuerapi.GetBlockedKeyResponseObject, error) {
	h, err := keyHash(r.ID)
	if err != nil {
		return nil, err
	}
	k, err := s.store.BlockedKey(ctx, h)
	if err != nil {
		return nil, err
	}
	return issuerapi.GetBlockedKey200JSONResponse(blockedKey(&k)), nil
}

// UnblockKey implements the operation of that name.
func (s *server) UnblockKey(ctx context.Context, r issuerapi.UnblockKeyRequestObject) (issuerapi.UnblockKeyResponseObject, error) {
	h, err := keyHash(r.ID)
	if err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	if err := s.keys.Unblock(ctx, p, origin, h); err != nil {
		return nil, err
	}
	return issuerapi.UnblockKey204Response{}, nil
}

func keyHash(id string) (blockedkey.Hash, error) {
	h, ok := blockedkey.ParseHash(id)
	if !ok {
		return h, fault.New(fault.NotFound, "there is no blocked key of this id; it is the SHA-256 of the SubjectPublicKeyInfo in hexadecimal digits")
	}
	return h, nil
}

func blockedKey(k *blockedkey.Key) issuerapi.BlockedKey {
	return issuerapi.BlockedKey{
		ID: k.Hash.String(), Reason: issuerapi.BlockedKeyReason(k.Reason), Comment: k.Comment, BlockedBy: k.By, CreatedAt: k.CreatedAt.UTC(),
	}
}
