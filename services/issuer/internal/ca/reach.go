package ca

import (
	"crypto/tls"
	"errors"
	"net/url"
)

// Unreached says in words why a CA could not be reached over HTTP, without the address, which whoever says it names. If its
// TLS certificate was not believed, setting is said to be where to name what it leads to; empty is no such setting.
func Unreached(err error, setting string) string {
	if at, ok := errors.AsType[*url.Error](err); ok {
		err = at.Err
	}
	says := err.Error()
	if _, doubted := errors.AsType[*tls.CertificateVerificationError](err); doubted && setting != "" {
		says += "; " + setting + " says what to trust"
	}
	return says
}
