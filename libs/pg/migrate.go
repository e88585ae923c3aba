package pg

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/certctl/certctl/libs/fault"
)

// versionTable records which migrations a schema has. The runtime role may read it.
const versionTable = "schema_version"

// Migrate brings schema, in the database of adminURL, to the newest version in migrations: goose files in the root of
// that file system. It acts as ownerRole with a search_path of schema alone, so the files name no schema and all they
// make belongs to the owner. Each file is one transaction.
//
// It may be run at every start and by several processes at once. It only goes forward: there is no way down, and a
// schema that is newer than the files is left as it is, so that the previous release can run beside the next.
func Migrate(ctx context.Context, adminURL, schema, ownerRole string, migrations fs.FS) error {
	for _, name := range []string{schema, ownerRole} {
		if err := validName(name); err != nil {
			return err
		}
	}
	cfg, err := pgx.ParseConfig(adminURL)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "the database URL cannot be read")
	}
	cfg.ConnectTimeout = dialTimeout
	cfg.RuntimeParams["application_name"] = "certctl-migrate"
	cfg.RuntimeParams["search_path"] = schema
	// A cached plan of goose's own statements would outlive the tables that migrations change.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	db := stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SET ROLE "+quote(ownerRole))
		return err
	}))
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	if err := migrateUp(ctx, db, schema, migrations); err != nil {
		return fmt.Errorf("migrate schema %s: %w", schema, Fault(err))
	}
	return nil
}

func migrateUp(ctx context.Context, db *sql.DB, schema string, migrations fs.FS) error {
	provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations,
		goose.WithTableName(schema+"."+versionTable),
		goose.WithSessionLocker(sessionLock("migrate/"+schema)),
		goose.WithDisableGlobalRegistry(true))
	if errors.Is(err, goose.ErrNoMigrations) {
		return fault.Wrap(err, fault.Internal, "schema %s has no migrations", schema)
	}
	if err != nil {
		return err
	}
	applied, err := provider.Up(ctx)
	if err != nil || len(applied) == 0 {
		return err
	}
	return protectVersions(ctx, db)
}

// protectVersions takes back what default privileges gave the runtime role on the version table.
func protectVersions(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, `DO $$ DECLARE grantee text; BEGIN
		FOR grantee IN SELECT DISTINCT a.grantee::regrole::text FROM pg_class c, aclexplode(c.relacl) a
			WHERE c.oid = '`+versionTable+`'::regclass AND a.grantee <> c.relowner AND a.grantee <> 0
		LOOP EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON `+versionTable+` FROM %s', grantee); END LOOP; END $$`)
	return err
}

// sessionLock holds an advisory lock on the connection that goose migrates on. goose's own locker polls, by default
// every five seconds.
type sessionLock string

func (l sessionLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock("+keyInSchema+")", string(l))
	return err
}

func (l sessionLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_unlock("+keyInSchema+")", string(l))
	return err
}
