package campaign

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// Step is a campaign that is held, with what becomes of it.
type Step struct {
	// Campaign is written as it is after the step.
	Campaign *Campaign
	// Wave has the counts of the wave that is worked on; what begins or is skipped is moved in both.
	Wave *Counts
	// Take holds the next items of the wave with their certificates. Those that are not there, or not within the scope, are
	// missing.
	Take func(ctx context.Context, n int) (*Batch, error)

	// What is to be stored.
	Batch *Batch
	// WaveBegins and WaveEnds note when.
	WaveBegins, WaveEnds bool
	Facts                []issuance.Fact
}

// Batch is items that begin.
type Batch struct {
	Items        []Item
	Certificates map[string]Chosen
	// Busy are those with a job that is not over.
	Busy map[string]bool

	Starts   []issuance.Start
	Breaches []issuance.Breach
	// Moved are certificates whose record changes.
	Moved []Moved
}

// Moved is a certificate whose record gets another issuer or profile, with the fact that tells of it.
type Moved struct {
	CertificateID, IssuerID, ProfileID string
	Fact                               issuance.Fact
}

// Work takes a step of each campaign that has something to do, and reports whether there may be more at once.
func (s *Service) Work(ctx context.Context) (more bool, err error) {
	open, rehearsals, err := s.store.Open(ctx)
	if err != nil {
		return false, err
	}
	s.underWay.Store(len(open) > 0)
	var failed error
	for _, of := range open {
		if rehearsals[of] {
			if err := s.tryIssuers(ctx, of); err != nil {
				failed = errors.Join(failed, err)
				continue
			}
		}
		moved := false
		_, err := s.store.Step(ctx, of, s.clock.Now(), func(ctx context.Context, step *Step) (err error) {
			moved, err = s.step(ctx, step)
			return err
		})
		more = more || err == nil && moved
		if err != nil && fault.CodeOf(err) != fault.Unavailable {
			err = s.giveUp(ctx, of, err)
		}
		failed = errors.Join(failed, err)
	}
	s.forget(open)
	return more && failed == nil, failed
}

// UnderWay reports whether a campaign was under way at the last look, which a job that ends may concern.
func (s *Service) UnderWay() bool { return s.underWay.Load() }

// giveUp stops a campaign that no item is to blame for: nothing is gained by doing it again.
func (s *Service) giveUp(ctx context.Context, campaignID string, cause error) error {
	s.log.ErrorContext(ctx, "a campaign is stopped", "campaign", campaignID, obs.KeyError, cause)
	_, err := s.store.ChangeCampaign(ctx, Viewer{}, campaignID, func(c *Campaign) (Change, error) {
		if c.Status != Running {
			return Change{}, refuse(c, "already")
		}
		now := s.clock.Now()
		c.Status, c.Reason, c.CompletedAt = Stopped, fault.From(cause).Message, now
		return Change{
			Event: func(e event.Campaign) event.Event {
				return event.CampaignStopped{Campaign: e, Reason: c.Reason, Automatic: true}
			},
			Origin: s.own(c), At: now,
		}, nil
	})
	if code := fault.CodeOf(err); code == fault.Conflict || code == fault.NotFound {
		return nil
	}
	return err
}

// step does what is next about a campaign that is held, and reports whether more may be done at once.
func (s *Service) step(ctx context.Context, step *Step) (bool, error) {
	c, now := step.Campaign, s.clock.Now()
	d := Next(c, *step.Wave, now)
	switch d.Move {
	case Wait:
		return false, nil
	case Begin:
		return true, s.begin(ctx, step, d.Count)
	case NextWave:
		step.WaveEnds = true
		step.tell(s.own(c), now, event.CampaignWaveCompleted{Campaign: c.told(), Wave: c.Wave, WaveCounts: step.Wave.told()})
		c.Wave++
		c.ReadyAt = time.Time{}
		if c.PauseBetween > 0 && !c.Rehearsal {
			c.ReadyAt = now.Add(c.PauseBetween)
		}
	case Stop:
		c.Status, c.Reason, c.CompletedAt = Stopped, d.Reason, now
		step.tell(s.own(c), now, event.CampaignStopped{Campaign: c.told(), Reason: d.Reason, Automatic: true})
		s.log.WarnContext(ctx, "a campaign has stopped itself", "campaign", c.ID, "reason", d.Reason)
	case Complete:
		c.Status, c.CompletedAt = Completed, now
		if c.Total > c.Skipped {
			step.WaveEnds = true
			step.tell(s.own(c), now, event.CampaignWaveCompleted{Campaign: c.told(), Wave: c.Wave, WaveCounts: step.Wave.told()})
		}
		step.tell(s.own(c), now, event.CampaignCompleted{Campaign: c.told()})
		s.log.InfoContext(ctx, "a campaign is completed", "campaign", c.ID, "done", c.Done, "failed", c.Failed, "skipped", c.Skipped)
	}
	return d.Move == NextWave, nil
}

