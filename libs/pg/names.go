package pg

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
)

// Schema is one service's place in the database: who owns it, and who works in it.
type Schema struct {
	// Name is the schema's own name, which is the service's.
	Name string
	// OwnerRole owns the schema and all in it. It cannot log in; migrations take it on.
	OwnerRole string
	// RuntimeRole is who the service logs in as. It may read and write rows, and change nothing else.
	RuntimeRole string
	// RuntimePassword is the password of RuntimeRole.
	RuntimePassword string
}

// SchemaOf returns a service's schema with the names that all installations use.
func SchemaOf(service, runtimePassword string) Schema {
	return Schema{
		Name:            service,
		OwnerRole:       "certctl_" + service + "_owner",
		RuntimeRole:     "certctl_" + service,
		RuntimePassword: runtimePassword,
	}
}

// RuntimeURL returns the URL under which the service of s reaches database on the server of adminURL.
func (s Schema) RuntimeURL(adminURL, database string) (string, error) {
	u, err := parseURL(adminURL)
	if err != nil {
		return "", err
	}
	u.User = url.UserPassword(s.RuntimeRole, s.RuntimePassword)
	u.Path = "/" + database
	return u.String(), nil
}

// OnDatabase returns adminURL with another database.
func OnDatabase(adminURL, database string) (string, error) {
	u, err := parseURL(adminURL)
	if err != nil {
		return "", err
	}
	u.Path = "/" + database
	return u.String(), nil
}

func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		// The parser's error quotes the URL, and with it the password.
		return nil, fault.New(fault.Invalid, "the database URL must have the form postgres://user:password@host/database")
	}
	return u, nil
}

var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

func validName(name string) error {
	if !plainName.MatchString(name) {
		return fault.New(fault.Invalid, "%q is no name for a schema or role: use a-z, 0-9 and _", name)
	}
	return nil
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// literal quotes s as a string constant, for the statements that take no parameters.
func literal(s string) string {
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

func (s Schema) validate() error {
	for _, name := range []string{s.Name, s.OwnerRole, s.RuntimeRole} {
		if err := validName(name); err != nil {
			return err
		}
	}
	if s.RuntimePassword == "" || s.OwnerRole == s.RuntimeRole {
		return fault.New(fault.Invalid, "schema %s: %s", s.Name,
			fmt.Sprintf("role %s needs a password and must not be the owner", s.RuntimeRole))
	}
	return nil
}
