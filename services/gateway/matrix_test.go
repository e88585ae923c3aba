package gateway_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/httpapi"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/services/gateway/internal/permission"
)

var update = flag.Bool("update", false, "write testdata/matrix.golden anew")

// roleless is a key from which every role was taken.
const roleless = "no-role"

// row is who was let in to an operation.
type row struct {
	op  httpapi.Operation
	let map[string]bool
}

func (r row) may(role string) bool { return r.let[role] }

// TestMatrix_OfEveryOperationAndEveryRole walks all of them against a running gateway. A
// new operation, and a change of who may do what, show in testdata/matrix.golden: look at
// it, then run with -update.
func TestMatrix_OfEveryOperationAndEveryRole(t *testing.T) {
	rows := walk(t)
	t.Run("is as written down", func(t *testing.T) { golden(t, rows) })
	t.Run("lets an admin do everything", func(t *testing.T) {
		for _, r := range rows {
			if !r.may(permission.Admin) {
				t.Errorf("not %s", r.op.ID)
			}
		}
	})
	t.Run("lets nobody do anything for being recognised alone", func(t *testing.T) {
		for _, r := range rows {
			if r.may(roleless) != (r.op.Open() || r.op.Permission == permission.Authenticated) {
				t.Errorf("%s: %v", r.op.ID, r.may(roleless))
			}
		}
	})
	t.Run("lets an auditor read the audit trail, change nothing and see nothing else", func(t *testing.T) {
		for _, r := range rows {
			switch audit := r.op.Resource() == "audit"; {
			case r.may(permission.Auditor) != (audit || r.may(roleless)):
				t.Errorf("%s: %v", r.op.ID, r.may(permission.Auditor))
			case audit && r.op.Changes():
				t.Errorf("%s changes something and is an auditor's", r.op.ID)
			}
		}
	})
	t.Run("lets a viewer read all but audit and keys, and do nothing else", func(t *testing.T) {
		for _, r := range rows {
			if r.may(roleless) {
				continue
			}
			resource := r.op.Resource()
			if want := strings.HasSuffix(r.op.Permission, ":read") && resource != "audit" && resource != "api-keys"; r.may(permission.Viewer) != want {
				t.Errorf("%s: %v", r.op.ID, !want)
			}
		}
	})
}

// walk tries every operation with a key of every role.
func walk(t *testing.T) []row {
	w := newWorld(t)
	w.end()
	cfg := byKeys()
	cfg.Metrics = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	key := w.key
	w.start(cfg)
	w.key = key
	for _, owner := range []string{"issuer", "deployment", "audit"} {
		w.own(owner, func(out http.ResponseWriter, _ *http.Request) {
			httpx.WriteJSON(out, http.StatusOK, map[string]any{"data": []any{}, "total": 0, "page": 1, "per_page": 50})
		})
	}
	keys := map[string]string{}
	for _, role := range permission.Roles() {
		_, keys[role] = w.makeKey(map[string]any{"name": role, "roles": []string{role}})
	}
	var id string
	id, keys[roleless] = w.makeKey(map[string]any{"name": roleless, "roles": []string{permission.Viewer}})
	if _, err := w.pool.Exec(t.Context(), `UPDATE api_keys SET roles = '{}' WHERE id = $1`, id); err != nil {
		t.Fatal(err)
	}
	var rows []row
	for _, op := range operations() {
		r := row{op, map[string]bool{}}
		for role, key := range keys {
			r.let[role] = w.lets(op, key)
		}
		if op.Services[0] != "revocation" && w.lets(op, "") != op.Open() {
			t.Errorf("%s without a key: let in is %v", op.ID, !op.Open())
		}
		rows = append(rows, r)
	}
	return rows
}

// operations are those of the contract, and the metrics of the process.
func operations() []httpapi.Operation {
	all := slices.Clone(httpapi.Operations)
	if !slices.ContainsFunc(all, func(op httpapi.Operation) bool { return op.Path == "/metrics" }) {
		all = append(all, httpapi.Operation{ID: "(prometheus)", Method: http.MethodGet, Path: "/metrics", Services: []string{"gateway"}, Permission: "metrics:read"})
	}
	return all
}

// lets reports whether the gateway lets the holder of a key use an operation, whatever
// comes of it.
func (w *world) lets(op httpapi.Operation, key string) bool {
	w.Helper()
	if op.Services[0] == "revocation" {
		return true // answered at a door of their own, which asks for no key
	}
	body := ""
	if op.Changes() {
		body = "{}"
	}
	r := w.request(op.Method, strings.NewReplacer("{", "", "}", "").Replace(op.Path), body)
	r.Header.Set("Authorization", "Bearer "+key)
	if key == "" {
		r.Header.Del("Authorization")
	}
	res, answer := w.do(r)
	switch res.StatusCode {
	case http.StatusForbidden:
		return false
	case http.StatusUnauthorized:
		if key != "" && !op.Open() {
			w.Errorf("%s: a good key is not recognised: %s", op.ID, answer)
		}
		return op.Open() // its own credential is in its body
	case http.StatusTooManyRequests, http.StatusMethodNotAllowed:
		w.Errorf("%s: %d %s", op.ID, res.StatusCode, answer)
	}
	return true
}

// golden compares what was found with what is written down.
func golden(t *testing.T, rows []row) {
	var b strings.Builder
	columns := append(permission.Roles(), roleless)
	fmt.Fprintf(&b, "%-28s %-24s %s\n", "operation", "permission", strings.Join(columns, " "))
	for _, r := range rows {
		fmt.Fprintf(&b, "%-28s %-24s", r.op.ID, r.op.Permission)
		for _, role := range columns {
			mark := "-"
			if r.may(role) {
				mark = "x"
			}
			fmt.Fprintf(&b, " %-*s", len(role), mark)
		}
		b.WriteString("\n")
	}
	text := trimRight(b.String())
	file := filepath.Join("testdata", "matrix.golden")
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("who may do what has changed (-written +found); look at it, then run with -update:\n%s", diff)
	}
}

func trimRight(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}
