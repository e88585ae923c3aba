package registry

import (
	"context"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// Succession is what the next key of a CA is to be. What is empty stays as it is.
type Succession struct {
	CommonName, KeyAlgorithm string
	Days                     int
	CrossSign                bool
}

// Roller is a Kind whose CAs live here, may stand below each other, and can be given further keys.
type Roller interface {
	Kind
	// Parent names the issuer above one of this config, empty if there is none.
	Parent(config map[string]any) string
	// MakeBelow is Make for an issuer below another.
	MakeBelow(ctx context.Context, i, parent Issuer, config map[string]any) (Made, error)
	// Succeed makes a key with its certificate. The parent is nil if the issuer is below none. It is a Conflict if the
	// issuer's certificate is not made here.
	Succeed(ctx context.Context, i Issuer, parent *Issuer, s Succession) (ca.Key, error)
	// Request makes a key and a request for its certificate.
	Request(ctx context.Context, i Issuer, keys []ca.Key, s Succession) (ca.Key, error)
	// Complete returns a pending key with its certificate, and is Invalid if that is not the key's or no CA's.
	Complete(ctx context.Context, i Issuer, pending ca.Key, certPEM string) (ca.Key, error)
	// Usable opens a key, and tells whether it signs revocation lists. It is a Conflict if it cannot be used.
	Usable(ctx context.Context, i Issuer, key ca.Key) (signsCRL bool, err error)
}

// KeyChange is what becomes of an issuer's keys. Empty parts change nothing.
type KeyChange struct {
	// Drop is a pending key that goes, before Put adds a key or takes the place of the one of its id.
	Drop string
	Put  *ca.Key
	// Activate is the id of the key that signs from then on, instead of the one that did.
	Activate string
}

// holding is an issuer whose keys are to change.
type holding struct {
	Issuer
	kind Roller
	keys []ca.Key
}

// hold reads an issuer whose keys somebody wants to change.
func (s *Service) hold(ctx context.Context, p authn.Principal, issuerID string) (*holding, error) {
	i, err := s.store.IssuerByID(ctx, p.Scope, issuerID)
	if err != nil {
		return nil, err
	}
	if err := mayChange(p, issuerID); err != nil {
		return nil, err
	}
	kind, ok := s.registry.kinds[i.Type].(Roller)
	if !ok {
		return nil, fault.New(fault.Conflict, "issuer %s is of type %s: its CA's keys are not here", issuerID, i.Type)
	}
	keys, err := s.store.Keys(ctx, issuerID)
	return &holding{Issuer: i, kind: kind, keys: keys}, err
}

// parent returns the issuer above one of a config, nil if there is none. It must be in use, and the principal's to use.
func (s *Service) parent(ctx context.Context, p authn.Principal, kind Roller, config map[string]any, field string) (*Issuer, error) {
	parentID := kind.Parent(config)
	if parentID == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	refuse := func(reason string) error { return fault.InvalidFields(fault.Field{Name: field, Reason: reason}) }
	above, err := s.store.IssuerByID(ctx, p.Scope, parentID)
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		return nil, refuse("there is no issuer " + parentID)
	case err != nil:
		return nil, err
	}
	if _, ok := s.registry.kinds[above.Type].(Roller); !ok {
		return nil, refuse(parentID + " is of type " + above.Type + "; only a CA that lives here signs for another")
	}
	if !above.Enabled {
		return nil, refuse(parentID + " is disabled, and signs nothing")
	}
	return &above, mayChange(p, parentID)
}

// make makes what belongs to a new issuer.
func (s *Service) make(ctx context.Context, p authn.Principal, kind Kind, i Issuer, config map[string]any) (Made, error) {
	if roller, ok := kind.(Roller); ok {
		parent, err := s.parent(ctx, p, roller, config, "config.parent_issuer_id")
		if err != nil {
			return Made{}, err
		}
		if parent != nil {
			return roller.MakeBelow(ctx, i, *parent, config)
		}
	}
	return kind.Make(i, config)
}

// RollOver gives an issuer's CA a new key and certificate, with which it signs from then on.
func (s *Service) RollOver(ctx context.Context, p authn.Principal, o issuance.Origin, issuerID string, r Succession) (ca.Key, error) {
	h, err := s.hold(ctx, p, issuerID)
	if err != nil {
		return ca.Key{}, err
	}
	parent, err := s.parent(ctx, p, h.kind, h.Config, "parent_issuer_id")
	if err != nil {
		return ca.Key{}, err
	}
	next, err := h.kind.Succeed(ctx, h.Issuer, parent, r)
	if err != nil {
		return ca.Key{}, err
	}
	return s.activate(ctx, o, h, next, KeyChange{Put: &next, Activate: next.ID})
}

// Activate has an issuer's CA sign with another of its keys.
func (s *Service) Activate(ctx context.Context, p authn.Principal, o issuance.Origin, issuerID, keyID string) (ca.Key, error) {
	h, err := s.hold(ctx, p, issuerID)
	if err != nil {
		return ca.Key{}, err
	}
	for _, k := range h.keys {
		switch {
		case k.ID != keyID:
		case k.Active:
			return k, nil
		case k.Pending():
			return ca.Key{}, fault.New(fault.Conflict, "CA key %s has no certificate yet: have its request (ca-request) signed, and hand in the certificate (ca-certificate)", keyID)
		default:
			return s.activate(ctx, o, h, k, KeyChange{Activate: keyID})
		}
	}
	return ca.Key{}, fault.New(fault.NotFound, "issuer %s has no CA key %s", issuerID, keyID)
}

