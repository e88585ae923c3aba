package fault_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/certctl/certctl/libs/fault"
)

func TestCode_DecidesStatusAndVerdict(t *testing.T) {
	tests := []struct {
		code    fault.Code
		status  int
		verdict fault.Verdict
	}{
		{fault.Invalid, 400, fault.Term},
		{fault.Unauthenticated, 401, fault.Term},
		{fault.Forbidden, 403, fault.Term},
		{fault.NotFound, 404, fault.Term},
		{fault.NotAllowed, 405, fault.Term},
		{fault.Conflict, 409, fault.Term},
		{fault.Precondition, 412, fault.Term},
		{fault.TooLarge, 413, fault.Term},
		{fault.RateLimited, 429, fault.Retry},
		{fault.Unavailable, 503, fault.Retry},
		{fault.Internal, 500, fault.Retry},
		{"of_a_later_version", 500, fault.Retry},
	}
	for _, tt := range tests {
		t.Run(string(tt.code), func(t *testing.T) {
			if got := fault.HTTPStatus(tt.code); got != tt.status {
				t.Errorf("status = %d, want %d", got, tt.status)
			}
			err := fmt.Errorf("issue mc-1: %w", fault.New(tt.code, "no"))
			if got := fault.VerdictOf(err); got != tt.verdict {
				t.Errorf("verdict = %s, want %s", got, tt.verdict)
			}
		})
	}
	if got := fault.VerdictOf(nil); got != fault.Ack {
		t.Errorf("verdict of nil = %s, want ack", got)
	}
}

func TestFrom_FindsTheOutermostFault(t *testing.T) {
	inner := fault.New(fault.NotFound, "no such key")
	outer := fault.Wrap(inner, fault.Conflict, "key is gone")
	tests := []struct {
		name string
		err  error
		code fault.Code
	}{
		{"nil", nil, ""},
		{"plain", io.ErrClosedPipe, fault.Internal},
		{"wrapped", fmt.Errorf("a: %w", inner), fault.NotFound},
		{"outer of two", fmt.Errorf("a: %w", outer), fault.Conflict},
		{"joined", errors.Join(io.EOF, inner), fault.NotFound},
		{"deadline", fmt.Errorf("query: %w", context.DeadlineExceeded), fault.Unavailable},
		{"cancelled", context.Canceled, fault.Unavailable},
		{"fault caused by a deadline", fault.Wrap(context.DeadlineExceeded, fault.Internal, "x"), fault.Internal},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := fault.CodeOf(tt.err); got != tt.code {
				t.Errorf("code = %q, want %q", got, tt.code)
			}
		})
	}
	if got := fault.From(nil); got != nil {
		t.Errorf("From(nil) = %v", got)
	}
}

func TestFault_KeepsItsCauseForLogsOnly(t *testing.T) {
	cause := &http.MaxBytesError{Limit: 42}
	err := fault.Wrap(cause, fault.Invalid, "the request cannot be read")

	if !errors.Is(err, cause) {
		t.Error("errors.Is does not see the cause")
	}
	if got, ok := errors.AsType[*http.MaxBytesError](error(err)); !ok || got.Limit != 42 {
		t.Error("errors.As does not find the cause")
	}
	if want := "the request cannot be read: http: request body too large"; err.Error() != want {
		t.Errorf("Error() = %q, want %q", err.Error(), want)
	}
	b, jsonErr := json.Marshal(err)
	if jsonErr != nil {
		t.Fatal(jsonErr)
	}
	if strings.Contains(string(b), "too large") {
		t.Errorf("the cause is rendered: %s", b)
	}
	if got := fault.From(errors.New("password=hunter2")).Message; strings.Contains(got, "hunter2") {
		t.Errorf("an error's text became a message: %q", got)
	}
}

func TestFault_SurvivesTheBus(t *testing.T) {
	sent := fault.InvalidFields(
		fault.Field{Name: "common_name", Reason: "is required"},
		fault.Field{Name: "sans[1]", Reason: "it is empty"},
	)
	sent.RetryAfter = 1500 * time.Millisecond
	b, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"code":"invalid","message":"common_name: is required; sans[1]: it is empty",` +
		`"fields":[{"field":"common_name","reason":"is required"},{"field":"sans[1]","reason":"it is empty"}],"retry_after_ms":1500}`
	if string(b) != want {
		t.Errorf("encoded as\n%s\nwant\n%s", b, want)
	}
	var got fault.Error
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*sent, got, cmpopts.IgnoreUnexported(fault.Error{})); diff != "" {
		t.Errorf("decoded (-sent +got):\n%s", diff)
	}
}

func TestFault_RefusesToDecodeWhatIsNoObject(t *testing.T) {
	var e fault.Error
	if err := json.Unmarshal([]byte(`{"code":7}`), &e); err == nil {
		t.Error("a numeric code was accepted")
	}
}

func TestVerdict_HasAName(t *testing.T) {
	got := []string{fault.Ack.String(), fault.Retry.String(), fault.Term.String(), fault.Verdict(9).String()}
	if diff := cmp.Diff([]string{"ack", "retry", "term", "unknown"}, got); diff != "" {
		t.Error(diff)
	}
}
