package campaign

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func TestNext_DecidesByTheCountsOfItsWave(t *testing.T) {
	running := Campaign{Status: Running, Wave: 1, Last: 3, Settings: Settings{InFlight: 100}}
	for name, c := range map[string]struct {
		change func(*Campaign)
		wave   Counts
		want   Decision
	}{
		"what waits begins, as far as there is room": {func(c *Campaign) { c.Renewing = 70 }, Counts{Total: 50, Pending: 50}, Decision{Move: Begin, Count: 30}},
		"no more begin at a time than a batch":       {func(c *Campaign) { c.InFlight = 5000 }, Counts{Pending: 900}, Decision{Move: Begin, Count: 400}},
		"nothing begins without room":                {func(c *Campaign) { c.Renewing, c.Issued = 60, 40 }, Counts{Pending: 5, Renewing: 60, Issued: 40}, Decision{}},
		"a wave waits for the last of it":            {func(c *Campaign) { c.Issued = 1 }, Counts{Issued: 1, Done: 9}, Decision{}},
		"the next wave follows":                      {func(*Campaign) {}, Counts{Done: 10}, Decision{Move: NextWave}},
		"after the last wave it is complete":         {func(c *Campaign) { c.Wave = 3 }, Counts{Done: 10}, Decision{Move: Complete}},
		"a pause between waves is kept": {
			func(c *Campaign) { c.ReadyAt = noon.Add(time.Minute) },
			Counts{Pending: 10},
			Decision{At: noon.Add(time.Minute)},
		},
		"a pause ends":                     {func(c *Campaign) { c.ReadyAt = noon }, Counts{Pending: 10}, Decision{Move: Begin, Count: 10}},
		"one that is paused does nothing":  {func(c *Campaign) { c.Status = Paused }, Counts{Pending: 10}, Decision{}},
		"one that is stopped does nothing": {func(c *Campaign) { c.Status = Stopped }, Counts{Done: 10}, Decision{}},
		"one failure in the canary is too much": {
			func(c *Campaign) { c.Wave, c.Failed = 0, 1 },
			Counts{Total: 3, Pending: 2, Failed: 1},
			Decision{Move: Stop, Reason: "1 of the canary's 3 failed"},
		},
		"so many may fail": {func(c *Campaign) { c.MaxFailures, c.Failed = new(3), 3 }, Counts{Pending: 1}, Decision{Move: Begin, Count: 1}},
		"one more may not": {func(c *Campaign) { c.MaxFailures, c.Failed = new(3), 4 }, Counts{Pending: 1}, Decision{Move: Stop, Reason: "4 failed, more than the 3 that may"}},
		"a share of few says nothing": {
			func(c *Campaign) { c.MaxFailurePercent, c.Failed, c.Done = new(10), 5, 14 },
			Counts{Pending: 1},
			Decision{Move: Begin, Count: 1},
		},
		"a share of enough does": {
			func(c *Campaign) { c.MaxFailurePercent, c.Failed, c.Done = new(10), 3, 17 },
			Counts{Pending: 1},
			Decision{Move: Stop, Reason: "3 of 20 failed, more than the 10 % that may"},
		},
		"a share of few does at the end of a wave": {
			func(c *Campaign) { c.MaxFailurePercent, c.Failed, c.Done = new(10), 1, 4 },
			Counts{Failed: 1, Done: 4},
			Decision{Move: Stop, Reason: "1 of 5 failed, more than the 10 % that may"},
		},
		"what had failed before it was resumed is forgiven": {func(c *Campaign) {
			c.Wave, c.MaxFailures, c.Failed, c.BaseFailed = 0, new(0), 4, 4
		}, Counts{Pending: 1, Failed: 4}, Decision{Move: Begin, Count: 1}},
		"a rehearsal goes on to the end": {
			func(c *Campaign) { c.Wave, c.Rehearsal, c.MaxFailures, c.Failed = 0, true, new(0), 9 },
			Counts{Pending: 1, Failed: 9},
			Decision{Move: Begin, Count: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			is := running
			c.change(&is)
			if d := cmp.Diff(c.want, Next(&is, c.wave, noon)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestSkip_LeavesWhatHasChangedUnlessTheCampaignLeavesNoneOfItsKind(t *testing.T) {
	active := func(change func(*Chosen)) Chosen {
		c := Chosen{Still: true, CSRPEM: "csr", Certificate: issuance.Certificate{ID: "mc-1", VersionID: "cv-2", Status: issuance.Active}}
		change(&c)
		return c
	}
	elsewhere := "iss-new"
	same := "iss-old"
	for name, c := range map[string]struct {
		campaign Campaign
		chosen   Chosen
		seen     string
		why      string
	}{
		"as it was chosen":                    {Campaign{Settings: Settings{ReuseCSR: true}}, active(func(*Chosen) {}), "cv-2", ""},
		"another version":                     {Campaign{Settings: Settings{ReuseCSR: true}}, active(func(*Chosen) {}), "cv-1", "it has had another version since it was chosen"},
		"another version by the key":          {Campaign{Selection: Selection{AuthorityKeyID: "aa"}, Settings: Settings{ReuseCSR: true}}, active(func(*Chosen) {}), "cv-1", ""},
		"another version not by the key":      {Campaign{Selection: Selection{AuthorityKeyID: "aa"}, Settings: Settings{ReuseCSR: true}}, active(func(c *Chosen) { c.Still = false }), "cv-1", "it has had another version since it was chosen"},
		"another version of an issuer left":   {Campaign{Selection: Selection{IssuerID: same}, Settings: Settings{ReuseCSR: true, ToIssuerID: &elsewhere}}, active(func(*Chosen) {}), "cv-1", ""},
		"another version of the same issuer":  {Campaign{Selection: Selection{IssuerID: same}, Settings: Settings{ReuseCSR: true, ToIssuerID: &same}}, active(func(*Chosen) {}), "cv-1", "it has had another version since it was chosen"},
		"the requester's key":                 {Campaign{}, active(func(*Chosen) {}), "cv-2", holds},
		"the requester's key without request": {Campaign{Settings: Settings{ReuseCSR: true}}, active(func(c *Chosen) { c.CSRPEM = "" }), "cv-2", "its request was not kept, and " + holds},
		"a key on an agent":                   {Campaign{}, active(func(c *Chosen) { c.TargetIDs = []string{"tgt-1"} }), "cv-2", ""},
		"archived":                            {Campaign{}, active(func(c *Chosen) { c.Status = issuance.Archived }), "cv-2", "it was archived meanwhile"},
	} {
		t.Run(name, func(t *testing.T) {
			if why, skipped := skip(&c.campaign, &c.chosen, c.seen); why != c.why || skipped != (c.why != "") {
				t.Errorf("%q, %v", why, skipped)
			}
		})
	}
}

func TestPlan_CountsCostAndTime(t *testing.T) {
	to := "iss-new"
	s := Settings{ToIssuerID: &to, InFlight: 10, WaveSize: 40, PauseBetween: time.Minute, ReuseCSR: true}
	p := newPlan()
	for range 101 {
		c := Chosen{VersionIssuerID: "iss-old", KeyAlgorithm: "RSA", KeySize: 2048, CSRPEM: "csr", Certificate: issuance.Certificate{Status: issuance.Active, OwnerID: "o"}}
		p.add(&s, &c, "", "")
	}
	under := Chosen{CSRPEM: "csr", Certificate: issuance.Certificate{Status: issuance.RenewalInProgress}}
	kind, reason := refusal(&s, &under, fault.New(fault.Conflict, "a renewal is under way"))
	p.add(&s, &under, kind, reason)
	p.Costs["iss-new"].Budget = Budget{RateLimit: 50, RateWindow: time.Hour}
	p.Costs["iss-new"].Took = 2 * time.Second
	p.estimate(&s, 1)
	if kind != KindUnderWay || p.Total != 102 || p.WouldIssue != 101 || p.RefusedBy[KindUnderWay] != 1 || p.ByIssuer["iss-old"] != 101 || p.ByKey["RSA 2048"] != 101 {
		t.Errorf("plan %+v", p)
	}
	if d := cmp.Diff([]int{1, 40, 40, 21}, p.Waves); d != "" {
		t.Error(d)
	}
	// A hundred of a budget of fifty an hour take two windows behind the first, and there are three pauses.
	if c := p.Costs["iss-new"]; c.Requests != 101 || c.AtLeast != 2*time.Hour || p.Takes != 2*time.Hour+3*time.Minute {
		t.Errorf("cost %+v, takes %v", c, p.Takes)
	}
	p.Costs["iss-new"].Budget, p.Takes, p.Waves = Budget{}, 0, nil
	p.estimate(&s, 1)
	if want := (1+4+4+3)*2*time.Second + 3*time.Minute; p.Takes != want {
		t.Errorf("takes %v, want %v", p.Takes, want)
	}
}

func TestCampaign_SaysHowFastItIsAndHowLongItTakesYet(t *testing.T) {
	c := Campaign{
		Status: Running, ResumedAt: noon, Counts: Counts{Pending: 80, Renewing: 10, Done: 30}, BaseDone: 10, Wave: 1, Last: 2,
		BaseWave: 1, Settings: Settings{PauseBetween: time.Minute},
	}
	if left, ok := c.Left(noon.Add(10 * time.Second)); c.Rate(noon.Add(10*time.Second)) != 2 || !ok || left != 105*time.Second {
		t.Errorf("%v left", left)
	}
	if _, ok := c.Left(noon); ok {
		t.Error("it knows before anything has ended")
	}
	// It was at work for ten seconds, and has waited for half of its pause.
	c.BaseWave, c.ReadyAt = 0, noon.Add(70*time.Second)
	if left, ok := c.Left(noon.Add(40 * time.Second)); c.Rate(noon.Add(40*time.Second)) != 2 || !ok || left != (45+60+30)*time.Second {
		t.Errorf("%v left", left)
	}
}