// Pending returns the key of an issuer that waits for its certificate, NotFound if there is none.
func (s *Service) Pending(ctx context.Context, p authn.Principal, issuerID string) (ca.Key, error) {
	if _, err := s.store.IssuerByID(ctx, p.Scope, issuerID); err != nil {
		return ca.Key{}, err
	}
	keys, err := s.store.Keys(ctx, issuerID)
	if err != nil {
		return ca.Key{}, err
	}
	if k := pending(keys); k != nil {
		return *k, nil
	}
	return ca.Key{}, fault.New(fault.NotFound, "issuer %s has no key that waits for a certificate; a POST to ca-request (certctl-cli ca-request --new) makes one", issuerID)
}

// Ask makes a further key for an issuer's CA, and a request for its certificate. One that waits already is dropped.
func (s *Service) Ask(ctx context.Context, p authn.Principal, o issuance.Origin, issuerID string, r Succession) (ca.Key, error) {
	h, err := s.hold(ctx, p, issuerID)
	if err != nil {
		return ca.Key{}, err
	}
	next, err := h.kind.Request(ctx, h.Issuer, h.keys, r)
	if err != nil {
		return ca.Key{}, err
	}
	c, was := KeyChange{Put: &next}, any(nil)
	if k := pending(h.keys); k != nil {
		c.Drop, was = k.ID, k.ID
	}
	return next, s.change(ctx, o, h, h.Issuer, c, event.Changes{"ca_request": {Before: was, After: next.ID}})
}

// Complete hands in the certificate for the request that waits, and has the CA sign with its key.
func (s *Service) Complete(ctx context.Context, p authn.Principal, o issuance.Origin, issuerID, certPEM string) (ca.Key, error) {
	h, err := s.hold(ctx, p, issuerID)
	if err != nil {
		return ca.Key{}, err
	}
	waits := pending(h.keys)
	if waits == nil {
		return ca.Key{}, fault.New(fault.Conflict, "issuer %s has no key that waits for a certificate; a POST to ca-request (certctl-cli ca-request --new) makes one", issuerID)
	}
	k, err := h.kind.Complete(ctx, h.Issuer, *waits, certPEM)
	if err != nil {
		return ca.Key{}, err
	}
	return s.activate(ctx, o, h, k, KeyChange{Put: &k, Activate: k.ID})
}

// activate makes a change after which a key is the active one.
func (s *Service) activate(ctx context.Context, o issuance.Origin, h *holding, k ca.Key, c KeyChange) (ca.Key, error) {
	signs, err := h.kind.Usable(ctx, h.Issuer, k)
	if err != nil {
		return ca.Key{}, err
	}
	var was any
	if a := h.active(); a != nil {
		was = a.ID
	}
	k.Active, k.ActivatedAt = true, s.clock.Now()
	if c.Put != nil {
		c.Put = &k
	}
	after := h.Issuer
	after.CAChainPEM, after.SignsCRL, after.Authorities = k.ChainPEM, signs, h.authorities(&k, signs)
	return k, s.change(ctx, o, h, after, c, event.Changes{"ca_key": {Before: was, After: k.ID}})
}

func (s *Service) change(ctx context.Context, o issuance.Origin, h *holding, after Issuer, c KeyChange, changes event.Changes) error {
	now := s.clock.Now()
	after.UpdatedAt, after.Revision = now, h.Revision+1
	told := Told{Changed: s.fact(after.changed(event.Updated, changes), o, now)}
	if c.Activate != "" {
		told.Configured = new(s.fact(after.Configured(), o, now))
	}
	return s.store.ChangeKeys(ctx, after, c, told)
}

func (h *holding) active() *ca.Key {
	for i := range h.keys {
		if h.keys[i].Active {
			return &h.keys[i]
		}
	}
	return nil
}

func pending(keys []ca.Key) *ca.Key {
	for i := range keys {
		if keys[i].Pending() {
			return &keys[i]
		}
	}
	return nil
}

// authorities are what relying parties may ask about once a key is the active one; none if there is only the first.
func (h *holding) authorities(active *ca.Key, signs bool) []event.Authority {
	signed := map[string]bool{active.ID: signs}
	for _, a := range h.Authorities {
		if a.KeyID != active.ID {
			signed[a.KeyID] = a.SignsCRL
		}
	}
	if a := h.active(); a != nil && len(h.Authorities) == 0 && a.ID != active.ID {
		signed[a.ID] = h.SignsCRL
	}
	var all []event.Authority
	there := false
	for _, k := range append(h.keys[:len(h.keys):len(h.keys)], *active) {
		if k.ID == active.ID {
			if there {
				continue
			}
			k, there = *active, true
		}
		if !k.Pending() {
			all = append(all, event.Authority{
				ID: k.Place, KeyID: k.ID, CAChainPEM: k.ChainPEM, SignsCRL: signed[k.ID], Active: k.ID == active.ID,
			})
		}
	}
	if len(all) == 1 && all[0].ID == h.ID {
		return nil
	}
	return all
}
