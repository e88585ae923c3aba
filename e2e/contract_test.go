package e2e

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/openapi"
	"github.com/certctl/certctl/e2e/internal/fuzz"
	"github.com/certctl/certctl/e2e/internal/rig"
)

// TestContract_NoRequestIsAnsweredWithAnInternalError asks every operation for what the
// contract allows and for what it does not. FUZZ_TIME makes it go on for a time, FUZZ_SEED
// makes the choices of another run.
func TestContract_NoRequestIsAnsweredWithAnInternalError(t *testing.T) {
	t.Parallel()
	const rounds = 80
	limit, rest := time.Minute, rounds
	if text := os.Getenv("FUZZ_TIME"); text != "" {
		var err error
		if limit, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		rest = -1
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("FUZZ_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("FUZZ_SEED=%d", seed)

	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=error")
	agent := in.Enrol("host", "site-local", in.LeafURL, "CERTCTL_LOG_LEVEL=error")
	// With an inventory to begin with, calls find something to be about.
	if out, err := in.Admin("sample-data", "add"); err != nil {
		t.Fatal(out)
	}
	f, err := fuzz.New(openapi.Document, in.URL, in.Key, seed, func(id string) bool {
		// Without its own key it could ask nothing more, and without an agent little.
		return strings.HasPrefix(id, "key-first") || id == agent.ID
	})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen, asked := map[string]bool{}, 0
	for begun := time.Now(); rest != 0 && time.Since(begun) < limit; rest-- {
		found, err := f.Round(t.Context())
		if err != nil {
			t.Fatalf("%v\n%s", err, in.Tail(3000))
		}
		for _, x := range found {
			if kind := x.Operation + x.Promise; !seen[kind] {
				seen[kind] = true
				t.Errorf("%s: %s\n  asked    %s\n  answered %s", x.Operation, x.Promise, x.Request, x.Answer)
			}
		}
		if status, text := send(t, in, "GET", "/health", ""); status != 200 {
			t.Fatalf("the gateway is not well: %d %s\n%s", status, text, in.Tail(3000))
		}
	}
	if t.Failed() {
		t.Logf("errors in the log:\n%s", in.Tail(6000))
	}
	refused := 0
	for operation, statuses := range f.Asked {
		well := false
		for status, n := range statuses {
			asked += n
			well = well || status < 400
		}
		if !well {
			refused++
			t.Logf("%s was never done; at last: %s", operation, f.Refused[operation])
		}
	}
	t.Logf("%d requests to %d operations", asked, f.Operations())
	if refused > f.Operations()/2 {
		t.Error("most operations refuse all that is asked of them: too little was tried")
	}
}
