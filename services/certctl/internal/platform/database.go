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

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/atomicfile"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/libs/pg/local"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/migrations"
)

// databaseName is the database of the private cluster.
const databaseName = "certctl"

// Services are those that own a schema, with their share of the connections.
var Services = []struct {
	Name  string
	Share int32
}{
	{"issuer", 8}, {"deployment", 6}, {"audit", 4}, {"gateway", 3}, {"revocation", 4},
}

// Database is Postgres with a schema and a role for every service.
type Database struct {
	cluster *local.Cluster // nil if it is somebody else's server
	schemas map[string]pg.Schema
	admin   string
	name    string
	shares  int32
	budget  int32
}

// openDatabase starts the private cluster, or uses the server of a URL, and brings
// every schema to its newest version.
func openDatabase(ctx context.Context, cfg Config, sealer *secret.Sealer, log *slog.Logger) (*Database, error) {
	d, err := newDatabase(cfg, sealer)
	if err != nil {
		return nil, err
	}
	if d.admin = cfg.DatabaseURL; d.admin == "" {
		if d.cluster, err = local.Start(ctx, local.Options{
			Dir: filepath.Join(cfg.DataDir, "postgres"), BinDir: cfg.PostgresBin, PeersDir: cfg.PeersDir, Log: log,
		}); err != nil {
			return nil, fmt.Errorf("start the private Postgres: %w", err)
		}
		d.admin = d.cluster.AdminURL()
	} else if d.name, err = databaseOf(d.admin); err != nil {
		return nil, err
	}
	if err := d.prepare(ctx); err != nil {
		return nil, errors.Join(err, d.Close(context.WithoutCancel(ctx)))
	}
	return d, nil
}

// newDatabase knows the roles and their passwords, and not yet the server.
func newDatabase(cfg Config, sealer *secret.Sealer) (*Database, error) {
	passwords, err := loadPasswords(filepath.Join(cfg.DataDir, "database.sealed"), sealer)
	if err != nil {
		return nil, err
	}
	d := &Database{schemas: map[string]pg.Schema{}, name: databaseName, budget: cfg.DatabaseMaxConns}
	for _, s := range Services {
		d.schemas[s.Name] = pg.SchemaOf(s.Name, passwords[s.Name])
		d.shares += s.Share
	}
	return d, nil
}

func (d *Database) prepare(ctx context.Context) error {
	var all []pg.Schema
	for _, s := range Services {
		all = append(all, d.schemas[s.Name])
	}
	if err := pg.Provision(ctx, d.admin, d.name, all); err != nil {
		return fmt.Errorf("make the schemas and roles: %w", err)
	}
	url, err := pg.OnDatabase(d.admin, d.name)
	if err != nil {
		return err
	}
	for _, s := range all {
		if err := pg.Migrate(ctx, url, s.Name, s.OwnerRole, migrations.FS(s.Name)); err != nil {
			return fmt.Errorf("migrate the schema %s: %w", s.Name, err)
		}
	}
	return nil
}

// URL is the URL of a service's own role.
func (d *Database) URL(service string) (string, error) {
	return d.schemas[service].RuntimeURL(d.admin, d.name)
}

// Pool opens the pool of a service, with its share of the connections.
func (d *Database) Pool(ctx context.Context, service string) (*pgxpool.Pool, error) {
	url, err := d.URL(service)
	if err != nil {
		return nil, err
	}
	var share int32
	for _, s := range Services {
		if s.Name == service {
			share = s.Share
		}
	}
	return pg.Open(ctx, url, pg.Options{
		MaxConns: max(2, share*d.budget/d.shares), AppName: "certctl-" + service, Schema: service,
	})
}

// Close stops the private cluster.
func (d *Database) Close(ctx context.Context) error {
	if d.cluster == nil {
		return nil
	}
	return d.cluster.Stop(ctx)
}

func databaseOf(url string) (string, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return "", errors.New("CERTCTL_DATABASE_URL is not a Postgres URL")
	}
	if cfg.ConnConfig.Database == "" {
		return "", errors.New("CERTCTL_DATABASE_URL names no database")
	}
	return cfg.ConnConfig.Database, nil
}

// loadPasswords reads the sealed passwords of the services' roles, and makes those that
// are missing.
func loadPasswords(file string, sealer *secret.Sealer) (map[string]string, error) {
	passwords := map[string]string{}
	sealed, err := os.ReadFile(file)
	switch {
	case err == nil:
		plain, err := sealer.Unseal(sealed, []byte("database passwords"))
		if err != nil {
			return nil, fmt.Errorf("unseal %s: %w", file, err)
		}
		if err := json.Unmarshal(plain, &passwords); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	missing := false
	for _, s := range Services {
		if passwords[s.Name] == "" {
			passwords[s.Name], missing = authn.NewKey(), true
		}
	}
	if !missing {
		return passwords, nil
	}
	plain, err := json.Marshal(passwords)
	if err != nil {
		return nil, err
	}
	if sealed, err = sealer.Seal(plain, []byte("database passwords")); err != nil {
		return nil, err
	}
	return passwords, atomicfile.Write(file, sealed, 0o600)
}
