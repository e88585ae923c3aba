package ca

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/url"
	"syscall"
)

// Unreached says in a few words why a CA's server was not reached over HTTP, without its URL, which may hold what is nobody's
// business. If its TLS certificate was not accepted, setting is said to be where to name what it leads to; empty is no such
// setting.
func Unreached(err error, setting string) string {
	if at, ok := errors.AsType[*url.Error](err); ok {
		err = at.Err
	}
	var untrusted *tls.CertificateVerificationError
	var unknown *net.DNSError
	var network net.Error
	switch {
	case errors.As(err, &untrusted) && setting != "":
		return "its TLS certificate is not accepted: " + untrusted.Err.Error() + "; " + setting + " says what to trust"
	case errors.As(err, &untrusted):
		return "its TLS certificate is not accepted: " + untrusted.Err.Error()
	case errors.As(err, &unknown):
		return "its name cannot be resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "the connection broke"
	default:
		return err.Error()
	}
}
