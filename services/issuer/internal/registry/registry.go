package registry

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/gather"
)

// Rows has the records of issuers.
type Rows interface {
	// Configured returns those of the issuers that exist.
	Configured(ctx context.Context, ids []string) (map[string]Issuer, error)
	// Announce notes what an issuer's connector says of itself and, if that is new, tells of it.
	Announce(ctx context.Context, i Issuer, now time.Time) error
}

// Settings are a registry's.
type Settings struct {
	// Sealer seals what is secret about an issuer; without it, no such issuer can be set up or opened.
	Sealer *secret.Sealer
	Clock  clock.Clock
	// Given are the issuers that the environment sets up, by their ids.
	Given map[string]Given
}

const (
	// maxLooks bounds how many who ask at once are answered by one query.
	maxLooks    = 256
	lookTimeout = 10 * time.Second
)

// Registry is the CAs in service. It is safe for concurrent use.
type Registry struct {
	rows     Rows
	kinds    map[string]Kind
	settings Settings
	looks    gather.Group[*look]
	asked    atomic.Uint64

	mu   sync.Mutex
	open map[string]opened // guarded by mu
}

type opened struct {
	revision int64
	ca       ca.Issuer
}

// look is one who asks for an issuer's row.
type look struct {
	id, number string
	row        Issuer
	found      bool
}

// New returns the registry of the issuers in rows, of the kinds that this build has, by type.
func New(rows Rows, kinds map[string]Kind, settings Settings) *Registry {
	r := &Registry{rows: rows, kinds: kinds, settings: settings, open: map[string]opened{}}
	r.looks.Key = func(l *look) string { return l.number }
	r.looks.Max, r.looks.Timeout = maxLooks, lookTimeout
	r.looks.Do = func(ctx context.Context, batch []*look) ([]error, error) {
		ids := make([]string, len(batch))
		for i, l := range batch {
			ids[i] = l.id
		}
		found, err := rows.Configured(ctx, ids)
		if err != nil {
			return nil, err
		}
		for _, l := range batch {
			l.row, l.found = found[l.id]
		}
		return nil, nil
	}
	return r
}

// Issuer returns the CA of an issuer that may issue. It is NotFound if there is no such issuer, a Conflict if it is
// disabled, and Unavailable if its CA cannot be opened.
func (r *Registry) Issuer(ctx context.Context, id string) (ca.Issuer, error) {
	row, err := r.row(ctx, id)
	if err != nil {
		return nil, err
	}
	if !row.Enabled {
		return nil, fault.New(fault.Conflict, "issuer %s is disabled", id)
	}
	return r.opened(ctx, row)
}

// Opened returns the CA of an issuer, also of one that is disabled: what it has issued goes on being revoked and
// checked. Its errors are those of Issuer.
func (r *Registry) Opened(ctx context.Context, id string) (ca.Issuer, error) {
	row, err := r.row(ctx, id)
	if err != nil {
		return nil, err
	}
	return r.opened(ctx, row)
}

func (r *Registry) row(ctx context.Context, id string) (Issuer, error) {
	l := &look{id: id, number: strconv.FormatUint(r.asked.Add(1), 36)}
	if err := r.looks.Call(ctx, l); err != nil {
		return Issuer{}, err
	}
	if !l.found {
		r.mu.Lock()
		delete(r.open, id)
		r.mu.Unlock()
		return Issuer{}, fault.New(fault.NotFound, "there is no issuer %s", id)
	}
	return l.row, nil
}

// opened returns the CA of a row. Two who find it changed at once both open it, which does no harm.
func (r *Registry) opened(ctx context.Context, i Issuer) (ca.Issuer, error) {
	r.mu.Lock()
	o, ok := r.open[i.ID]
	r.mu.Unlock()
	if ok && o.revision == i.Revision {
		return o.ca, r.noteChain(ctx, o.ca, i)
	}
	authority, err := r.openNoting(ctx, i)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// Somebody who read a newer row may have been quicker.
	if now, ok := r.open[i.ID]; !ok || now.revision < i.Revision {
		r.open[i.ID] = opened{i.Revision, authority}
	}
	return authority, nil
}

// noteChain puts a CA's chain on record that has shown it only in what it has issued.
func (r *Registry) noteChain(ctx context.Context, authority ca.Issuer, i Issuer) error {
	chain := authority.Chain()
	if i.CAChainPEM != "" || len(chain) == 0 {
		return nil
	}
	i.CAChainPEM = string(x509x.EncodeCertificates(chain...))
	return r.rows.Announce(ctx, i, r.settings.Clock.Now())
}

// openNoting opens the CA of an issuer anew. What is not known of the CA before it answers, such as its chain, is put
// on record the first time.
func (r *Registry) openNoting(ctx context.Context, i Issuer) (ca.Issuer, error) {
	authority, now, err := r.connect(ctx, i)
	if err != nil || now.CAChainPEM == i.CAChainPEM && now.SignsCRL == i.SignsCRL {
		return authority, err
	}
	return authority, r.rows.Announce(ctx, now, r.settings.Clock.Now())
}

// Introduce opens the CA of an issuer anew, and puts on record what it says of itself.
func (r *Registry) Introduce(ctx context.Context, i Issuer) (ca.Issuer, error) {
	authority, now, err := r.connect(ctx, i)
	if err != nil {
		return nil, err
	}
	return authority, r.rows.Announce(ctx, now, r.settings.Clock.Now())
}

// connect opens the CA of an issuer, and returns what the record is to say of it.
func (r *Registry) connect(ctx context.Context, i Issuer) (ca.Issuer, Issuer, error) {
	kind, ok := r.kinds[i.Type]
	if !ok {
		return nil, i, fault.New(fault.Unavailable, "issuer %s is of type %s, for which this build has no connector", i.ID, i.Type)
	}
	whole := i
	var err error
	if whole.Config, err = r.whole(i); err != nil {
		return nil, i, err
	}
	authority, config, err := kind.Open(ctx, whole)
	if fault.CodeOf(err) == fault.Invalid {
		// It is the record that is wrong, and not what is asked of it now. The record may be mended.
		err = fault.Wrap(err, fault.Unavailable, "%s", fault.From(err).Message)
	}
	if err != nil {
		return nil, i, err
	}
	i.Config, i.SignsCRL = r.shown(i.Type, config), false
	if signer, ok := authority.(ca.CRLSigner); ok {
		i.SignsCRL = signer.SignsCRLs()
	}
	// A CA may show its chain only in what it issues.
	if chain := authority.Chain(); len(chain) > 0 {
		i.CAChainPEM = string(x509x.EncodeCertificates(chain...))
	}
	return authority, i, nil
}
