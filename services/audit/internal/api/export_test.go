package api

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/contracts/httpapi/auditapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/services/audit/internal/chain"
	"github.com/certctl/certctl/services/audit/internal/export"
	"github.com/certctl/certctl/services/audit/internal/postgres"
	"github.com/certctl/certctl/services/audit/internal/proof"
)

func decoded(t *testing.T, body []byte) (l auditapi.AuditEventList) {
	t.Helper()
	if err := json.Unmarshal(body, &l); err != nil {
		t.Fatal(err)
	}
	return l
}

// checkpoint signs the end of the chain.
func checkpoint(t *testing.T, pool *pgxpool.Pool) chain.PublicKey {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	public, err := chain.PublicKeyOf(key)
	if err != nil {
		t.Fatal(err)
	}
	head, err := postgres.Head(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	c, err := chain.Sign(key, head, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := postgres.StoreKey(t.Context(), pool, public, []byte("sealed")); err != nil {
		t.Fatal(err)
	}
	if err := postgres.StoreCheckpoint(t.Context(), pool, &c); err != nil {
		t.Fatal(err)
	}
	return public
}

// Trap 75: export, of more rows than are in memory at once.
func TestExport_OfTheWholeChainIsProvenInEveryFormat(t *testing.T) {
	pool := newPool(t)
	const n = 1203
	for i := range n / 401 {
		var events []chain.Event
		for j := range 401 {
			e := event(fmt.Sprintf("ae-%d-%d", i, j), "=cmd|' /C calc'!A0", "api_get", "api", "/a\r\nb")
			e.Details = "{ \"n\":\t9007199254740993, \"x\": \"\\u20ac\" }"
			events = append(events, e)
		}
		store(t, pool, events...)
		checkpoint(t, pool)
	}
	public := checkpointKey(t, pool)
	for format, contentType := range map[string]string{
		"": "application/json", "json": "application/json", "jsonl": "application/jsonl", "csv": "text/csv; charset=utf-8; header=present",
	} {
		w := ask(t, pool, auditor, "/api/v1/audit/export?format="+format)
		disposition := w.Header().Get("Content-Disposition")
		if format == "" {
			w = ask(t, pool, auditor, "/api/v1/audit/export")
			disposition, format = w.Header().Get("Content-Disposition"), "json"
		}
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != contentType ||
			!strings.HasPrefix(disposition, `attachment; filename="certctl-audit-2`) || !strings.HasSuffix(disposition, "."+format+`"`) {
			t.Errorf("%s: %d %q %q", format, w.Code, w.Header().Get("Content-Type"), disposition)
		}
		v := &proof.Verifier{Key: public}
		if err := export.Read(w.Body, v); err != nil {
			t.Errorf("%s: %v", format, err)
			continue
		}
		r, err := v.End()
		want := int64(3)
		if format == "csv" {
			want = 0
		}
		if err != nil || r.Events != n || r.First != 1 || r.Gaps != 0 || r.Checkpoints != want {
			t.Errorf("%s: %+v, %v", format, r, err)
		}
	}
}

func checkpointKey(t *testing.T, pool *pgxpool.Pool) chain.PublicKey {
	t.Helper()
	w := ask(t, pool, auditor, "/api/v1/audit/checkpoints/key")
	key, err := chain.ReadPublicKey(w.Body.Bytes())
	if err != nil || w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/x-pem-file" {
		t.Fatalf("%d %s %v", w.Code, w.Body, err)
	}
	return key
}

func TestExport_HoldsWhatIsAskedForOldestFirst(t *testing.T) {
	pool := newPool(t)
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for i := range 20 {
		e := event(fmt.Sprintf("ae-%02d", i), []string{"ada", "bob"}[i%2], "api_get", "api", "/")
		e.At = noon.Add(time.Duration(i) * time.Minute)
		store(t, pool, e)
	}
	for query, want := range map[string]string{
		"actor=bob&until=2026-11-23T12:06:00Z":                               "[2 4 6]",
		"actor=ada&after=2026-11-23T12:15:00Z":                               "[17 19]",
		"since=2026-11-23T12:09:00Z&before=2026-11-23T12:12:00Z":             "[10 11 12]",
		"resource=api//&actor=bob&since=2026-11-23T12:17:00Z&action=api_get": "[18 20]",
		"actor=nobody":               "[]",
		"since=2027-11-23T12:00:00Z": "[]",
		"resource_type=certificate":  "[]",
	} {
		w := ask(t, pool, auditor, "/api/v1/audit/export?format=csv&"+query)
		records, err := csv.NewReader(w.Body).ReadAll()
		if err != nil || len(records) == 0 || records[0][0] != "sequence" {
			t.Fatalf("%s: %d, %v, %v", query, w.Code, records, err)
		}
		got := []string{}
		for _, r := range records[1:] {
			got = append(got, r[0])
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%s: %v, want %s", query, got, want)
		}
	}
	// What is filtered is still proven, row by row.
	v := &proof.Verifier{Partial: true}
	if err := export.Read(ask(t, pool, auditor, "/api/v1/audit/export?actor=bob").Body, v); err != nil {
		t.Error(err)
	}
	if r, err := v.End(); err != nil || r.Events != 10 || r.Gaps != 10 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestExport_RefusesWhatIsWrongBeforeItBegins(t *testing.T) {
	pool := newPool(t)
	for query, field := range map[string]string{
		"format=xml": "format", "format=CSV": "format", "since=x": "since", "actor=%00": "actor", "resource=a/b&resource_id=c": "resource",
	} {
		w := ask(t, pool, auditor, "/api/v1/audit/export?"+query)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), field) || w.Header().Get("Content-Disposition") != "" {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(authn.NewContext(ctx, auditor), http.MethodGet, "/api/v1/audit/export", nil)
	w := httptest.NewRecorder()
	API{Pool: pool}.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// leaving is a reader that goes after it has read a little.
type leaving struct {
	*httptest.ResponseRecorder
	left int
	gone context.CancelFunc
}

func (l *leaving) Write(b []byte) (int, error) {
	if l.left -= len(b); l.left < 0 {
		l.gone()
		return 0, http.ErrHandlerTimeout
	}
	return l.ResponseRecorder.Write(b)
}

// TestExport_BreaksOffRatherThanEndEarly: nobody may take half an export for the whole.
func TestExport_BreaksOffRatherThanEndEarly(t *testing.T) {
	pool := newPool(t)
	var events []chain.Event
	for i := range 2000 {
		events = append(events, event(fmt.Sprintf("ae-%d", i), "ada", "api_get", "api", "/"))
	}
	store(t, pool, events...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := httptest.NewRequestWithContext(authn.NewContext(ctx, auditor), http.MethodGet, "/api/v1/audit/export", nil)
	defer func() {
		if recover() != http.ErrAbortHandler {
			t.Error("the answer was not broken off")
		}
	}()
	API{Pool: pool}.Handler().ServeHTTP(&leaving{httptest.NewRecorder(), 200_000, cancel}, r)
	t.Error("the export ended as if it were whole")
}

// stuck is a reader that does not read on until it is let go.
type stuck struct {
	*httptest.ResponseRecorder
	begun chan<- struct{}
	let   <-chan struct{}
}

func (s stuck) WriteHeader(status int) {
	s.ResponseRecorder.WriteHeader(status)
	s.begun <- struct{}{}
	<-s.let
}

func TestExport_RefusesTooManyAtOnceAndGoesOnWhenOneHasEnded(t *testing.T) {
	pool := newPool(t)
	store(t, pool, event("ae-1", "ada", "api_get", "api", "/"))
	h := API{Pool: pool}.Handler()
	request := func() *http.Request {
		return httptest.NewRequestWithContext(authn.NewContext(t.Context(), auditor), http.MethodGet, "/api/v1/audit/export", nil)
	}
	begun, let := make(chan struct{}), make(chan struct{})
	var readers sync.WaitGroup
	for range maxExports {
		readers.Go(func() { h.ServeHTTP(stuck{httptest.NewRecorder(), begun, let}, request()) })
		<-begun
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request())
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	close(let)
	readers.Wait()
	w = httptest.NewRecorder()
	h.ServeHTTP(w, request())
	if w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestCheckpoints_AreListedNewestFirstByPageAndByCursor(t *testing.T) {
	pool := newPool(t)
	if w := ask(t, pool, auditor, "/api/v1/audit/checkpoints/key"); w.Code != http.StatusNotFound {
		t.Errorf("before the first: %d %s", w.Code, w.Body)
	}
	for i := range 5 {
		store(t, pool, event(fmt.Sprintf("ae-%d", i), "ada", "api_get", "api", "/"))
		checkpoint(t, pool)
	}
	get := func(query string) (l auditapi.AuditCheckpointList) {
		w := ask(t, pool, auditor, "/api/v1/audit/checkpoints?"+query)
		if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", query, w.Code, w.Body)
		}
		return l
	}
	places := func(l auditapi.AuditCheckpointList) (out []int64) {
		for _, c := range l.Data {
			out = append(out, c.Sequence)
		}
		return out
	}
	first := get("per_page=2")
	if d := cmp.Diff([]int64{5, 4}, places(first)); d != "" || first.Total != 5 || first.NextCursor == nil {
		t.Errorf("%+v\n%s", first, d)
	}
	if d := cmp.Diff([]int64{3, 2}, places(get("per_page=2&page=2"))); d != "" {
		t.Error(d)
	}
	second := get("per_page=3&cursor=" + *first.NextCursor)
	if d := cmp.Diff([]int64{3, 2, 1}, places(second)); d != "" || second.NextCursor != nil {
		t.Errorf("%+v\n%s", second, d)
	}
	if w := ask(t, pool, auditor, "/api/v1/audit/checkpoints?cursor=x"); w.Code != http.StatusBadRequest {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	// The answer is evidence as it stands.
	kept, err := export.ReadCheckpoints(bytes.TrimSpace(ask(t, pool, auditor, "/api/v1/audit/checkpoints").Body.Bytes()))
	if err != nil || len(kept) != 5 {
		t.Fatalf("%d, %v", len(kept), err)
	}
	for i := range kept {
		if err := checkpointKey(t, pool).Verify(&kept[i]); err != nil {
			t.Error(err)
		}
	}
}
