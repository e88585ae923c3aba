package issuance

import (
	"context"
	"sync"
	"time"

	"github.com/certctl/certctl/libs/obs"
)

// asking is what CAs elsewhere are being asked by this process. It is safe for concurrent use.
type asking struct {
	mu       sync.Mutex
	stopping bool                     // guarded by mu
	held     map[string]held          // by job; guarded by mu
	took     map[string]time.Duration // how long an issuer's CA usually takes; guarded by mu
	hung     map[string]lookedUp      // issuers whose CA could not be opened in time; guarded by mu
	running  sync.WaitGroup
}

// held is a job that is asked for.
type held struct {
	token int64
	stop  context.CancelCauseFunc
}

// begin runs f in the background for a job, beyond the end of ctx. It is false if no more is to begin.
func (a *asking) begin(ctx context.Context, w *Work, f func(context.Context)) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopping {
		return false
	}
	ctx, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	if a.held == nil {
		a.held, a.took = map[string]held{}, map[string]time.Duration{}
	}
	a.held[w.ID] = held{w.Token, stop}
	began := time.Now()
	a.running.Go(func() {
		defer func() {
			stop(nil)
			a.end(w, time.Since(began))
		}()
		f(ctx)
	})
	return true
}

func (a *asking) end(w *Work, took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held[w.ID].token == w.Token {
		delete(a.held, w.ID)
	}
	if before, known := a.took[w.IssuerID]; known {
		took = (7*before + took) / 8
	}
	a.took[w.IssuerID] = took
}

// usual is how long an issuer's CA usually takes.
func (a *asking) usual(issuerID string) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if took, known := a.took[issuerID]; known {
		return took
	}
	return usualAnswer
}

// shut returns what came of opening a CA that hangs, for as long as it is not tried again.
func (a *asking) shut(issuerID string, now time.Time) (lookedUp, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, ok := a.hung[issuerID]
	return f, ok && now.Before(f.until)
}

func (a *asking) shutOut(issuerID string, f lookedUp) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hung == nil {
		a.hung = map[string]lookedUp{}
	}
	a.hung[issuerID] = f
}

func (a *asking) tokens() map[string]int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	tokens := make(map[string]int64, len(a.held))
	for id, h := range a.held {
		tokens[id] = h.token
	}
	return tokens
}

// lost ends what is asked for jobs that somebody else has by now.
func (a *asking) lost(tokens map[string]int64, still map[string]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, token := range tokens {
		if h, ok := a.held[id]; ok && h.token == token && !still[id] {
			h.stop(errStopping)
		}
	}
}

// stop ends all that is asked, and waits until it has ended.
func (a *asking) stop() {
	a.mu.Lock()
	a.stopping = true
	for _, h := range a.held {
		h.stop(errStopping)
	}
	a.mu.Unlock()
	a.running.Wait()
}

// Hold keeps the leases of jobs whose CAs are being asked until ctx ends, then ends these requests and gives their jobs
// back.
func (s *Service) Hold(ctx context.Context) error {
	defer s.asking.stop()
	every := time.NewTicker(lease / 4)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
		tokens := s.asking.tokens()
		if len(tokens) == 0 {
			continue
		}
		still, err := s.store.Hold(ctx, tokens, s.clock.Now().Add(lease))
		if err != nil {
			s.log.WarnContext(ctx, "leases could not be extended", obs.KeyError, err)
			continue
		}
		s.asking.lost(tokens, still)
	}
}
