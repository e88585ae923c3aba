package validation

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/certctl/certctl/contracts/openapi"
	"github.com/certctl/certctl/libs/fault"
)

const document = `
openapi: 3.1.0
info: { title: t, version: "1" }
paths:
  /things/{id}:
    parameters:
      - { name: id, in: path, required: true, schema: { type: string, maxLength: 8 } }
      - { name: page, in: query, schema: { type: integer, minimum: 1 } }
    get:
      operationId: get
      parameters:
        - { name: status, in: query, schema: { type: string, enum: [On, Off] } }
        - { name: per_page, in: query, schema: { type: integer, minimum: 1 } }
        - { name: since, in: query, schema: { type: string, format: date-time } }
        - { name: deep, in: query, schema: { type: boolean } }
        - { name: share, in: query, schema: { type: number, maximum: 1 } }
        - { name: tag, in: query, schema: { type: array, items: { type: string, maxLength: 3 } } }
        - { name: fields, in: query, explode: false, schema: { type: array, items: { type: string, pattern: "^[a-z]*$" } } }
        - { name: If-Match, in: header, schema: { type: string, maxLength: 5 } }
      responses: { default: { description: d } }
    put:
      operationId: put
      requestBody:
        required: true
        content:
          application/json:
            schema: { $ref: "#/components/schemas/Thing" }
      responses: { default: { description: d } }
    post:
      operationId: post
      requestBody:
        required: false
        content:
          application/json:
            schema: { type: object, properties: { reason: { type: string, maxLength: 4 } } }
      responses: { default: { description: d } }
components:
  schemas:
    Thing:
      type: object
      required: [name]
      properties:
        name: { type: string, minLength: 1, maxLength: 5 }
        kind: { type: string, enum: [a, b] }
        sizes: { type: array, items: { type: integer, minimum: 1, maximum: 2678400 } }
        inner: { $ref: "#/components/schemas/Thing" }
        config: { type: object, additionalProperties: true }
`

