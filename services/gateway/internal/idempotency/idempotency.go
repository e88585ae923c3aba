// Package idempotency lets a client repeat a call without its being carried out twice.
//
// A call that bears an Idempotency-Key is noted before it is carried out, and its answer
// afterwards, for a day. The same call with the same key is given the same answer again;
// another call with the same key is refused, as is one while the first is in hand. A call
// that was refused (4xx), or never reached its owner, has changed nothing: its key is
// free again.
//
// What it cannot do: note and effect are in two databases. If the gateway dies between
// them, or the owner does not answer, nobody knows whether the call was carried out. Such
// a key is refused for its day with a word to look first; only a creation whose body names
// the id is sent again, because the owner refuses an id that it has.
//
// An answer that its owner marks "Cache-Control: no-store" is not kept; a repeated call is told that it was carried out.
//
// Calls without the header cost nothing.
package idempotency

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/secret"
)

// Names of the headers.
const (
	Header         = "Idempotency-Key"
	HeaderReplayed = "Idempotency-Replayed"
)

const (
	maxKey = 255
	// keep is how long a key is remembered.
	keep = 24 * time.Hour
	// lease is longer than any call can last: the server gives an answer two minutes.
	lease = 3 * time.Minute
	// maxAnswer is the largest body that is kept, in bytes.
	maxAnswer = 256 << 10
)

// Desk sees that calls with a key are carried out once. It is safe for concurrent use.
type Desk struct {
	Pool *pgxpool.Pool
	// Sealer seals answers. Without one they are not kept, and a repeated call is told
	// the status alone.
	Sealer *secret.Sealer
	Clock  clock.Clock
	Log    *slog.Logger
}

// Once wraps what carries out an operation. The principal must be in the request's
// context. A nil Desk changes nothing.
func (d *Desk) Once(operation string, next http.Handler) http.Handler {
	if d == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.Header.Get(Header)
		if key == "" {
			next.ServeHTTP(w, r)
			return
		}
		if err := d.once(w, r, operation, key, next); err != nil {
			httpx.WriteProblem(w, r, err)
		}
	})
}

func (d *Desk) once(w http.ResponseWriter, r *http.Request, operation, key string, next http.Handler) error {
	if len(key) > maxKey || strings.ContainsFunc(key, func(c rune) bool { return c < '!' || c > '~' }) {
		return fault.InvalidFields(fault.Field{Name: Header, In: "header", Reason: "must be 1 to 255 visible ASCII characters"})
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "the body could not be read")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	c := claim{
		principal: authn.FromContext(r.Context()).ID, key: key, fingerprint: fingerprint(operation, r, body),
		until: d.Clock.Now().Add(lease), repeatable: repeatable(operation, body),
	}
	earlier, err := d.begin(r.Context(), c)
	if err != nil {
		return err
	}
	if earlier != nil {
		return d.replay(w, c, earlier)
	}
	d.carryOut(w, r, c, next)
	return nil
}

// carryOut has the call answered and notes what became of it, also if the answer panics.
func (d *Desk) carryOut(w http.ResponseWriter, r *http.Request, c claim, next http.Handler) {
	rec := &recorder{header: http.Header{}}
	panicked := true
	defer func() {
		if panicked {
			d.note(r, c, nil)
		}
	}()
	next.ServeHTTP(rec, r)
	panicked = false
	d.note(r, c, rec)
	maps.Copy(w.Header(), rec.header)
	w.WriteHeader(rec.code())
	_, _ = w.Write(rec.body.Bytes())
}

// note keeps the answer to a call that was carried out, and frees the key of one that
// was not. What cannot be noted is in doubt, which is the truth.
func (d *Desk) note(r *http.Request, c claim, rec *recorder) {
	ctx := r.Context()
	var err error
	switch {
	case rec == nil || rec.code() >= http.StatusInternalServerError && !rec.undelivered:
		err = d.doubt(ctx, c)
	case rec.code() >= http.StatusBadRequest:
		err = d.release(ctx, c)
	default:
		err = d.finish(ctx, c, rec)
	}
	if err != nil {
		d.Log.WarnContext(ctx, "what became of a call is not noted; its Idempotency-Key stays in doubt", obs.KeyError, err)
	}
}

// replay answers a call whose key has been used.
func (d *Desk) replay(w http.ResponseWriter, c claim, e *earlier) error {
	switch {
	case !bytes.Equal(e.fingerprint, c.fingerprint):
		return fault.New(fault.Conflict, "this %s was used for another call in the last 24 hours; take a new one for each call", Header)
	case e.inHand:
		f := fault.New(fault.Conflict, "the first call with this %s is still in hand; repeat it in a moment", Header)
		f.RetryAfter = time.Second
		w.Header().Set("Retry-After", "1")
		return f
	case e.status == 0:
		return fault.New(fault.Conflict, "the first call with this %s was cut off, and nobody knows whether it was carried out; look, then call with a new key", Header)
	case e.answer == nil:
		return fault.New(fault.Conflict, "the call was carried out before, with status %d; its answer was not kept", e.status)
	}
	a, err := d.open(c, e.answer)
	if err != nil {
		return fault.Wrap(err, fault.Conflict, "the call was carried out before, with status %d; its answer can be read no more", e.status)
	}
	maps.Copy(w.Header(), a.Header)
	w.Header().Set(HeaderReplayed, "true")
	w.WriteHeader(e.status)
	_, _ = w.Write(a.Body)
	return nil
}

// fingerprint tells calls apart.
func fingerprint(operation string, r *http.Request, body []byte) []byte {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(operation), []byte(r.URL.RequestURI()), body} {
		// The lengths keep parts from running into each other.
		var length [8]byte
		for i, n := 0, len(part); i < 8; i, n = i+1, n>>8 {
			length[i] = byte(n)
		}
		h.Write(length[:])
		h.Write(part)
	}
	return h.Sum(nil)
}

// repeatable tells whether the owner itself refuses to do a call twice.
func repeatable(operation string, body []byte) bool {
	var named struct {
		ID string `json:"id"`
	}
	return strings.HasPrefix(operation, "create") && json.Unmarshal(body, &named) == nil && named.ID != ""
}
