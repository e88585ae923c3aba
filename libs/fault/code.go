package fault

import "net/http"

// Code says what kind of thing went wrong, in terms that every service and every client shares.
type Code string

const (
	// Invalid means that the input can never be accepted as it is.
	Invalid Code = "invalid"
	// Unauthenticated means that the caller did not prove who it is.
	Unauthenticated Code = "unauthenticated"
	// Forbidden means that the caller is known and may not do this.
	Forbidden Code = "forbidden"
	// NotFound means that the thing does not exist, or not within the caller's scope.
	NotFound Code = "not_found"
	// NotAllowed means that the thing exists and the method is not one for it.
	NotAllowed Code = "method_not_allowed"
	// Conflict means that the thing's present state, or another thing of the same name, excludes this.
	Conflict Code = "conflict"
	// Precondition means that the caller's condition (a version it has seen) no longer holds.
	Precondition Code = "precondition"
	// TooLarge means that the input is larger than is accepted.
	TooLarge Code = "too_large"
	// RateLimited means that the caller asks too often.
	RateLimited Code = "rate_limited"
	// Unavailable means that something needed is away for now; the same request may succeed later.
	Unavailable Code = "unavailable"
	// Internal means that the fault is ours and the caller can do nothing about it.
	Internal Code = "internal"
)

// Verdict is what a consumer does with a message after handling it.
type Verdict int

const (
	// Ack means that the message is done with.
	Ack Verdict = iota
	// Retry means that the message is to come again after a delay.
	Retry
	// Term means that no repetition will help: the message goes to the dead letters.
	Term
)

// String returns the verdict's name.
func (v Verdict) String() string {
	switch v {
	case Ack:
		return "ack"
	case Retry:
		return "retry"
	case Term:
		return "term"
	default:
		return "unknown"
	}
}

type meaning struct {
	status  int
	verdict Verdict
}

var meanings = map[Code]meaning{
	Invalid:         {http.StatusBadRequest, Term},
	Unauthenticated: {http.StatusUnauthorized, Term},
	Forbidden:       {http.StatusForbidden, Term},
	NotFound:        {http.StatusNotFound, Term},
	NotAllowed:      {http.StatusMethodNotAllowed, Term},
	Conflict:        {http.StatusConflict, Term},
	Precondition:    {http.StatusPreconditionFailed, Term},
	TooLarge:        {http.StatusRequestEntityTooLarge, Term},
	RateLimited:     {http.StatusTooManyRequests, Retry},
	Unavailable:     {http.StatusServiceUnavailable, Retry},
	Internal:        {http.StatusInternalServerError, Retry},
}

func (c Code) meaning() meaning {
	if m, ok := meanings[c]; ok {
		return m
	}
	return meanings[Internal]
}

// HTTPStatus returns the status that a code is shown as. An unknown code is a 500.
func HTTPStatus(c Code) int { return c.meaning().status }

// VerdictOf returns the verdict over a message whose handler returned err. Without an error it is Ack.
func VerdictOf(err error) Verdict {
	if err == nil {
		return Ack
	}
	return CodeOf(err).meaning().verdict
}
