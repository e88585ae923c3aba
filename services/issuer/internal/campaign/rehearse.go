package campaign

import (
	"context"
	"sync"
	"time"

	"github.com/certctl/certctl/libs/fault"
)

// tryWithin bounds how long a rehearsal waits for a CA.
const tryWithin = 10 * time.Second

// rehearse says why a certificate would not be re-issued, as far as can be told without having it signed.
func (s *Service) rehearse(ctx context.Context, c *Campaign, chosen *Chosen) error {
	after := c.moved(chosen.Certificate)
	csr := ""
	if len(chosen.TargetIDs) == 0 {
		csr = chosen.CSRPEM
	}
	if err := s.certificates.Rehearse(ctx, &after, chosen.Targets, csr); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	tried, ok := s.tried[c.ID][after.IssuerID]
	if !ok {
		return fault.New(fault.Conflict, "issuer %s was not tried, because the certificate's record was changed meanwhile", after.IssuerID)
	}
	return tried
}

// tryIssuers has the issuers of a rehearsal tried, side by side, once in this process. It is done before the campaign is
// held: a CA may take its time.
func (s *Service) tryIssuers(ctx context.Context, campaignID string) error {
	s.mu.Lock()
	_, done := s.tried[campaignID]
	s.mu.Unlock()
	if done {
		return nil
	}
	ids, err := s.store.Destinations(ctx, campaignID)
	if err != nil {
		return err
	}
	came := make([]error, len(ids))
	var wg sync.WaitGroup
	for i, of := range ids {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, tryWithin)
			defer cancel()
			if err := s.try(ctx, of); err != nil {
				came[i] = fault.New(fault.Conflict, "issuer %s cannot be used: %s", of, fault.From(err).Message)
			}
		})
	}
	wg.Wait()
	tried := make(map[string]error, len(ids))
	for i, of := range ids {
		tried[of] = came[i]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried[campaignID] = tried
	return nil
}

// forget drops what came of trying the issuers of rehearsals that are over.
func (s *Service) forget(open []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	still := make(map[string]map[string]error, len(s.tried))
	for _, of := range open {
		if tried, ok := s.tried[of]; ok {
			still[of] = tried
		}
	}
	s.tried = still
}
