// Package config reads a program's settings from its environment, once, into a struct.
//
//	type Config struct {
//		ServerPort   int           `split_words:"true" default:"8080" desc:"Port of the HTTP listener."`
//		RenewalSweep time.Duration `split_words:"true" default:"1h" desc:"..."`
//		AuthSecret   string        `split_words:"true" secret:"true" desc:"..."`
//	}
//
// With prefix CERTCTL these are CERTCTL_SERVER_PORT, CERTCTL_RENEWAL_SWEEP and CERTCTL_AUTH_SECRET. The work is done by
// envconfig; this package closes its gaps:
//
//   - a variable that is set but empty counts as not set, and is removed from the environment;
//   - a name comes from the field alone, since envconfig would also read a tagged name without its prefix;
//   - a field tagged secret may instead be read from the file named by <NAME>_FILE;
//   - elements of a list lose the spaces around them;
//   - no error repeats a value.
//
// A struct with a Validate() error method is asked for its verdict last. The struct must be of use when nothing is set:
// what has no default tag keeps the value it had.
package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/kelseyhightower/envconfig"
)

const maxSecretFile = 64 << 10

// Load fills into, a pointer to a struct, from the variables that start with prefix and an underscore.
func Load(prefix string, into any) error {
	vars, err := gather(prefix, into)
	if err != nil {
		return err
	}
	if err := dropEmpty(vars); err != nil {
		return err
	}
	if err := envconfig.Process(prefix, into); err != nil {
		return withoutValue(err)
	}
	for _, v := range vars {
		if v.secret() {
			if err := readSecret(v); err != nil {
				return err
			}
		}
		trimList(v.field)
	}
	if c, ok := into.(interface{ Validate() error }); ok {
		return c.Validate()
	}
	return nil
}

func dropEmpty(vars []variable) error {
	for _, v := range vars {
		for _, name := range v.names() {
			if value, set := os.LookupEnv(name); !set || value != "" {
				continue
			}
			if err := os.Unsetenv(name); err != nil {
				return fmt.Errorf("drop empty %s: %w", name, err)
			}
		}
	}
	return nil
}

// withoutValue rewrites envconfig's parse error, which quotes the value and wraps errors that quote it again.
func withoutValue(err error) error {
	if e, ok := errors.AsType[*envconfig.ParseError](err); ok {
		return fmt.Errorf("%s is not %s", e.KeyName, expectation(e.TypeName))
	}
	return err
}

func expectation(typeName string) string {
	switch {
	case typeName == "time.Duration":
		return "a duration such as 30s, 5m or 24h"
	case typeName == "bool":
		return "true or false"
	case strings.HasPrefix(typeName, "int"):
		return "a whole number that fits its range"
	case strings.HasPrefix(typeName, "uint"):
		return "a whole number, zero or more, that fits its range"
	case strings.HasPrefix(typeName, "float"):
		return "a number"
	case strings.HasPrefix(typeName, "map["):
		return "a list of the form key:value,key:value"
	default:
		return "a valid " + typeName
	}
}

func readSecret(v variable) error {
	path, fromFile := os.LookupEnv(v.fileName())
	if !fromFile {
		return nil
	}
	if _, both := os.LookupEnv(v.key); both {
		return fmt.Errorf("set either %s or %s, not both", v.key, v.fileName())
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", v.fileName(), err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return fmt.Errorf("%s: %w", v.fileName(), err)
	}
	if len(b) > maxSecretFile {
		return fmt.Errorf("%s: the file is larger than %d bytes", v.fileName(), maxSecretFile)
	}
	value := strings.TrimRight(string(b), "\r\n")
	if value == "" {
		return fmt.Errorf("%s: the file is empty", v.fileName())
	}
	v.field.SetString(value)
	return nil
}

func trimList(field reflect.Value) {
	if field.Kind() != reflect.Slice || field.Type().Elem().Kind() != reflect.String {
		return
	}
	for i := range field.Len() {
		e := field.Index(i)
		e.SetString(strings.TrimSpace(e.String()))
	}
}

var durationType = reflect.TypeFor[time.Duration]()
