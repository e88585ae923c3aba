package desk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
	"github.com/certctl/certctl/services/deployment/internal/rollout"
)

// heard is an event and the message that brought it.
type heard[E event.Event] struct {
	Event E
	bus.Message
}

// news sorts a batch by what it tells.
type news struct {
	requested    []heard[event.CertificateRequested]
	keyRequested []heard[event.CertificateKeyRequested]
	issued       []heard[event.CertificateIssued]
	updated      []heard[event.CertificateUpdated]
	archived     []heard[event.CertificateArchived]
	wished       []heard[event.CertificateDeploymentRequested]
}

// Events takes in events of the issuer. It is a bus.Handler.
func (d *Desk) Events(ctx context.Context, tx pgx.Tx, msgs []bus.Message) error {
	n, err := sortNews(msgs)
	if err != nil {
		return err
	}
	s := &said{now: d.Clock.Now()}
	if err := postgres.NoteRequested(ctx, tx, requested(n.requested)); err != nil {
		return err
	}
	if err := d.archive(ctx, tx, s, n.archived); err != nil {
		return err
	}
	if err := d.askForKeys(ctx, tx, s, n.keyRequested); err != nil {
		return err
	}
	issued, causes := newestIssued(n.issued)
	if err := d.deploy(ctx, tx, s, issued, causes); err != nil {
		return err
	}
	if err := d.update(ctx, tx, s, n.updated); err != nil {
		return err
	}
	if err := d.grant(ctx, tx, s, n.wished); err != nil {
		return err
	}
	return s.write(ctx, tx)
}

func sortNews(msgs []bus.Message) (news, error) {
	var n news
	for _, m := range msgs {
		e, err := event.Decode(m.Type, m.Body)
		if errors.Is(err, event.ErrUnknown) {
			continue
		}
		if err != nil {
			return n, fault.Wrap(err, fault.Invalid, "event %s cannot be read", m.ID)
		}
		if err := tokens(e); err != nil {
			return n, err
		}
		switch e := e.(type) {
		case event.CertificateRequested:
			n.requested = append(n.requested, heard[event.CertificateRequested]{e, m})
			if k, asks := e.KeyRequested(); asks {
				n.keyRequested = append(n.keyRequested, heard[event.CertificateKeyRequested]{k, m})
			}
		case event.CertificateKeyRequested:
			n.keyRequested = append(n.keyRequested, heard[event.CertificateKeyRequested]{e, m})
		case event.CertificateIssued:
			n.issued = append(n.issued, heard[event.CertificateIssued]{e, m})
		case event.CertificateRenewed:
			n.issued = append(n.issued, heard[event.CertificateIssued]{e.CertificateIssued, m})
		case event.CertificateUpdated:
			n.updated = append(n.updated, heard[event.CertificateUpdated]{e, m})
		case event.CertificateArchived:
			n.archived = append(n.archived, heard[event.CertificateArchived]{e, m})
		case event.CertificateDeploymentRequested:
			n.wished = append(n.wished, heard[event.CertificateDeploymentRequested]{e, m})
		}
	}
	return n, nil
}

// tokens refuses ids that cannot stand in a subject, or in a list with commas.
func tokens(e event.Event) error {
	var ids []string
	switch e := e.(type) {
	case event.CertificateRequested:
		ids = append(slices.Clone(e.TargetIDs), e.CertificateID)
		if k, asks := e.KeyRequested(); asks {
			ids = append(ids, k.JobID)
		}
	case event.CertificateKeyRequested:
		ids = []string{e.CertificateID, e.JobID}
	case event.CertificateIssued:
		ids = append(slices.Clone(e.TargetIDs), e.CertificateID, e.VersionID)
	case event.CertificateRenewed:
		ids = append(slices.Clone(e.TargetIDs), e.CertificateID, e.VersionID)
	case event.CertificateUpdated:
		ids = append(slices.Clone(e.TargetIDs), e.CertificateID)
		if e.Newest.VersionID != "" {
			ids = append(ids, e.Newest.VersionID)
		}
	case event.CertificateArchived:
		ids = []string{e.CertificateID}
	case event.CertificateDeploymentRequested:
		ids = append(slices.Clone(e.TargetIDs), e.CertificateID, e.VersionID)
	}
	for _, id := range ids {
		if !subject.Token(id) {
			return fault.New(fault.Invalid, "%s speaks of %q, which is no id", event.Type(e), id)
		}
	}
	return nil
}