// own is the origin of what a campaign does of its own accord.
func (s *Service) own(c *Campaign) issuance.Origin {
	return issuance.Origin{Actor: issuance.System, CorrelationID: c.Origin.CorrelationID, TraceParent: c.Origin.TraceParent}
}

func (step *Step) tell(o issuance.Origin, at time.Time, e event.Event) {
	step.Facts = append(step.Facts, issuance.Fact{Event: e, Origin: o, At: at})
}

// told is a campaign as events show it.
func (c *Campaign) told() event.Campaign {
	return event.Campaign{CampaignID: c.ID, Name: c.Name, Rehearsal: c.Rehearsal, Status: string(c.Status), Counts: c.Counts.told()}
}

func (c Counts) told() event.CampaignCounts {
	return event.CampaignCounts{
		Total: c.Total, Pending: c.Pending, UnderWay: c.UnderWay(), Done: c.Done, Failed: c.Failed, Skipped: c.Skipped,
	}
}

// holdFor bounds for how long certificates are held while the first of them are signed, with a key in a slow device perhaps.
const holdFor = 2 * time.Second

// begin takes up the next items of the wave.
func (s *Service) begin(ctx context.Context, step *Step, n int) error {
	b, err := step.Take(ctx, n)
	if err != nil {
		return err
	}
	step.Batch, step.WaveBegins = b, true
	c := step.Campaign
	all := s.takeAll(ctx, c, b, s.clock.Now())
	b.Items = b.Items[:len(all)]
	for i, t := range all {
		if t.err != nil {
			return t.err
		}
		b.Breaches = append(b.Breaches, t.breaches...)
		if t.moved != nil {
			b.Moved = append(b.Moved, *t.moved)
		}
		if t.start != nil {
			b.Starts = append(b.Starts, *t.start)
		}
		c.Counts.Move(ItemPending, b.Items[i].Status, 1)
		step.Wave.Move(ItemPending, b.Items[i].Status, 1)
	}
	return nil
}

// taken is what is to be stored of an item that was taken up, besides the item.
type taken struct {
	start    *issuance.Start
	moved    *Moved
	breaches []issuance.Breach
	err      error
}

// together is how many items are taken up side by side: so many that their issuers are looked up together, and more than
// there are processors to sign.
const together = 32

// takeAll takes up the items of a batch, side by side because what it takes is mostly signatures. Those that it does not
// come to in time are left for the next.
func (s *Service) takeAll(ctx context.Context, c *Campaign, b *Batch, now time.Time) []taken {
	out := make([]taken, len(b.Items))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(len(out), together) {
		wg.Go(func() {
			for s.clock.Now().Sub(now) <= holdFor {
				i := int(next.Add(1)) - 1
				if i >= len(out) {
					return
				}
				out[i].err = s.take(ctx, c, b, &b.Items[i], &out[i], now)
			}
		})
	}
	wg.Wait()
	return out[:min(int(next.Load()), len(out))]
}

