package ca

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"syscall"
)

// Unreached says in a few words why a CA's server was not reached. Where it lies and what it was asked are left out, for a URL
// may hold what is nobody's business.
func Unreached(err error) string {
	var untrusted *tls.CertificateVerificationError
	var unknown *net.DNSError
	var network net.Error
	switch {
	case errors.As(err, &untrusted):
		return "its TLS certificate is not accepted: " + untrusted.Err.Error()
	case errors.As(err, &unknown):
		return "its name cannot be resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "no answer in time"
	default:
		return "the connection broke"
	}
}