// requested keeps what is said of certificates with targets, the newest of each.
func requested(events []heard[event.CertificateRequested]) []postgres.Certificate {
	newest := map[string]postgres.Certificate{}
	for _, h := range events {
		e := h.Event
		c := postgres.Certificate{
			ID: e.CertificateID, CommonName: e.CommonName, IssuerID: e.IssuerID, TeamID: e.TeamID,
			Environment: e.Environment, TargetIDs: unique(e.TargetIDs), Revision: h.AggVersion,
		}
		if before, seen := newest[c.ID]; len(c.TargetIDs) > 0 && (!seen || before.Revision <= c.Revision) {
			newest[c.ID] = c
		}
	}
	return ordered(newest)
}

func (d *Desk) archive(ctx context.Context, tx pgx.Tx, s *said, events []heard[event.CertificateArchived]) error {
	ids := make([]string, len(events))
	dooms := make([]postgres.Doom, len(events))
	for i, h := range events {
		ids[i] = h.Event.CertificateID
		dooms[i] = postgres.Doom{CertificateID: ids[i], Reason: "the certificate was archived", Revision: math.MaxInt64}
	}
	if err := postgres.NoteArchived(ctx, tx, ids); err != nil {
		return err
	}
	return postgres.CancelJobs(ctx, tx, dooms, s.now)
}

// askForKeys passes requests for keys on to the agents, or tells at once that it
// cannot.
func (d *Desk) askForKeys(ctx context.Context, tx pgx.Tx, s *said, events []heard[event.CertificateKeyRequested]) error {
	if len(events) == 0 {
		return nil
	}
	ids := make([]string, len(events))
	for i, h := range events {
		ids[i] = h.Event.AgentID
	}
	agents, err := postgres.Agents(ctx, tx, ids)
	if err != nil {
		return err
	}
	orders := map[postgres.OrderKey]*rollout.Order{}
	for _, h := range events {
		e, cause := h.Event, outgoing.After(h.Message)
		agent, known := agents[e.AgentID]
		if why := noKey(e, agent, known, s.now); why != "" {
			failed := event.CSRFailed{CertificateID: e.CertificateID, JobID: e.JobID, Attempt: e.Attempt, AgentID: e.AgentID, Reason: why}
			if err := s.facts([]rollout.Fact{{Event: failed, Revision: int64(e.Attempt)}}, cause); err != nil {
				return err
			}
			continue
		}
		o, err := d.order(rollout.Order{
			JobID: e.JobID, Attempt: e.Attempt, Verb: command.VerbKeyRequest, AgentID: agent.ID, SiteID: agent.SiteID,
			CertificateID: e.CertificateID, ExpiresAt: e.ExpiresAt, Correlation: cause.Correlation, TraceParent: cause.TraceParent,
		}, command.KeyRequest{
			CertificateID: e.CertificateID, CommonName: e.CommonName, SANs: e.SANs, KeyAlgorithm: e.KeyAlgorithm, KeySize: e.KeySize,
			ReuseSPKISHA256: e.ReuseSPKISHA256,
		}, "", s.now)
		if err != nil {
			return err
		}
		orders[postgres.Key(o)] = o
	}
	return s.give(ctx, tx, latest(orders))
}

// latest drops orders that a later attempt in the same batch replaces.
func latest(orders map[postgres.OrderKey]*rollout.Order) []*rollout.Order {
	byJob := map[string]*rollout.Order{}
	for _, o := range orders {
		if other := byJob[o.JobID]; other == nil || other.Attempt < o.Attempt {
			byJob[o.JobID] = o
		}
	}
	return ordered(byJob)
}

