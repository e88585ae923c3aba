package campaign

import (
	"context"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// Change is what is written of a campaign besides its own fields.
type Change struct {
	// Event tells of it, given the campaign after the change.
	Event func(event.Campaign) event.Event
	// Retry has items begin again: those that failed, and those that were skipped too if Skipped is set.
	Retry, Skipped bool
	Origin         issuance.Origin
	At             time.Time
}

// Fact is what is told of a change, once it is made.
func (ch *Change) Fact(c *Campaign) issuance.Fact {
	return issuance.Fact{Event: ch.Event(c.told()), Origin: ch.Origin, At: ch.At}
}

// Start begins a campaign.
func (s *Service) Start(ctx context.Context, p authn.Principal, o issuance.Origin, campaignID string) (Campaign, error) {
	return s.change(ctx, p, o, campaignID, func(c *Campaign, now time.Time) (Change, error) {
		if c.Status != Planned {
			return Change{}, refuse(c, "and was started already")
		}
		c.Status, c.StartedAt, c.ResumedAt, c.BaseWave = Running, now, now, c.Wave
		return Change{Event: func(e event.Campaign) event.Event { return event.CampaignStarted{Campaign: e} }}, nil
	})
}

// Pause has a campaign begin nothing more. What is under way goes on.
func (s *Service) Pause(ctx context.Context, p authn.Principal, o issuance.Origin, campaignID string) (Campaign, error) {
	return s.change(ctx, p, o, campaignID, func(c *Campaign, _ time.Time) (Change, error) {
		if c.Status != Running {
			return Change{}, refuse(c, "and not running")
		}
		c.Status = Paused
		return Change{Event: func(e event.Campaign) event.Event { return event.CampaignPaused{Campaign: e} }}, nil
	})
}

// Resume has a campaign go on that was paused or stopped. What had failed by then stops it no more.
func (s *Service) Resume(ctx context.Context, p authn.Principal, o issuance.Origin, campaignID string) (Campaign, error) {
	return s.change(ctx, p, o, campaignID, func(c *Campaign, now time.Time) (Change, error) {
		if c.Status != Paused && c.Status != Stopped {
			return Change{}, refuse(c, "and neither paused nor stopped")
		}
		if c.StartedAt.IsZero() {
			return Change{}, refuse(c, "and was never started; make it anew")
		}
		c.goOn(now)
		return Change{Event: func(e event.Campaign) event.Event { return event.CampaignResumed{Campaign: e} }}, nil
	})
}

// goOn sets a campaign going.
func (c *Campaign) goOn(now time.Time) {
	c.Status, c.Reason, c.CompletedAt = Running, "", time.Time{}
	c.ResumedAt, c.BaseDone, c.BaseFailed, c.BaseWave = now, c.Done, c.Failed, c.Wave
}

// Stop ends a campaign. What has not begun stays as it is; what is under way goes on.
func (s *Service) Stop(ctx context.Context, p authn.Principal, o issuance.Origin, campaignID string) (Campaign, error) {
	return s.change(ctx, p, o, campaignID, func(c *Campaign, now time.Time) (Change, error) {
		if c.Status == Stopped || c.Status == Completed {
			return Change{}, refuse(c, "already")
		}
		c.Status, c.Reason, c.CompletedAt = Stopped, "stopped by "+p.ID, now
		return Change{Event: func(e event.Campaign) event.Event { return event.CampaignStopped{Campaign: e, Reason: c.Reason} }}, nil
	})
}

// Retry has what failed begin again, and what was skipped too if that is asked for, in the wave that is worked on. A campaign
// that has ended goes on with them.
func (s *Service) Retry(ctx context.Context, p authn.Principal, o issuance.Origin, campaignID string, skipped bool) (Campaign, error) {
	return s.change(ctx, p, o, campaignID, func(c *Campaign, now time.Time) (Change, error) {
		switch {
		case c.StartedAt.IsZero():
			return Change{}, refuse(c, "and was never started")
		case c.Rehearsal:
			return Change{}, fault.New(fault.Conflict, "campaign %s is a rehearsal; make another", c.ID)
		case c.Failed == 0 && (!skipped || c.Skipped == 0):
			return Change{}, fault.New(fault.Conflict, "campaign %s has nothing to retry", c.ID)
		}
		change := Change{Retry: true, Skipped: skipped, Event: func(e event.Campaign) event.Event { return event.CampaignResumed{Campaign: e, Retries: true} }}
		if c.Status != Paused {
			c.goOn(now)
		}
		// Of those that failed none is left.
		c.BaseFailed = 0
		return change, nil
	})
}

func refuse(c *Campaign, why string) error {
	return fault.New(fault.Conflict, "campaign %s is %s %s", c.ID, c.Status, why)
}

func (s *Service) change(
	ctx context.Context, p authn.Principal, o issuance.Origin, campaignID string, decide func(*Campaign, time.Time) (Change, error),
) (Campaign, error) {
	c, err := s.store.ChangeCampaign(ctx, ViewerOf(p), campaignID, func(c *Campaign) (Change, error) {
		now := s.clock.Now()
		change, err := decide(c, now)
		change.Origin, change.At = o, now
		return change, err
	})
	if err == nil {
		s.wake()
	}
	return c, err
}
