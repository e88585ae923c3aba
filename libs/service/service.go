// Package service is the frame that a service runs in, the same whether it is a process of its own or one of several in
// certctl.
//
// A service is a function: Run(ctx, Config, Deps) error. It works until ctx ends, finishes what it has in hand and
// returns. Deps is what it is given and does not own: whoever made them closes them after Run has returned.
//
// Main is that owner for a process of its own. It reads the environment (CERTCTL_*), opens the database and the bus,
// answers probes if asked to, and turns SIGTERM or an interrupt into the end of ctx; a second signal kills the process.
// Services may be started in any order: Main waits for Postgres and NATS, and reports itself unready meanwhile.
package service

import (
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/health"
	"github.com/certctl/certctl/libs/secret"
)

// Deps is what every service is given. All but Sealer are always set.
type Deps struct {
	// Log carries the service's name.
	Log *slog.Logger
	// DB is a pool of the service's own role, on its own schema.
	DB *pgxpool.Pool
	// Bus is the service's own user in account CORE.
	Bus *bus.Conn
	// Metrics is the service's own registry.
	Metrics *prometheus.Registry
	// Health already has the checks of DB and Bus.
	Health *health.Registry
	Clock  clock.Clock
	// Sealer seals what the service keeps secret in its schema. It is nil when no sealing key is configured.
	Sealer *secret.Sealer
}
