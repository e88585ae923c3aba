// Package bus takes the events that the issuer follows to the rules that they concern: agents' answers to requests for
// keys, what became of deployments, and how targets are.
//
// A batch has its effect in one transaction and by few statements, whatever its size. An event that no longer matters
// (an answer to a question that is closed, a deployment of an older version) has none, and is no error. There are no
// rules here.
package bus

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
)

// maxBatch is the most events in one transaction: enough to fill the processors with signatures.
const maxBatch = 256

// Follow handles events until ctx ends. It calls the hooks after its commits.
func Follow(ctx context.Context, conn *bus.Conn, pool *pgxpool.Pool, s *issuance.Service, log *slog.Logger, hooks postgres.Hooks) error {
	h := &handler{service: s, log: log}
	return conn.Consume(ctx, bus.Spec{
		Stream: subject.StreamEvents, Durable: subject.ConsumerIssuerEvents, Batch: maxBatch,
		DLQSubject: subject.DeadLetter("issuer", subject.ConsumerIssuerEvents),
		Committed: func() {
			hooks.Told()
			hooks.Look()
			if h.due.Swap(false) {
				hooks.Due()
			}
		},
	}, pool, h.handle)
}

type handler struct {
	service *issuance.Service
	log     *slog.Logger
	// due tells that a worker has to look at a job. If its batch is not committed after all, the worker looks in vain.
	due atomic.Bool
}

// sorted is a batch by what has to be done with it.
type sorted struct {
	answers                       []issuance.Answer
	completed, failed, rolledBack []issuance.Deployed
	targets                       []postgres.TargetState
}

func (h *handler) handle(ctx context.Context, tx pgx.Tx, batch []bus.Message) error {
	var in sorted
	for i := range batch {
		if err := h.sort(ctx, &in, &batch[i]); err != nil {
			return err
		}
	}
	db := postgres.In(tx)
	if len(in.targets) > 0 {
		if err := db.Targets(ctx, in.targets); err != nil {
			return err
		}
	}
	if len(in.answers) > 0 {
		due, err := h.service.Receive(ctx, db, in.answers)
		if err != nil {
			return err
		}
		if due {
			h.due.Store(true)
		}
	}
	return deployments(ctx, db, &in)
}

func deployments(ctx context.Context, db postgres.Tx, in *sorted) error {
	for _, part := range []struct {
		of   []issuance.Deployed
		note func(context.Context, []issuance.Deployed) error
	}{{in.rolledBack, db.RolledBack}, {in.failed, db.Failed}, {in.completed, db.Completed}} {
		if len(part.of) == 0 {
			continue
		}
		if err := part.note(ctx, part.of); err != nil {
			return err
		}
	}
	return nil
}

func (h *handler) sort(ctx context.Context, in *sorted, m *bus.Message) error {
	decoded, err := event.Decode(m.Type, m.Body)
	if errors.Is(err, event.ErrUnknown) {
		h.log.DebugContext(ctx, "an event of a later version is passed over", obs.KeyEvent, m.ID, "type", m.Type)
		return nil
	}
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "event %s cannot be read", m.ID)
	}
	switch e := decoded.(type) {
	case event.CSRSubmitted:
		in.answers = append(in.answers, issuance.Answer{
			MessageID: m.ID, CertificateID: e.CertificateID, JobID: e.JobID, Attempt: e.Attempt, AgentID: e.AgentID, CSRPEM: e.CSRPEM,
		})
	case event.CSRFailed:
		in.answers = append(in.answers, issuance.Answer{
			MessageID: m.ID, CertificateID: e.CertificateID, JobID: e.JobID, Attempt: e.Attempt, AgentID: e.AgentID, Reason: e.Reason,
		})
	case event.DeploymentCompleted:
		d := deployed(m, &e.Deployment, "")
		d.Fact = issuance.Activation(e.CertificateID, e.VersionID, origin(m), m.ID, m.Time)
		in.completed = append(in.completed, d)
	case event.DeploymentFailed:
		d := deployed(m, &e.Deployment, issuance.Because("could not be installed on target "+e.TargetID, e.Reason))
		d.Fact = issuance.DeploymentFailure(e.CertificateID, e.JobID, d.Reason, origin(m), m.ID, m.Time)
		in.failed = append(in.failed, d)
	case event.DeploymentRolledBack:
		in.rolledBack = append(in.rolledBack, deployed(m, &e.Deployment,
			issuance.Because("installation on target "+e.TargetID+" was rolled back", e.Reason)))
	case event.TargetCreated:
		in.targets = append(in.targets, target(m, &e.Target))
	case event.TargetUpdated:
		in.targets = append(in.targets, target(m, &e.Target))
	case event.TargetDeleted:
		in.targets = append(in.targets, postgres.TargetState{
			Target: issuance.Target{ID: e.TargetID}, Deleted: true, Version: m.AggVersion, At: m.Time,
		})
	}
	return nil
}

func deployed(m *bus.Message, d *event.Deployment, reason string) issuance.Deployed {
	return issuance.Deployed{
		CertificateID: d.CertificateID, VersionID: d.VersionID, TargetID: d.TargetID, At: m.Time, Reason: reason,
	}
}

func target(m *bus.Message, t *event.Target) postgres.TargetState {
	return postgres.TargetState{
		Target:  issuance.Target{ID: t.TargetID, AgentID: t.AgentID, Enabled: t.Enabled},
		Version: m.AggVersion, At: m.Time,
	}
}

func origin(m *bus.Message) issuance.Origin {
	return issuance.Origin{Actor: m.Actor, CorrelationID: m.CorrelationID, TraceParent: m.TraceParent}
}
