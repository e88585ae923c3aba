package pg

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
)

// provisionLock serializes Provision between processes. Roles belong to the whole server, so the lock is taken in the
// database of the admin URL, which all callers share.
const provisionLock = 0x63657274_00000001

// Provision makes database ready for schemas: it creates what is missing of the database, each schema and its two
// roles, sets the passwords, and grants. It changes nothing else, may be run at every start and by several processes
// at once, and needs a user who may create roles and databases.
//
// A runtime role may use its schema, read and write the rows of its tables and draw from its sequences, which default
// privileges see to for tables to come. It owns nothing, so it can neither change nor drop a table or a trigger, and
// it has no right to any other schema. A runtime role that is found to have more than that is an error.
func Provision(ctx context.Context, adminURL, database string, schemas []Schema) error {
	if database == "" {
		return fault.New(fault.Invalid, "the database has no name")
	}
	for _, s := range schemas {
		if err := s.validate(); err != nil {
			return err
		}
	}
	target, err := OnDatabase(adminURL, database)
	if err != nil {
		return err
	}
	server, err := connectAdmin(ctx, adminURL)
	if err != nil {
		return err
	}
	defer closeConn(ctx, server)
	if _, err := server.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(provisionLock)); err != nil {
		return fmt.Errorf("wait for other provisioning: %w", Fault(err))
	}
	if err := createDatabase(ctx, server, database); err != nil {
		return err
	}
	for _, s := range schemas {
		if err := provisionRoles(ctx, server, s); err != nil {
			return fmt.Errorf("roles of schema %s: %w", s.Name, Fault(err))
		}
	}
	conn, err := connectAdmin(ctx, target)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	return InTx(ctx, conn, func(tx pgx.Tx) error { return provisionSchemas(ctx, tx, schemas) })
}

func createDatabase(ctx context.Context, conn *pgx.Conn, name string) error {
	var exists bool
	err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists)
	if err != nil || exists {
		return Fault(err)
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+quote(name)+" ENCODING 'UTF8' TEMPLATE template0")
	if err != nil && !isOneOf(err, duplicateDatabase, uniqueViolation) {
		return fmt.Errorf("create database %s: %w", name, Fault(err))
	}
	return nil
}

func provisionRoles(ctx context.Context, conn *pgx.Conn, s Schema) error {
	const none = " NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
	if err := createRole(ctx, conn, s.OwnerRole, " NOLOGIN"+none); err != nil {
		return err
	}
	if err := createRole(ctx, conn, s.RuntimeRole, " LOGIN NOINHERIT"+none); err != nil {
		return err
	}
	if err := refuseExcess(ctx, conn, s); err != nil {
		return err
	}
	if err := setPassword(ctx, conn, s); err != nil {
		return err
	}
	return joinOwner(ctx, conn, s.OwnerRole)
}

func createRole(ctx context.Context, conn *pgx.Conn, role, attributes string) error {
	var exists bool
	err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role).Scan(&exists)
	if err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE ROLE "+quote(role)+attributes)
	if isOneOf(err, duplicateObject, uniqueViolation) {
		return nil
	}
	return err
}

// refuseExcess guards against a role of the same name that was made by hand, or given rights later.
func refuseExcess(ctx context.Context, conn *pgx.Conn, s Schema) error {
	var excess bool
	err := conn.QueryRow(ctx, `SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls
			OR EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid)
		FROM pg_roles r WHERE rolname = $1`, s.RuntimeRole).Scan(&excess)
	if err != nil {
		return err
	}
	if excess {
		return fault.New(fault.Precondition,
			"role %s has rights that no service may have: take away its attributes and memberships", s.RuntimeRole)
	}
	return nil
}

// joinOwner lets an administrator who is not a superuser take on the owner role, as migrations do.
func joinOwner(ctx context.Context, conn *pgx.Conn, owner string) error {
	var member bool
	err := conn.QueryRow(ctx, "SELECT pg_has_role(current_user, $1, 'MEMBER')", owner).Scan(&member)
	if err != nil || member {
		return err
	}
	_, err = conn.Exec(ctx, "GRANT "+quote(owner)+" TO CURRENT_USER")
	return err
}

// setPassword sends what the server would store, so that no password comes into its log. It leaves a password that is
// set already alone where it may look, since every change would write to the catalogue at every start.
func setPassword(ctx context.Context, conn *pgx.Conn, s Schema) error {
	var stored *string
	err := conn.QueryRow(ctx, `SELECT CASE WHEN has_table_privilege('pg_authid', 'SELECT') THEN
			(SELECT rolpassword FROM pg_authid WHERE rolname = $1) END`, s.RuntimeRole).Scan(&stored)
	if err == nil && stored != nil && verifies(*stored, s.RuntimePassword) {
		return nil
	}
	verifier, err := newVerifier(s.RuntimePassword)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "ALTER ROLE "+quote(s.RuntimeRole)+" LOGIN PASSWORD "+literal(verifier))
	return err
}

func provisionSchemas(ctx context.Context, tx pgx.Tx, schemas []Schema) error {
	if err := closePublic(ctx, tx); err != nil {
		return fmt.Errorf("close schema public: %w", err)
	}
	for _, s := range schemas {
		if err := provisionSchema(ctx, tx, s); err != nil {
			return fmt.Errorf("schema %s: %w", s.Name, err)
		}
	}
	return nil
}

// closePublic takes schema public away from everyone. A database may have none.
func closePublic(ctx context.Context, tx pgx.Tx) error {
	var open bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace n, aclexplode(n.nspacl) a
		WHERE n.nspname = 'public' AND a.grantee = 0)`).Scan(&open)
	if err != nil || !open {
		return err
	}
	_, err = tx.Exec(ctx, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
	return err
}

func provisionSchema(ctx context.Context, tx pgx.Tx, s Schema) error {
	var owner string
	err := tx.QueryRow(ctx, "SELECT coalesce((SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = $1), '')",
		s.Name).Scan(&owner)
	if err != nil {
		return err
	}
	if owner == s.OwnerRole {
		return nil
	}
	if owner != "" {
		return fault.New(fault.Precondition, "schema %s belongs to %s, not to %s", s.Name, owner, s.OwnerRole)
	}
	schema, ownerRole, runtime := quote(s.Name), quote(s.OwnerRole), quote(s.RuntimeRole)
	defaults := "ALTER DEFAULT PRIVILEGES FOR ROLE " + ownerRole + " IN SCHEMA " + schema
	for _, statement := range []string{
		"CREATE SCHEMA " + schema + " AUTHORIZATION " + ownerRole,
		"REVOKE ALL ON SCHEMA " + schema + " FROM PUBLIC",
		"GRANT USAGE ON SCHEMA " + schema + " TO " + runtime,
		defaults + " GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO " + runtime,
		defaults + " GRANT USAGE, SELECT ON SEQUENCES TO " + runtime,
	} {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

func connectAdmin(ctx context.Context, url string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the database URL cannot be read")
	}
	cfg.ConnectTimeout = dialTimeout
	cfg.RuntimeParams["application_name"] = "certctl-admin"
	var conn *pgx.Conn
	ctx, cancel := context.WithTimeout(ctx, defaultConnectTimeout)
	defer cancel()
	err = untilAnswered(ctx, func(ctx context.Context) error {
		conn, err = pgx.ConnectConfig(ctx, cfg)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres as administrator: %w", err)
	}
	return conn, nil
}

func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endOfTxLimit)
	defer cancel()
	_ = conn.Close(ctx)
}