func compiled(t testing.TB, document string) *Validator {
	t.Helper()
	v, err := Compile([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// request is one that the router has routed by a pattern with {id}.
func request(method, target, id string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	route := chi.NewRouteContext()
	route.URLParams.Add("id", id)
	return r.WithContext(context.WithValue(r.Context(), chi.RouteCtxKey, route))
}

func TestCheck_NamesEveryWrongParameterWithItsPlace(t *testing.T) {
	v := compiled(t, document)
	for query, want := range map[string]string{
		"":                                     "",
		"status=On&page=1&per_page=":           "",
		"per_page=100000":                      "", // tolerated; the owner bounds it
		"status=&since=":                       "", // none
		"tag=a&tag=b&fields=a,b":               "",
		"since=2026-01-31&deep=true&share=0.5": "",
		"since=2026-01-31T00%3A00%3A00.5%2B02%3A00": "",
		"status=on":                 "status: must be one of On, Off",
		"page=0&per_page=x":         "page: must be at least 1; per_page: must be an integer",
		"page=99999999999999999999": "page: must be an integer",
		"deep=maybe&share=NaN":      "deep: must be true or false; share: must be a number",
		"share=1.5":                 "share: must be at most 1",
		"since=yesterday":           "since: must be a time such as 2026-01-31T15:04:05Z (RFC 3339)",
		"tag=long":                  "tag: must have at most 3 characters",
		"tag=%C3%A4%C3%A4%C3%A4":    "",
		"fields=a,B":                "fields: must match ^[a-z]*$",
		"page=1&page=2":             "page: is given twice",
		"perpage=1":                 "perpage: is not a parameter of this operation; did you mean per_page?",
		"per_pag%65=1&":             "",
		"colour=red":                "colour: is not a parameter of this operation, which has status, per_page, since, deep, share, tag, fields, page",
		"status=%zz":                "status: is malformed; special characters must be percent-encoded",
		"a;b=1":                     "a;b: is malformed; special characters must be percent-encoded",
		"tag=%00":                   "tag: must not hold a NUL",
		"tag=%ff":                   "tag: must be UTF-8",
		"%ff=1":                     "?: is not a parameter of this operation, which has status, per_page, since, deep, share, tag, fields, page",
	} {
		err := v.Check("get", request("GET", "/things/x?"+query, "x"), nil)
		if got := message(err); got != want {
			t.Errorf("%q:\n got %s\nwant %s", query, got, want)
		}
		if err == nil {
			continue
		}
		for _, f := range fault.From(err).Fields {
			if f.In != "query" {
				t.Errorf("%q: %+v does not say where", query, f)
			}
		}
	}
	r := request("GET", "/things/x", "x")
	r.Header.Set("If-Match", "too long")
	if f := fault.From(v.Check("get", r, nil)); f == nil || f.Fields[0] != (fault.Field{Name: "If-Match", In: "header", Reason: "must have at most 5 characters"}) {
		t.Errorf("%+v", f)
	}
	if err := v.Check("nothing", r, nil); err != nil {
		t.Error(err)
	}
}

func TestCheck_DoesNotFindWhatNothingCanBeCalled(t *testing.T) {
	v := compiled(t, document)
	for _, id := range []string{"", "012345678", "%00", "%ff", "%zz", "a\xff"} {
		if err := v.Check("get", request("GET", "/things/x", id), nil); id != "" && fault.CodeOf(err) != fault.NotFound {
			t.Errorf("%q: %v", id, err)
		}
	}
	if err := v.Check("get", request("GET", "/things/x", "%20x"), nil); err != nil {
		t.Error(err)
	}
}

func TestCheck_NamesEverythingThatIsWrongInABody(t *testing.T) {
	v := compiled(t, document)
	for body, want := range map[string]string{
		`{"name":"a"}`: "",
		`{"name":"a","unknown":{"x":[1]},"sizes":null,"inner":null}`: "", // as deployed clients send
		`{"name":"a","config":{"any":[{"thing":1e10}]}}`:             "",
		`{}`:                                    "name: is missing",
		`{"name":null}`:                         "name: is missing",
		`{"name":1}`:                            "name: must be a string",
		`{"name":""}`:                           "name: must have at least 1 characters",
		`{"name":"abcdef"}`:                     "name: must have at most 5 characters",
		`{"name":"a","kind":"c"}`:               "kind: must be one of a, b",
		`{"name":"a","sizes":[9999999]}`:        "sizes[0]: number must be at most 2678400",
		`{"name":"a","sizes":[1,"2",0]}`:        "sizes[1]: must be an integer; sizes[2]: number must be at least 1",
		`{"name":"a","inner":{"name":[]}}`:      "inner.name: must be a string",
		`[]`:                                    "body: must be an object",
		`null`:                                  "body: must be an object",
		``:                                      "the body is empty",
		`{"name":`:                              "the body is not JSON: it ends too early",
		`{"name":"a"} x`:                        "the body goes on after its JSON value",
		`{"name":"a\u0000"}`:                    "name: must not hold a NUL",
		`{"config":{"a\u0000":1},"name":"a"}`:   "config: must not hold a NUL",
		"{\"name\":\"\xff\"}":                   "the body is not UTF-8",
		`{"name":"\ud83d\ude00"}`:               "",
		`{"name":"\ud83d"}`:                     "the body holds half a surrogate pair at byte 9",
		`{"name":"\ude00\ud83d"}`:               "the body holds half a surrogate pair at byte 9",
		`{"name":"\\ud8"}`:                      "",
		`{"name":"a","config":{"n":1e999}}`:     "the body holds a number 1e999 that is beyond what any field takes",
		strings.Repeat("[", 65):                 "the body is nested deeper than 64 levels",
		strings.Repeat(`{"a":`, 20000):          "the body is nested deeper than 64 levels",
		`{"name":"]]]","config":{"x":"[[[[{"}}`: "",
	} {
		if got := message(v.Check("put", request("PUT", "/things/x", "x"), []byte(body))); got != want {
			t.Errorf("%.80q:\n got %s\nwant %s", body, got, want)
		}
	}
	for _, body := range []string{"", "null", "{}", `{"force":false}`} {
		if err := v.Check("post", request("POST", "/things/x", "x"), []byte(body)); err != nil {
			t.Errorf("an optional body of %q: %v", body, err)
		}
	}
	f := fault.From(v.Check("post", request("POST", "/things/x?page=0", "x"), []byte(`{"reason":"abcde"}`)))
	if f == nil || len(f.Fields) != 2 || f.Fields[0].In != "query" || f.Fields[1].In != "body" {
		t.Errorf("parameter and body: %+v", f)
	}
}

// TestCheck_RefusesAMisspeltFieldOfARollover: without its cross certificate whoever trusts the old root refuses what the new
// key issues.
func TestCheck_RefusesAMisspeltFieldOfARollover(t *testing.T) {
	v := compiled(t, string(openapi.Document))
	const want = `body: property "crossign" is unsupported; its properties are ca_validity_days, common_name, cross_sign, key_algorithm`
	if got := message(v.Check("rollOverIssuer", request("POST", "/x", "iss-1"), []byte(`{"crossign":true}`))); got != want {
		t.Errorf("got %s", got)
	}
	if err := v.Check("createIssuerCARequest", request("POST", "/x", "iss-1"), []byte(`{"name":"x"}`)); err == nil {
		t.Error("a request for a CA's certificate takes any field")
	}
	for _, body := range []string{"", "{}", `{"cross_sign":true,"common_name":null}`} {
		if err := v.Check("rollOverIssuer", request("POST", "/x", "iss-1"), []byte(body)); err != nil {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return fault.From(err).Message
}

// TestCheck_LetsDeployedClientsThrough sends what CLI, MCP server, agents and scripts of
// users are known to send.
func TestCheck_LetsDeployedClientsThrough(t *testing.T) {
	v := compiled(t, string(openapi.Document))
	for _, c := range []struct{ operation, query, body string }{
		{"listCertificates", "page=1&per_page=50", ""},
		{"listCertificates", "page=1&per_page=100000&status=Active", ""},
		{"listCertificates", "status=&environment=production&owner_id=o-1&team_id=t-1&issuer_id=iss-local&page=1&per_page=50", ""},
		{"listCertificates", "agent_id=a&profile_id=p&expires_before=2026-01-31T00:00:00Z&expires_after=2026-01-31T00:00:00Z&created_after=2026-01-31T00:00:00Z&updated_after=2026-01-31T00:00:00Z", ""},
		{"listCertificates", "sort=-notAfter&sort_desc=true&cursor=x&page_size=10&fields=id,name,whatever", ""},
		{"listAgents", "page=1&per_page=50", ""},
		{"listAgents", "page=1&per_page=50&status=Online", ""},
		{"listJobs", "page=1&per_page=50&status=Pending&type=Renewal", ""},
		{"listTargets", "page=1&per_page=50", ""},
		{"listIssuers", "page=1&per_page=50", ""},
		{"listTeams", "page=1&per_page=50", ""},
		{"listOwners", "page=1&per_page=50", ""},
		{"listProfiles", "page=1&per_page=50", ""},
		{"listPolicies", "page=1&per_page=50", ""},
		{"listPolicyViolations", "page=1&per_page=50", ""},
		{"listAgentGroups", "page=1&per_page=50", ""},
		{"listAgentGroupMembers", "page=1&per_page=50", ""},
		{"getStatsExpirationTimeline", "days=30", ""},
		{"getStatsJobTrends", "days=365", ""},
		{"getStatsIssuanceRate", "days=1", ""},
		{"listAuditEvents", "page=1&per_page=50&actor=key-1&action=certificate_created&resource_type=certificate", ""},
		{"listCertificateVersions", "page=1&per_page=50", ""},
		{"renewCertificate", "", ""},
		{"renewCertificate", "", `{"force":false}`},
		{"cancelJob", "", `{}`},
		{"createCertificate", "", `{"common_name":"a.example","sans":null,"issuer_id":"iss-local","environment":"imported","status":"Active","serial_number":"0a"}`},
		{"updateTarget", "", `{"id":"tgt-1","name":"web"}`},
		{"updateCertificate", "", `{"id":"mc-1","environment":"production"}`},
		{"updateProfile", "", `{"id":"prof-1","max_ttl_seconds":3600}`},
		{"updatePolicy", "", `{"id":"pr-1","config":{"anything":[1]},"enabled":true}`},
		{"updateTeam", "", `{"id":"t-1","name":"x","description":null}`},
		{"updateOwner", "", `{"id":"o-1","email":"a@example.com"}`},
		{"createIssuer", "", `{"name":"x","type":"GenericCA"}`},
		{"createProfile", "", `{"name":"x","allowed_ekus":null}`},
		{"rejectJob", "", ``},
		{"approveJob", "", `{}`},
	} {
		if err := v.Check(c.operation, request("POST", "/x?"+c.query, "x-1"), []byte(c.body)); err != nil {
			t.Errorf("%s %s %s: %v", c.operation, c.query, c.body, err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	v := compiled(b, string(openapi.Document))
	b.Run("get one", func(b *testing.B) {
		r := request("GET", "/api/v1/certificates/mc-1", "mc-1")
		b.ReportAllocs()
		for b.Loop() {
			if err := v.Check("getCertificate", r, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("list", func(b *testing.B) {
		r := request("GET", "/api/v1/certificates?per_page=50&sort=-notAfter&status=Active&cursor=abcdefghijklmnopqrstuvwxyz", "")
		b.ReportAllocs()
		for b.Loop() {
			if err := v.Check("listCertificates", r, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("create", func(b *testing.B) {
		r := request("POST", "/api/v1/certificates", "")
		body := []byte(`{"common_name":"www.example.com","sans":["www.example.com","example.com"],"environment":"production","issuer_id":"iss-local"}`)
		b.ReportAllocs()
		for b.Loop() {
			if err := v.Check("createCertificate", r, body); err != nil {
				b.Fatal(err)
			}
		}
	})
}
