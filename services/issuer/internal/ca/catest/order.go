package catest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

const (
	// decision is how long the suite waits for a CA that has not decided.
	decision = time.Minute
	// soonest bounds how long the suite waits before it asks again: a CA in a test decides quickly.
	soonest = 10 * time.Millisecond
)

// notebook keeps an order as whoever runs jobs does.
type notebook struct {
	order []byte
	// kept counts how often it was told.
	kept int
	// crashAt is the telling at which the process ends, just after the order was stored; zero is none.
	crashAt int
}

var errCrash = errors.New("the process has ended")

func (n *notebook) request(r ca.Request) ca.Request {
	r.Order = n.order
	r.Keep = func(_ context.Context, order []byte) error {
		n.order = append([]byte{}, order...)
		if n.kept++; n.kept == n.crashAt {
			return errCrash
		}
		return nil
	}
	return r
}

// Await has a certificate issued, and asks again, with what was kept, for as long as the CA says that it has not decided.
func Await(t testing.TB, issuer ca.Issuer, r ca.Request) (ca.Issued, error) {
	t.Helper()
	return await(t, issuer, r, &notebook{})
}

func await(t testing.TB, issuer ca.Issuer, r ca.Request, n *notebook) (ca.Issued, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), decision)
	defer cancel()
	for {
		issued, err := issuer.Issue(ctx, n.request(r))
		pending, ok := errors.AsType[*ca.Pending](err)
		if !ok {
			return issued, err
		}
		again := time.NewTimer(min(pending.Again, soonest))
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			t.Fatalf("not decided after %s: %v", decision, err)
		}
	}
}

// asynchronous reports whether the CA takes its time over an order.
func asynchronous(t *testing.T, issuer ca.Issuer, b Bounds) bool {
	t.Helper()
	_, err := issuer.Issue(t.Context(), (&notebook{}).request(NewRequest(t, NewKey(t, "ECDSA P-256"), b.Names[0])))
	_, pending := errors.AsType[*ca.Pending](err)
	if err != nil && !pending {
		t.Errorf("asked once: %v", err)
	}
	return pending
}

// asksAgain sees that an order which is not decided was kept, says what it waits for, and is one order however often it is
// asked about.
func asksAgain(t *testing.T, issuer ca.Issuer, b Bounds) {
	before := count(b)
	r := NewRequest(t, NewKey(t, "ECDSA P-256"), b.Names[0])
	var n notebook
	_, err := issuer.Issue(t.Context(), n.request(r))
	pending, ok := errors.AsType[*ca.Pending](err)
	if !ok {
		t.Fatalf("at first: %v", err)
	}
	if n.order == nil {
		t.Error("the order was not kept before it was said to be pending")
	}
	if pending.Says == "" || pending.Again < 0 {
		t.Errorf("pending %+v", pending)
	}
	issued, err := await(t, issuer, r, &n)
	if err != nil {
		t.Fatal(err)
	}
	// Whoever has lost the answer asks once more.
	again, err := await(t, issuer, r, &n)
	if err != nil {
		t.Fatal(err)
	}
	if again.Serial.Cmp(issued.Serial) != 0 {
		t.Error("asked again with the order that was kept, the CA issues another certificate")
	}
	if placed := count(b) - before; placed != 1 && b.Orders != nil {
		t.Errorf("%d orders were placed", placed)
	}
}

// survivesCrashes ends the process just after each time that something was kept, and sees that the next one goes on with
// the same order.
func survivesCrashes(t *testing.T, issuer ca.Issuer, b Bounds) {
	for at := 1; ; at++ {
		before := count(b)
		r := NewRequest(t, NewKey(t, "ECDSA P-256"), b.Names[0])
		n := notebook{crashAt: at}
		_, err := await(t, issuer, r, &n)
		if n.kept < at {
			if err != nil || at == 1 {
				t.Errorf("kept %d times: %v", n.kept, err)
			}
			return
		}
		if !errors.Is(err, errCrash) {
			t.Fatalf("an order that could not be kept the %d. time was gone on with: %v", at, err)
		}
		if _, err := await(t, issuer, r, &n); err != nil {
			t.Fatalf("after a crash at the %d. time: %v, a fault of code %q", at, err, fault.CodeOf(err))
		}
		if placed := count(b) - before; placed != 1 && b.Orders != nil {
			t.Errorf("after a crash at the %d. time %d orders were placed", at, placed)
		}
	}
}

func count(b Bounds) int {
	if b.Orders == nil {
		return 0
	}
	return b.Orders()
}
