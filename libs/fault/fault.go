// Package fault is the one error type that crosses a process boundary.
//
// A fault carries a code, a message and, for bad input, the fields at fault. All of these may be shown to whoever
// asked. What went wrong underneath travels as the cause: it is part of Error, so it reaches the log, and is part of
// no encoding, so it never reaches a client or another service.
//
// An owner decides the code once, where it knows what happened. Between services the fault travels as JSON; the
// gateway turns it into an HTTP problem and a consumer turns it into a verdict over its message, both by the table in
// code.go. An error without a fault in its chain counts as Internal, an expired or cancelled context as Unavailable.
//
// Faults are for the cases that a caller must tell apart. Everything else is an ordinary wrapped error.
package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Error is a coded error. Make one with New or Wrap; it is immutable once it has been returned.
type Error struct {
	Code    Code
	Message string
	// Fields names the parts of the input at fault, in the order in which they were found. Invalid has them, and a Conflict
	// that several things are in the way of.
	Fields []Field
	// RetryAfter asks the caller to wait that long before it tries again. Zero leaves the delay to the caller.
	RetryAfter time.Duration

	cause error
}

// Field is one part of an input at fault. Name is a path in the terms of the input, such as "sans[2]". In says where the
// input holds it (query, path, header, body), and is empty where that is plain.
type Field struct {
	Name   string `json:"field"`
	In     string `json:"in,omitempty"`
	Reason string `json:"reason"`
}

// New returns a fault whose message is meant for the client.
func New(code Code, format string, a ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, a...)}
}

// Wrap returns a fault that keeps err as its cause. The message is for the client; err is only for the log.
func Wrap(err error, code Code, format string, a ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, a...), cause: err}
}

// InvalidFields returns an Invalid fault whose message lists the fields.
func InvalidFields(fields ...Field) *Error {
	reasons := make([]string, len(fields))
	for i, f := range fields {
		reasons[i] = f.Name + ": " + f.Reason
	}
	return &Error{Code: Invalid, Message: strings.Join(reasons, "; "), Fields: fields}
}

// Error is the message and its cause, for logs. Clients are shown Message.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.Message
	}
	return e.Message + ": " + e.cause.Error()
}

// Unwrap returns the cause, so that errors.Is and errors.As see through a fault.
func (e *Error) Unwrap() error { return e.cause }

// From returns the outermost fault in err's chain. An error without one becomes Unavailable when a context ended, else
// Internal, with a message that gives nothing away and err as the cause. From(nil) is nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok && e != nil {
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return Wrap(err, Unavailable, "the request was not finished in time")
	}
	return Wrap(err, Internal, "internal error")
}

// CodeOf returns the code that From would give err, and the empty code for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	return From(err).Code
}

type wire struct {
	Code         Code    `json:"code"`
	Message      string  `json:"message"`
	Fields       []Field `json:"fields,omitempty"`
	RetryAfterMS int64   `json:"retry_after_ms,omitempty"`
}

// MarshalJSON encodes everything but the cause.
func (e *Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(wire{e.Code, e.Message, e.Fields, e.RetryAfter.Milliseconds()})
}

// UnmarshalJSON decodes what MarshalJSON wrote. A fault without a code, or with one that this version does not know,
// is kept as it came: the table treats it as Internal.
func (e *Error) UnmarshalJSON(b []byte) error {
	var w wire
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("decode fault: %w", err)
	}
	*e = Error{Code: w.Code, Message: w.Message, Fields: w.Fields, RetryAfter: time.Duration(w.RetryAfterMS) * time.Millisecond}
	return nil
}