func noKey(e event.CertificateKeyRequested, a fleet.Agent, known bool, now time.Time) string {
	switch {
	case !known:
		return fmt.Sprintf("there is no agent %s", e.AgentID)
	case a.Status == fleet.Retired:
		return fmt.Sprintf("agent %s is retired", a.ID)
	case e.Attempt < 1:
		return fmt.Sprintf("attempt %d cannot be", e.Attempt)
	case !e.ExpiresAt.After(now):
		return "the request for a key expired before it could be sent"
	default:
		return ""
	}
}

// deploy begins the jobs of each certificate's newest version and calls off those of
// older ones.
func (d *Desk) deploy(ctx context.Context, tx pgx.Tx, s *said, issued []postgres.Issued, causes map[string]outgoing.Cause) error {
	newest, err := postgres.NoteIssued(ctx, tx, issued)
	if err != nil || len(newest) == 0 {
		return err
	}
	versions := map[string]rollout.Version{}
	for _, i := range issued {
		versions[i.Certificate.ID] = i.Version
	}
	ids, revisions := make([]string, len(newest)), make([]int64, len(newest))
	for i, n := range newest {
		ids[i], revisions[i] = n.CertificateID, versions[n.CertificateID].Revision
	}
	// Somebody may have asked for an older version after this one was issued, and have
	// been heard before it.
	later, err := postgres.LaterWishes(ctx, tx, ids, revisions)
	if err != nil {
		return err
	}
	dooms := make([]postgres.Doom, len(newest))
	var targets []string
	for i, n := range newest {
		v := versions[n.CertificateID]
		dooms[i] = postgres.Doom{
			CertificateID: n.CertificateID, ExceptVersion: v.ID, Reason: "superseded by version " + v.ID, Revision: v.Revision,
		}
		newest[i].TargetIDs = slices.DeleteFunc(n.TargetIDs, func(target string) bool {
			return later[postgres.Granted{CertificateID: n.CertificateID, TargetID: target}]
		})
		targets = append(targets, newest[i].TargetIDs...)
	}
	if err := postgres.CancelJobs(ctx, tx, dooms, s.now); err != nil || len(targets) == 0 {
		return err
	}
	places, err := postgres.Places(ctx, tx, targets)
	if err != nil {
		return err
	}
	p := plan{desk: d, said: s, places: places, versions: map[string]rollout.Version{}}
	for _, n := range newest {
		v, cause := versions[n.CertificateID], causes[n.CertificateID]
		p.versions[v.ID] = v
		for _, target := range n.TargetIDs {
			p.jobs = append(p.jobs, newJob(v, target, d.Policy.MaxAttempts, cause))
			p.causes = append(p.causes, cause)
		}
	}
	if err := p.begin(); err != nil {
		return err
	}
	return p.insert(ctx, tx)
}

// newestIssued keeps one version of each certificate.
func newestIssued(events []heard[event.CertificateIssued]) ([]postgres.Issued, map[string]outgoing.Cause) {
	newest, causes := map[string]postgres.Issued{}, map[string]outgoing.Cause{}
	for _, h := range events {
		e := h.Event
		i := postgres.Issued{
			Certificate: postgres.Certificate{
				ID: e.CertificateID, CommonName: e.CommonName, IssuerID: e.IssuerID, TargetIDs: unique(e.TargetIDs), Revision: h.AggVersion,
			},
			Version: rollout.Version{
				ID: e.VersionID, CertificateID: e.CertificateID, Fingerprint: strings.ToLower(e.FingerprintSHA256),
				NotBefore: e.NotBefore, NotAfter: e.NotAfter, PEMChain: e.PEMChain, KeyAgentID: e.KeyAgentID, Revision: h.AggVersion,
			},
		}
		if before, seen := newest[e.CertificateID]; !seen || i.Version.Newer(before.Version) {
			newest[e.CertificateID], causes[e.CertificateID] = i, outgoing.After(h.Message)
		}
	}
	return ordered(newest), causes
}

func unique(ids []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(ids)))
}

// ordered lists by key, so that replicas write the same rows in the same order.
func ordered[V any](m map[string]V) []V {
	out := make([]V, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[key])
	}
	return out
}
