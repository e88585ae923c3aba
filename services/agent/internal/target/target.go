// Package target is the seam between an order to deploy and the kinds of servers that
// a certificate can be installed in.
//
// A [Kind] reads a target's configuration; the [Target] it opens installs a bundle,
// proves that it is served, and on any failure puts back what was there. Each kind
// passes the conformance suite in package targettest.
//
// A target keeps what it needs to repair itself after a crash in a [Progress]: when
// Deploy is called again with the same bundle and the progress of a run that was cut
// off, it takes that run to its end, forward or back.
package target

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
)

// Kind makes targets of one type.
type Kind interface {
	// Open reads a target's configuration, with no effect on the host. Its errors are
	// permanent, and fit for whoever wrote the configuration.
	Open(config json.RawMessage) (Target, error)
}

// Target is one place to serve a certificate. It is used by one goroutine at a time.
type Target interface {
	// HoldsKey returns the private key in PEM that is installed at the target now, or
	// nothing. It serves certificates whose key was not made by the agent.
	HoldsKey() []byte
	// Deploy makes the target serve the bundle and returns the SHA-256 fingerprint of
	// the leaf that it then answers with. If that is so already, it changes nothing.
	// A failure is an *Error.
	Deploy(ctx context.Context, b Bundle, p Progress) (servedFingerprint string, err error)
	// Served returns the SHA-256 fingerprint of the leaf that the target answers with, as
	// somebody sees it who looks for the leaf of a bundle, whose key is not needed. It
	// changes nothing.
	Served(ctx context.Context, b Bundle) (servedFingerprint string, err error)
	// Clear deletes what a finished Deploy kept to be able to go back.
	Clear(p Progress) error
}

// Bundle is what is to be served.
type Bundle struct {
	// Chain is the leaf, then its issuers.
	Chain []*x509.Certificate
	// KeyPEM is the leaf's private key.
	KeyPEM []byte
	// Fingerprint is the SHA-256 of the leaf in lower-case hex.
	Fingerprint string
}

// Leaf is the certificate to be served.
func (b Bundle) Leaf() *x509.Certificate { return b.Chain[0] }

// Progress is the durable memory of one deployment.
type Progress interface {
	// Load returns what was saved last, empty at first.
	Load() json.RawMessage
	// Save is durable when it returns.
	Save(json.RawMessage) error
}

// State is how a failed deployment left the target.
type State int

const (
	// Untouched means that nothing was changed.
	Untouched State = iota
	// Restored means that what was there before is there again.
	Restored
	// Broken means that what was there before could not be put back.
	Broken
)

// Error is a deployment that did not succeed.
type Error struct {
	State State
	// Permanent tells that the same order cannot succeed until somebody changes
	// something.
	Permanent bool
	Err       error
}

// Error says why, for a person to read.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Refuse is a permanent error of a deployment that never began.
func Refuse(format string, a ...any) *Error {
	return &Error{State: Untouched, Permanent: true, Err: fmt.Errorf(format, a...)}
}

// AsError returns the *Error in a chain. Any other error is taken as one that left the
// target untouched.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{State: Untouched, Err: err}
}
