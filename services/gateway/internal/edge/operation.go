package edge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/services/gateway/internal/permission"
)

// Recogniser tells who sends a request. Unauthenticated says that nobody is recognised.
type Recogniser interface {
	Recognise(r *http.Request) (authn.Principal, error)
}

// Recorder puts calls on record.
type Recorder interface {
	// Durable returns when the record cannot be lost any more.
	Durable(ctx context.Context, call event.APICall) error
	// Background takes the record without waiting.
	Background(call event.APICall)
}

// recordWithin bounds how long an answer waits for its record.
const recordWithin = 5 * time.Second

// operation wraps what answers an operation in everything that holds for all of them.
func (e *Edge) operation(op httpapi.Operation, answer http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := e.Clock.Now()
		call := event.APICall{
			RequestID: obs.RequestID(r.Context()), Actor: "anonymous", ActorType: "User",
			Operation: op.ID, Method: r.Method, Path: r.URL.Path, RemoteAddress: r.RemoteAddr,
		}
		out := &response{ResponseWriter: w, hold: op.Changes()}
		finished := false
		defer func() {
			call.LatencyMillis = e.Clock.Now().Sub(start).Milliseconds()
			switch call.Status = out.code(); {
			case !finished:
				// The answer panicked: it is broken off or becomes a 500 further out.
				if out.status == 0 || out.hold {
					call.Status = http.StatusInternalServerError
				}
				e.Records.Background(call)
			case out.hold:
				e.settle(w, r, out, call)
			default:
				e.Records.Background(call)
			}
		}()
		if err := e.admit(out, r, op, &call); err != nil {
			if fault.CodeOf(err) == fault.Unauthenticated {
				out.Header().Set("WWW-Authenticate", `Bearer realm="certctl"`)
			}
			httpx.WriteProblem(out, r, err)
		} else {
			answer.ServeHTTP(out, r)
		}
		finished = true
	})
}

// settle sends the answer to a change when its record is durable. The change is made, so
// its record must be too, even if the caller has gone.
func (e *Edge) settle(w http.ResponseWriter, r *http.Request, out *response, call event.APICall) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), recordWithin)
	defer cancel()
	if err := e.Records.Durable(ctx, call); err != nil {
		e.Log.ErrorContext(ctx, "call is not on record", "operation", call.Operation, "status", call.Status, obs.KeyError, err)
		httpx.WriteProblem(w, r, fault.Wrap(err, fault.Unavailable,
			"the call was carried out with status %d, but could not be put on record; look before you repeat it", call.Status))
		return
	}
	out.release()
}

// unlimited are the operations that probes ask, and that have to answer whatever else is
// asked. What relying parties ask for does not come here.
var unlimited = map[string]bool{"getHealth": true, "getHealthV1": true, "getReady": true}

// unhashed are the operations whose bodies hold little but a password that people chose: a hash of one can be guessed at.
var unhashed = map[string]bool{"exportCertificateWithKey": true, "importCertificates": true}

// admit recognises the caller, checks its permission, takes in the body and holds the
// request to the contract. What it learns of the call is noted even if it refuses.
func (e *Edge) admit(w http.ResponseWriter, r *http.Request, op httpapi.Operation, call *event.APICall) error {
	from, now := e.Proxies.Of(r), e.Clock.Now()
	if len(e.Proxies) > 0 && from.IsValid() {
		call.RemoteAddress = from.String()
	}
	limits := e.Limits
	if unlimited[op.ID] {
		limits = nil
	}
	if err := limits.Address(w.Header(), from, now); err != nil {
		return err
	}
	p := authn.Anonymous()
	if !op.Open() {
		var err error
		if p, err = e.Keys.Recognise(r); err != nil {
			return err
		}
		// The id, because events name who caused them by it too, and names can change.
		call.Actor = p.ID
		if err := limits.Key(w.Header(), from, p.ID, now); err != nil {
			return err
		}
		if err := permission.Check(p, op.Permission); err != nil {
			return err
		}
	}
	body, err := takeIn(r)
	if err != nil {
		return err
	}
	if len(body) > 0 && !unhashed[op.ID] {
		sum := sha256.Sum256(body)
		call.BodyHash = hex.EncodeToString(sum[:8])
	}
	if e.Requests != nil {
		if err := e.Requests.Check(op.ID, r, body); err != nil {
			return err
		}
	}
	*r = *r.WithContext(authn.NewContext(r.Context(), p))
	return nil
}

// takeIn reads the whole body, so that it can be hashed and sent on as one message.
func takeIn(r *http.Request) ([]byte, error) {
	if r.ContentLength > MaxBody {
		return nil, tooLarge()
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	if err != nil {
		var netErr interface{ Timeout() bool }
		if errors.As(err, &netErr) && netErr.Timeout() {
			return nil, fault.New(fault.Invalid, "the body did not arrive in time")
		}
		return nil, fault.Wrap(err, fault.Invalid, "the body could not be read")
	}
	if len(body) > MaxBody {
		return nil, tooLarge()
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return body, nil
}

func tooLarge() error {
	return fault.New(fault.TooLarge, "the body is larger than %d KiB", MaxBody>>10)
}