// take decides what becomes of one item now.
func (s *Service) take(ctx context.Context, c *Campaign, b *Batch, it *Item, t *taken, now time.Time) error {
	it.BegunAt = now
	chosen, there := b.Certificates[it.CertificateID]
	if !there {
		it.Status, it.Reason, it.EndedAt = ItemSkipped, "it is not in the scope of who made the campaign any more", now
		return nil
	}
	served := chosen.Status == issuance.Active || chosen.Status == issuance.Expiring
	if it.NewVersionID != "" && chosen.VersionID == it.NewVersionID && served && !c.flees(&chosen) {
		// It failed to be installed, and was installed after all.
		it.Status, it.Reason, it.EndedAt = ItemDone, "", now
		return nil
	}
	seen := it.OldVersionID
	if it.NewVersionID != "" {
		seen = it.NewVersionID
	}
	if why, skipped := skip(c, &chosen, seen); skipped {
		it.Status, it.Reason, it.EndedAt = ItemSkipped, why, now
		return nil
	}
	if it.NewVersionID == "" {
		it.OldVersionID = chosen.VersionID
	}
	if b.Busy[chosen.ID] && !c.Rehearsal {
		it.Status, it.Reason, it.EndedAt = ItemSkipped, "a job for it is under way already", now
		return nil
	}
	var err error
	if c.Rehearsal {
		err = s.rehearse(ctx, c, &chosen)
		it.Status, it.EndedAt = ItemWouldPass, now
	} else {
		err = s.reissue(ctx, c, it, t, &chosen, now)
	}
	switch code := fault.CodeOf(err); {
	case err == nil:
	case code == fault.Internal, code == fault.Unavailable && !c.Rehearsal:
		return err
	default:
		s.refused(c, it, &chosen, err, now)
	}
	return nil
}

// refused is the outcome of an item that cannot begin. One for which something is under way already is left to that.
func (s *Service) refused(c *Campaign, it *Item, chosen *Chosen, err error, now time.Time) {
	it.Status, it.Reason, it.EndedAt = ItemFailed, fault.From(err).Message, now
	switch {
	case c.Rehearsal:
		it.Status = ItemWouldFail
	case issuance.Renewable(&chosen.Certificate) != nil:
		it.Status = ItemSkipped
	}
}

// reissue begins a renewal, under the issuer and the profile that the campaign gives the certificate.
func (s *Service) reissue(ctx context.Context, c *Campaign, it *Item, t *taken, chosen *Chosen, now time.Time) error {
	after := c.moved(chosen.Certificate)
	csr := ""
	if c.ReuseCSR && len(chosen.TargetIDs) == 0 {
		csr = chosen.CSRPEM
	}
	origin := c.Origin
	origin.CorrelationID = c.ID
	start, err := s.certificates.BeginReissue(ctx, origin, &after, issuance.FirstOf(chosen.Targets), csr)
	// Also of what is refused.
	t.breaches = start.Breaches
	if err != nil {
		return err
	}
	if after.IssuerID != chosen.IssuerID || after.ProfileID != chosen.ProfileID {
		t.moved = &Moved{chosen.ID, after.IssuerID, after.ProfileID, moveFact(&chosen.Certificate, &after, origin, now)}
		// Its row is locked, and that change has raised the revision.
		start.Revision = 0
	}
	start.Breaches = nil
	it.Status, it.JobID, it.Reason = ItemRenewing, start.Job.ID, ""
	t.start = &start
	return nil
}

func moveFact(before, after *issuance.Certificate, o issuance.Origin, now time.Time) issuance.Fact {
	e := event.CertificateUpdated{
		CertificateID: after.ID, CommonName: after.CommonName, IssuerID: after.IssuerID, OwnerID: after.OwnerID, TeamID: after.TeamID,
		Environment: after.Environment, TargetIDs: after.TargetIDs, Changes: event.Changes{},
	}
	if e.TargetIDs == nil {
		e.TargetIDs = []string{}
	}
	if before.IssuerID != after.IssuerID {
		e.Changes["issuer_id"] = event.Change{Before: before.IssuerID, After: after.IssuerID}
	}
	if before.ProfileID != after.ProfileID {
		e.Changes["certificate_profile_id"] = event.Change{Before: before.ProfileID, After: after.ProfileID}
	}
	return issuance.Fact{Event: e, Origin: o, At: now}
}
