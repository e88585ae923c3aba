package pg

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/certctl/certctl/libs/fault"
)

// SQLSTATE codes and classes, as in appendix A of the Postgres manual.
const (
	uniqueViolation     = "23505"
	foreignKeyViolation = "23503"
	checkViolation      = "23514"
	serialization       = "40001"
	deadlock            = "40P01"
	lockNotAvailable    = "55P03"
	queryCanceled       = "57014"
	tooManyConnections  = "53300"
	idleSessionEnded    = "25P03"
	duplicateDatabase   = "42P04"
	duplicateObject     = "42710"
	classConnection     = "08"
	classOperator       = "57P"
)

// Fault gives err the code that it has for every caller alike: fault.Unavailable when Postgres is away, starting,
// shutting down, out of connections, or too busy to finish in time. Every other error, a fault among them, is returned
// as it is. InTx applies it; a query made on the pool itself passes its error through Fault.
func Fault(err error) error {
	var coded *fault.Error
	if err == nil || errors.As(err, &coded) {
		return err
	}
	switch {
	case IsUnavailable(err):
		return fault.Wrap(err, fault.Unavailable, "the database is not available")
	case isOneOf(err, lockNotAvailable, queryCanceled, serialization, deadlock):
		return fault.Wrap(err, fault.Unavailable, "the database is busy")
	default:
		return err
	}
}

// IsUnavailable reports whether err says that there is no server, or none that takes this connection for now.
func IsUnavailable(err error) bool {
	if server := serverError(err); server != nil {
		return server.Code == tooManyConnections || server.Code == idleSessionEnded ||
			strings.HasPrefix(server.Code, classConnection) || strings.HasPrefix(server.Code, classOperator)
	}
	return lostConnection(err)
}

// IsUnique reports whether err is a violation of a unique constraint.
func IsUnique(err error) bool { return isOneOf(err, uniqueViolation) }

// IsForeignKey reports whether err is a violation of a foreign key.
func IsForeignKey(err error) bool { return isOneOf(err, foreignKeyViolation) }

// IsCheck reports whether err is a violation of a CHECK constraint.
func IsCheck(err error) bool { return isOneOf(err, checkViolation) }

// IsNotFound reports whether err says that a query which must return a row returned none.
func IsNotFound(err error) bool { return errors.Is(err, pgx.ErrNoRows) }

// Constraint returns the name of the constraint that err says was violated, or "".
func Constraint(err error) string {
	if server := serverError(err); server != nil {
		return server.ConstraintName
	}
	return ""
}

func serverError(err error) *pgconn.PgError {
	server, _ := errors.AsType[*pgconn.PgError](err)
	return server
}

func isOneOf(err error, codes ...string) bool {
	server := serverError(err)
	return server != nil && slices.Contains(codes, server.Code)
}

// lostConnection reports whether err comes from the connection and not from the server. pgx has no one type for it:
// dialling gives ConnectError, a broken read or write the error of the net package, a connection that was found broken
// an error that is only known to be safe to retry.
func lostConnection(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false
	}
	var dial *pgconn.ConnectError
	var network *net.OpError
	return errors.As(err, &dial) || errors.As(err, &network) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, pgconn.ErrConnClosed) || pgconn.SafeToRetry(err)
}
