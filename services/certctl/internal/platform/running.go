package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/certctl/certctl/libs/atomicfile"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/secret"
)

// running is what an installation that runs leaves in its data folder, so that the
// operator's tools find its servers. It is for the owner's eyes only.
type running struct {
	DatabaseURL string `json:"database_url"`
	NatsURL     string `json:"nats_url,omitempty"`
}

func runningFile(cfg Config) string { return filepath.Join(cfg.DataDir, "running.json") }

// announce tells the operator's tools where the servers are.
func (p *Platform) announce() error {
	r := running{DatabaseURL: p.Database.admin, NatsURL: p.config.NatsURL}
	if p.Hub != nil {
		r.NatsURL = p.Hub.URL()
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return atomicfile.Write(runningFile(p.config), text, 0o600)
}

// Attached is an installation that runs, as the operator's tools use it.
type Attached struct {
	Database  *Database
	Authority *natsauth.Authority
	Sealer    *secret.Sealer
	NatsURL   string

	config Config
	log    *slog.Logger
}

// Attach finds the installation that runs in the data folder.
func Attach(cfg Config, log *slog.Logger) (*Attached, error) {
	text, err := os.ReadFile(runningFile(cfg))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no certctl runs on %s; start certctl up, or set CERTCTL_DATA_DIR to its data folder", cfg.DataDir)
	}
	if err != nil {
		return nil, err
	}
	var r running
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("read %s: %w", runningFile(cfg), err)
	}
	sealer, err := secret.Open(sealingKeyFile(cfg))
	if err != nil {
		return nil, err
	}
	a := &Attached{Sealer: sealer, NatsURL: r.NatsURL, config: cfg, log: log}
	if a.Authority, err = natsauth.Load(authorityDir(cfg), sealer, authorityConfig()); err != nil {
		return nil, err
	}
	if a.Database, err = newDatabase(cfg, sealer); err != nil {
		return nil, err
	}
	a.Database.admin = r.DatabaseURL
	if cfg.DatabaseURL != "" {
		a.Database.name, err = databaseOf(r.DatabaseURL)
	}
	return a, err
}

// Connect connects a user over the network.
func (a *Attached) Connect(ctx context.Context, account natsauth.Account, name string) (*bus.Conn, error) {
	if err := a.Reachable(); err != nil {
		return nil, err
	}
	return connect(ctx, a.Authority, account, name, bus.Options{URL: a.NatsURL}, a.log)
}

// Reachable tells why the bus cannot be reached from outside the process, if so.
func (a *Attached) Reachable() error {
	if a.NatsURL == "" {
		return errors.New("the NATS server of this installation takes no connections from outside; start certctl up with CERTCTL_NATS_LISTEN=127.0.0.1:4222")
	}
	return nil
}
